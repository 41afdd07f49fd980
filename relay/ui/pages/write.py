"""Write an Exporter: form and YAML, checked by the server while typing, saved through the API."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from aiohttp import web

from relay.apiserver.merging.managed_fields import JsonObject
from relay.runtime.event_loop import run_in_thread
from relay.ui.api_calls import ApiProblemError, FieldProblem, exporter_path
from relay.ui.authoring.additions import TakenNames, free_name, named, with_sink
from relay.ui.authoring.backends import BACKENDS, backend_of, backend_of_url
from relay.ui.authoring.checking import Checked, check, for_update, sendable, sorted_problems
from relay.ui.authoring.controls import (
    CREDENTIALS,
    SINK_KINDS,
    all_controls,
    choices,
    credential_row,
    exporter_kind,
    help_of,
    is_by_resources,
    signal_of,
    sink_controls,
    sink_kind_of,
    source_controls,
)
from relay.ui.authoring.draft import (
    ITEMS_MAX,
    Draft,
    draft_of,
    empty_value,
    get,
    read_base,
    read_draft,
    shown_value,
    text_digest,
)
from relay.ui.authoring.manifest_text import is_large
from relay.ui.authoring.signals import SIGNALS
from relay.ui.authoring.unfinished import (
    authentication_of,
    credential_path,
    secret_of,
    unfinished,
)
from relay.ui.pages.credentials import store_credentials
from relay.ui.pages.secrets import secret_names
from relay.ui.pasting.pasted_sink import PastedSink
from relay.ui.pasting.snippet import SnippetError, read_snippet
from relay.ui.views.exporter_details import kubectl_command
from relay.ui.visit import PageProblemError, Route, Visit

_Result = TypeVar("_Result")
_TEMPLATE: Final = "write.html"
_TRIES: Final = 5
_LARGE_CHARS: Final = 16 * 1024
_LARGE_TEXT_CHARS: Final = 4 * 1024
_OFFERED_MAX: Final = 200
"""Secrets that a form offers."""
_DO: Final = re.compile(r"(remove-source|remove-sink|backend|add-source|save|paste)(?:\.([\w-]+))?")


async def show_new(visit: Visit) -> web.StreamResponse:
    """Show the form of a new Exporter."""
    if not visit.may_edit:
        raise PageProblemError(403, "Your role is viewer: an editor writes exporters.")
    draft = Draft(empty_value(), "").with_value(empty_value())
    return await _show(visit, draft, Checked())


async def show_edit(visit: Visit) -> web.StreamResponse:
    """Show the form of a stored Exporter."""
    live = await visit.api.get(_path(visit))
    if not visit.may_edit:
        raise PageProblemError(403, "Your role is viewer: an editor writes exporters.")
    draft = await _draft_of(live)
    return await _show(visit, draft, check(draft, visit.project, live, is_begun=True))


async def sent_draft(visit: Visit) -> tuple[dict[str, str], Draft]:
    """Return the fields of a form, and the draft in them; one that is large is read in a thread."""
    fields = await visit.form()
    if sum(map(len, fields.values())) <= _LARGE_CHARS:
        return fields, read_draft(fields)
    return fields, await run_in_thread(lambda: read_draft(fields))


async def change(visit: Visit) -> web.StreamResponse:
    """Do what a button of the form asks for: add, remove, take a snippet or a backend, save."""
    fields, draft = await sent_draft(visit)
    found = _DO.fullmatch(fields.get("do", "save"))
    if found is None:
        raise PageProblemError(400, "The form has no such button.")
    action, argument = found[1], found[2] or ""
    if action == "save":
        return await _save(visit, draft)
    if draft.problems:
        return await _show(visit, draft, Checked(others=draft.problems))
    notes: list[str] = []
    taken = _taken(visit, draft)
    if action == "paste":
        try:
            pasted = await run_in_thread(lambda: read_snippet(fields.get("snippet", "")))
        except SnippetError as error:
            return await _show(visit, draft, Checked(), paste_problem=str(error), fields=fields)
        draft, notes = _with_pasted(draft, pasted, taken)
    elif action == "backend":
        draft = _with_backend(draft, argument, taken)
    else:
        draft = _with_list_changed(draft, action, argument)
    return await _show(visit, draft, await _checked(visit, draft), notes=notes)


async def check_draft(visit: Visit) -> web.StreamResponse:
    """Answer with the messages of a draft, and the pane that was not edited."""
    fields, draft = await sent_draft(visit)
    checked = await _checked(visit, draft)
    return await _beside(draft, lambda: _followed(visit, fields, draft, checked))


async def _checked(visit: Visit, draft: Draft) -> Checked:
    """Return the faults of a draft while it is written, also where its object is gone."""
    try:
        live = await _live(visit)
    except ApiProblemError as problem:
        return Checked(others=(FieldProblem("", problem.message),))
    return check(draft, visit.project, live, is_begun=True)


def _followed(
    visit: Visit, fields: Mapping[str, str], draft: Draft, checked: Checked
) -> web.StreamResponse:
    values = _values(visit, draft, checked)
    values["pane"] = "text" if fields.get("pane") == "text" else "form"
    if values["pane"] == "form" and draft.shape != read_base(fields).shape:
        values["pane"] = "shape"
    if draft.is_text and not draft.problems:
        values["digest"] = text_digest(draft.text)
    elif draft.problems:
        values["digest"] = fields.get("digest", "")
    response = visit.shared.rendering.answer(visit.text_of("write_followed.html", values))
    response.headers["HX-Trigger"] = "relay-draft"
    return response


async def _draft_of(live: JsonObject) -> Draft:
    return await run_in_thread(lambda: draft_of(live)) if is_large(live) else draft_of(live)


async def _beside(draft: Draft, work: Callable[[], _Result]) -> _Result:
    """Return what work on a draft returns, in a thread if it takes long: that of twenty sinks."""
    return await run_in_thread(work) if len(draft.text) > _LARGE_TEXT_CHARS else work()


async def _save(visit: Visit, draft: Draft) -> web.StreamResponse:
    draft = named(draft)
    try:
        live = await _live(visit)
    except ApiProblemError as problem:
        if problem.code != 404:
            raise
        said = "It was deleted meanwhile: copy the YAML into a new one."
        return await _show(visit, draft, Checked(others=(FieldProblem("", said),)), is_save=True)
    checked = check(draft, visit.project, live, is_begun=False)
    missing = {} if draft.is_text else unfinished(draft, secret_names(visit, draft.namespace))
    if missing or not checked.is_good:
        checked = replace(checked, at={**checked.at, **missing})
        return await _show(visit, draft, checked, is_save=True)
    if live is not None and (await _draft_of(live)).version != draft.version:
        return await _show_conflict(visit, draft, live)
    try:
        changed = await _write(visit, draft, live)
    except ApiProblemError as problem:
        return await _show(visit, draft, _refused(draft, problem), is_save=True)
    if changed is not None:
        return await _show_conflict(visit, draft, changed)
    return visit.leads_to(visit.url("exporters", draft.namespace, draft.name))


async def _write(visit: Visit, draft: Draft, live: JsonObject | None) -> JsonObject | None:
    """Store a draft; return the stored object if somebody else was faster, None if it is done."""
    if live is None:
        path, new = exporter_path(draft.namespace), sendable(draft.value)
        await visit.api.create(path, new, dryRun="All")
        await store_credentials(visit, draft)
        await visit.api.create(path, new, fieldValidation="Strict")
        return None
    is_stored = False
    for _ in range(_TRIES):
        value = for_update(draft.value, live)
        try:
            if not is_stored:
                # What is refused must not have changed the credentials that are in use.
                await visit.api.update(_path(visit), value, dryRun="All")
                await store_credentials(visit, draft)
                is_stored = True
            await visit.api.update(_path(visit), value, fieldValidation="Strict")
        except ApiProblemError as problem:
            if problem.code != 409:
                raise
        else:
            return None
        # The relay itself may have written a status meanwhile, which is nobody's edit.
        live = await visit.api.get(_path(visit))
        if (await _draft_of(live)).version != draft.version:
            return live
    raise ApiProblemError(409, {"message": "the exporter changes all the time: try again"})


def _refused(draft: Draft, problem: ApiProblemError) -> Checked:
    if problem.reason == "AlreadyExists":
        said = f'there is an exporter "{draft.name}" already'
        return sorted_problems(draft, [FieldProblem("metadata.name", said)])
    problems = problem.problems or (FieldProblem("", problem.message),)
    return sorted_problems(draft, problems)


async def _show_conflict(visit: Visit, draft: Draft, live: JsonObject) -> web.StreamResponse:
    """Show what somebody else has stored beside the draft, which is kept."""
    theirs = await _draft_of(live)
    lines = await _beside(draft, lambda: _differences(theirs.text, draft.text))
    newest = replace(draft, version=theirs.version)
    return await _show(
        visit,
        newest,
        check(newest, visit.project, live, is_begun=True),
        conflict=lines[2:],
        is_save=True,
    )


def _differences(theirs: str, yours: str) -> list[str]:
    lines = (theirs.splitlines(), yours.splitlines())
    return list(difflib.unified_diff(*lines, "theirs", "yours", lineterm="", n=2))


def _taken(visit: Visit, draft: Draft) -> TakenNames:
    """Return the names that a new sink and a new exporter cannot have."""
    stored = visit.shared.objects.listed(
        exporter_kind().storage_key, visit.project, draft.namespace
    )
    secrets = secret_names(visit, draft.namespace)
    return TakenNames(frozenset(one.name for one in stored), frozenset(secrets))


def _with_pasted(
    draft: Draft, pasted: Iterable[PastedSink], taken: TakenNames
) -> tuple[Draft, list[str]]:
    notes: list[str] = []
    for one in pasted:
        notes += one.notes
        draft = _with_sink(draft, one.sink(), one.credential, taken)
    return draft, list(dict.fromkeys(notes))


def _with_backend(draft: Draft, key: str, taken: TakenNames) -> Draft:
    backend = backend_of(key)
    if backend is None:
        raise PageProblemError(404, "There is no such backend.")
    return _with_sink(draft, backend.sink(backend.key), {}, taken)


def _with_sink(
    draft: Draft, sink: dict[str, Any], credential: Mapping[str, str], taken: TakenNames
) -> Draft:
    if len(draft.sinks) >= ITEMS_MAX:
        raise PageProblemError(400, f"An exporter has at most {ITEMS_MAX} sinks.")
    return with_sink(draft, sink, credential, taken)


def _with_list_changed(draft: Draft, action: str, argument: str) -> Draft:
    spec = dict(draft.value.get("spec") or {})
    sources, sinks, credentials = draft.sources, draft.sinks, dict(draft.credentials)
    number = int(argument) if argument.isascii() and argument.isdigit() else -1
    if action == "add-source":
        if len(sources) >= ITEMS_MAX:
            raise PageProblemError(400, f"An exporter has at most {ITEMS_MAX} sources.")
        name = free_name("more", (str(one.get("name", "")) for one in sources))
        sources = [*sources, {"name": name, "metrics": {"metricsql": ""}}]
    elif action == "remove-source" and 0 <= number < len(sources):
        sources = sources[:number] + sources[number + 1 :]
    elif action == "remove-sink" and 0 <= number < len(sinks):
        sinks = sinks[:number] + sinks[number + 1 :]
        credentials = {
            (index - (index > number), key): text
            for (index, key), text in credentials.items()
            if index != number
        }
    spec.update(sources=sources, sinks=sinks)
    made = draft.with_value({**draft.value, "spec": spec})
    return replace(made, credentials=credentials)


async def _show(
    visit: Visit,
    draft: Draft,
    checked: Checked,
    *,
    is_save: bool = False,
    notes: list[str] | None = None,
    conflict: list[str] | None = None,
    paste_problem: str = "",
    fields: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    more = {
        "notes": notes or [],
        "conflict": conflict or [],
        "paste_problem": paste_problem,
        "snippet": (fields or {}).get("snippet", ""),
        "is_save": is_save,
    }
    return await _beside(draft, lambda: _shown(visit, draft, checked, more))


def _shown(
    visit: Visit, draft: Draft, checked: Checked, more: Mapping[str, Any]
) -> web.StreamResponse:
    values = {**_values(visit, draft, checked), **more}
    status = 422 if values["is_save"] else 200
    if not visit.is_part:
        return visit.page(_TEMPLATE, values, status=status)
    response = visit.part(_TEMPLATE, "author", values, status=status)
    response.headers["HX-Trigger-After-Swap"] = "relay-draft"
    return response


def _values(visit: Visit, draft: Draft, checked: Checked) -> dict[str, Any]:
    is_new = "name" not in visit.arguments
    secrets = secret_names(visit, draft.namespace)
    action = visit.url("exporters", "new") if is_new else visit.url(*_place(visit), "edit")
    return {
        "draft": draft,
        "checked": checked,
        "digest": draft.digest,
        "is_new": is_new,
        "action": action,
        "sources": [_source_view(draft, index) for index in range(len(draft.sources))],
        "sinks": [_sink_view(draft, index, secrets) for index in range(len(draft.sinks))],
        "secrets": sorted(secrets)[:_OFFERED_MAX],
        "labels": _labels(draft),
        "cards": [one for one in BACKENDS if one.is_card],
        "sink_kinds": SINK_KINDS,
        "signals": SIGNALS,
        "ways": CREDENTIALS,
        "command": kubectl_command("apply", "-f", "exporter.yaml"),
        "cancel": visit.url("exporters") if is_new else visit.url(*_place(visit)),
    }


def _labels(draft: Draft) -> dict[str, str]:
    """Return the words for the controls of the form, by their paths."""
    found = {"metadata.name": "Name", "metadata.namespace": "Namespace"}
    found |= {path: control.label for path, control in all_controls(draft.value)}
    for index in range(len(draft.sinks)):
        found[f"spec.sinks[{index}].authentication"] = "Authentication"
        found |= {credential_path(index, key): label for key, label, _ in _keys(draft, index)}
    return {path: f"{label}{_whose(draft, path)}" for path, label in found.items()}


def _whose(draft: Draft, path: str) -> str:
    """Return the source or sink of a control in words, "" where there is only one."""
    for section, word, items in (
        ("spec.sources", "source", draft.sources),
        ("spec.sinks", "destination", draft.sinks),
        ("credential", "destination", draft.sinks),
    ):
        start = f"{section}["
        if path.startswith(start) and len(items) > 1:
            return f" of {word} {int(path.removeprefix(start).partition(']')[0]) + 1}"
    return ""


def _source_view(draft: Draft, index: int) -> dict[str, Any]:
    source = draft.sources[index]
    base = f"spec.sources[{index}]"
    return {
        "index": index,
        "name": str(source.get("name", "")),
        "signal": signal_of(source).field,
        "is_by_resources": is_by_resources(source),
        "controls": [
            _control_view(draft, base, "sources", control) for control in source_controls(source)
        ],
    }


def _sink_view(draft: Draft, index: int, secrets: set[str]) -> dict[str, Any]:
    sink = draft.sinks[index]
    base = f"spec.sinks[{index}]"
    kind = sink_kind_of(sink)
    url = str(get(sink, f"{kind.field}.endpoint") or "")
    backend = backend_of_url(url)
    row = credential_row(authentication_of(sink))
    reference = secret_of(sink)
    name = str(reference.get("name", ""))
    wanted = sink.get("sources")
    return {
        "index": index,
        "name": str(sink.get("name", "")),
        "kind": kind.field,
        "backend": backend,
        "controls": [
            _control_view(draft, base, "sinks", control) for control in sink_controls(sink)
        ],
        "way": row.type,
        "header": str(get(sink, f"{kind.field}.authentication.header") or ""),
        "secret": name,
        "is_known": backend is not None and row.type == backend.authentication,
        "is_stored": name in secrets,
        "keys": _keys(draft, index),
        "chosen": wanted if isinstance(wanted, list) else None,
    }


def _keys(draft: Draft, index: int) -> list[tuple[str, str, str]]:
    """Return keys of a sink's Secret, their labels, and what was entered."""
    sink = draft.sinks[index]
    backend = backend_of_url(str(get(sink, f"{sink_kind_of(sink).field}.endpoint") or ""))
    labels = backend.credential_labels if backend is not None else {}
    return [
        (key, labels.get(key, label), draft.credentials.get((index, key), ""))
        for key, label in credential_row(authentication_of(sink)).keys
    ]


def _control_view(draft: Draft, base: str, section: Any, control: Any) -> dict[str, Any]:
    path = f"{base}.{control.path}"
    return {
        "path": path,
        "id": re.sub(r"\W", "-", path),
        "control": control,
        "value": shown_value(draft.value, path, control),
        "help": help_of(section, control),
        "choices": choices(section, control) if control.kind == "select" else (),
    }


def _place(visit: Visit) -> tuple[str, str, str]:
    return ("exporters", visit.arguments["namespace"], visit.arguments["name"])


def _path(visit: Visit) -> str:
    return exporter_path(visit.arguments["namespace"], visit.arguments["name"])


async def _live(visit: Visit) -> JsonObject | None:
    """Return the stored object that is edited, None for a new one; raise ApiProblemError."""
    return await visit.api.get(_path(visit)) if "name" in visit.arguments else None


ROUTES: Final = (
    Route("GET", "exporters/new", show_new),
    Route("POST", "exporters/new", change),
    Route("POST", "exporters/new/check", check_draft),
    Route("GET", "exporters/{namespace}/{name}/edit", show_edit),
    Route("POST", "exporters/{namespace}/{name}/edit", change),
    Route("POST", "exporters/{namespace}/{name}/edit/check", check_draft),
)
