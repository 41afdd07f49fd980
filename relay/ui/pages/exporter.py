"""The page of one exporter, and what can be done to it without writing it anew."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.metadata import FILE_ANNOTATION
from relay.runtime.event_loop import run_in_thread
from relay.ui.api_calls import ApiProblemError, exporter_path, object_path
from relay.ui.authoring.manifest_text import is_large, manifest_text, short_manifest
from relay.ui.authoring.path_words import in_words
from relay.ui.live import Part
from relay.ui.summaries import kind_of
from relay.ui.views.exporter_details import (
    ExporterDetails,
    SinkView,
    chart_of,
    details_of,
    events_of,
    kubectl_command,
    pause_patch,
)
from relay.ui.views.history import histories_of
from relay.ui.visit import PageProblemError, Route, Visit

_TEMPLATE: Final = "exporter.html"
JSON_PATCH: Final = "application/json-patch+json"
_POLICY: Final = "ExportPolicy"
_COMMANDS_MAX: Final = 5


async def show_exporter(visit: Visit) -> web.StreamResponse:
    """Show an Exporter, or an ExportPolicy, which is written elsewhere."""
    values = await _values(visit, _path(visit))
    value, node = values.pop("value"), _node_of(values["details"])
    # As text it may have a hundred kilobytes: it is written, and rendered, beside the event loop.
    page = partial(_page, visit, values, value, node)
    return await run_in_thread(page) if is_large(value) else page()


def _page(
    visit: Visit, values: dict[str, Any], value: JsonObject, node: Mapping[str, Any]
) -> web.Response:
    text = manifest_text(short_manifest(value, node))
    return visit.page(_TEMPLATE, {**values, "text": text})


@dataclass(frozen=True, slots=True)
class _Tick:
    """Moving parts as of one tick; ``edited`` says that the page is of before."""

    generation: int
    edited: Part
    parts: list[Part]


async def exporter_parts(visit: Visit) -> AsyncGenerator[list[Part], None]:
    """Yield the parts of the page that move, at each tick; a hint where it was edited."""
    place = {name: visit.text(name) for name in ("group", "namespace", "name") if visit.text(name)}
    there = visit.at(place)
    key = (visit.project, _path(there))
    generation: int | None = None
    async for tick in visit.shared.live.ticks(visit.project):
        try:
            # Every role may read it, and the parts are the same for all.
            found = await visit.shared.ticks.get(key, tick, partial(_tick, there))
        except ApiProblemError as problem:
            if problem.code != 404:
                raise
            yield [Part("gone", there.fragment(_TEMPLATE, "gone", {"is_gone": True}))]
            return
        is_edited = generation not in (None, found.generation)
        generation = found.generation
        yield [found.edited, *found.parts] if is_edited else found.parts


async def _tick(there: Visit) -> _Tick:
    values = await _values(there, _path(there))
    details: ExporterDetails = values["details"]
    parts = [
        Part("head-state", there.fragment(_TEMPLATE, "head_state", values)),
        Part("sources", there.fragment(_TEMPLATE, "sources", values)),
        Part("conditions", there.fragment(_TEMPLATE, "conditions", values)),
        Part("events", there.fragment(_TEMPLATE, "events", values)),
    ]
    turns = there.shared.objects.turns
    for sink in details.sinks:
        await turns.turn(there.project, in_background=True)
        own = {**values, "sink": sink}
        parts.append(Part(f"state-{sink.index}", there.text_of("sink_state.html", own)))
        for output in sink.outputs:
            its = {**own, "output": output, "chart": values["charts"][output.name]}
            for word in ("facts", "chart"):
                ident = f"{word}-{sink.index}{output.suffix}"
                parts.append(Part(ident, there.text_of(f"sink_{word}.html", its)))
    edited = there.fragment(_TEMPLATE, "edited", {**values, "is_new": True})
    return _Tick(details.generation, Part("edited", edited), parts)


async def _values(visit: Visit, path: str) -> dict[str, Any]:
    value = await visit.api.get(path)
    metadata = value["metadata"]
    value = {**value, "status": in_words_everywhere(value.get("status"), value)}
    file = metadata.get("annotations", {}).get(FILE_ANNOTATION, "")
    details = details_of(value, file)
    events = await visit.api.get(
        object_path("/api/v1", details.namespace, "events"),
        fieldSelector=f"involvedObject.name={details.name}",
    )
    histories = histories_of(await visit.api.get(f"{path}/history"))
    return {
        "details": details,
        "events": [
            replace(one, message=in_words(one.message, value))
            for one in events_of(events, metadata.get("uid", ""))
        ],
        "charts": {
            output.name: chart_of(histories.get(output.name))
            for sink in details.sinks
            for output in sink.outputs
        },
        "lost_in_day": {name: one.lost_in_day for name, one in histories.items()},
        "oldest": {name: one.oldest_point_age_seconds for name, one in histories.items()},
        "value": value,
        "commands": list(commands_of(details, may_edit=visit.may_edit)),
        "may_change": visit.may_edit and not file and details.kind != _POLICY,
        "live": visit.url(
            "live",
            view="exporter",
            group=details.group if details.kind == _POLICY else "",
            namespace=details.namespace,
            name=details.name,
        ),
    }


def in_words_everywhere(status: Any, value: Mapping[str, Any]) -> Any:
    """Return a status whose messages have the form's words for paths."""
    if isinstance(status, list):
        return [in_words_everywhere(one, value) for one in status]
    if not isinstance(status, dict):
        return status
    return {
        name: in_words(own, value)
        if name == "message" and isinstance(own, str)
        else in_words_everywhere(own, value)
        for name, own in status.items()
    }


def _node_of(details: ExporterDetails) -> Mapping[str, Any]:
    kind = kind_of(details.kind, details.group)
    return {} if kind is None else kind.node


def _path(visit: Visit) -> str:
    """Return the path of the object that a page's address names."""
    namespace, name = visit.arguments.get("namespace", ""), visit.arguments.get("name", "")
    group = visit.arguments.get("group", "")
    if not group:
        return exporter_path(namespace, name)
    kind = kind_of(_POLICY, group)
    if kind is None:
        raise PageProblemError(404, "There is no such kind of exporter.")
    return object_path(kind.path, namespace, kind.plural, name)


async def pause_sink(visit: Visit) -> web.StreamResponse:
    """Pause a sink; its queue is kept."""
    return await _set_paused(visit, paused=True)


async def resume_sink(visit: Visit) -> web.StreamResponse:
    """Send from a paused sink again."""
    return await _set_paused(visit, paused=False)


async def _set_paused(visit: Visit, *, paused: bool) -> web.StreamResponse:
    namespace, name = visit.arguments["namespace"], visit.arguments["name"]
    path = exporter_path(namespace, name)
    sink = find_sink(details_of(await visit.api.get(path)), visit.arguments["sink"])
    patch = pause_patch(sink.index, sink.name, paused=paused)
    await visit.api.call("PATCH", path, {}, patch, JSON_PATCH)
    return visit.leads_to(f"{visit.url('exporters', namespace, name)}#sink-{sink.index}")


def find_output(sink: SinkView, signal: str) -> str:
    """Return the name of what a sink sends of a signal, "" for the first one."""
    for output in sink.outputs:
        if signal in ("", output.signal):
            return output.name
    raise PageProblemError(404, f'The sink "{sink.name}" sends no {signal[:20]}.')


def find_sink(details: ExporterDetails, name: str) -> SinkView:
    """Return a sink by its name; raise PageProblemError."""
    for sink in details.sinks:
        if sink.name == name:
            return sink
    raise PageProblemError(404, f'The exporter has no sink "{name}".')


def commands_of(details: ExporterDetails, *, may_edit: bool) -> Iterator[tuple[str, str]]:
    """Yield the commands of kubectl that do what the page does, as far as they would be allowed."""
    resource = "exporter" if details.kind != _POLICY else f"exportpolicies.{details.group}"
    # The API refuses every change of an object of a file.
    may_change = may_edit and not details.file
    given = {"Show it": ("describe", resource, details.name)}
    if may_change:
        given["Edit it"] = ("edit", resource, details.name)
    waits = ("wait", f"{resource}/{details.name}", "--for=condition=Delivering")
    given["Wait until it delivers"] = waits
    for word, command in given.items():
        yield word, kubectl_command(*command, namespace=details.namespace)
    if may_change:
        yield from pause_commands(details)


def pause_commands(details: ExporterDetails) -> Iterator[tuple[str, str]]:
    """Yield the commands that pause, or resume, the first sinks of an Exporter."""
    if details.kind == _POLICY:
        return
    for sink in details.sinks[:_COMMANDS_MAX]:
        patch = msgspec.json.encode(pause_patch(sink.index, sink.name, paused=not sink.paused))
        given = ("patch", "exporter", details.name, "--type=json", "-p", patch.decode())
        word = "Resume" if sink.paused else "Pause"
        yield f"{word} {sink.name}", kubectl_command(*given, namespace=details.namespace)


async def ask_to_delete(visit: Visit) -> web.StreamResponse:
    """Show what a deletion means, and ask for it."""
    namespace, name = visit.arguments["namespace"], visit.arguments["name"]
    value = await visit.api.get(exporter_path(namespace, name))
    details = details_of(value)
    waiting = details.waiting
    command = kubectl_command("delete", "exporter", name, namespace=namespace)
    values = {
        "details": details,
        "waiting": waiting,
        "uid": value["metadata"].get("uid", ""),
        "command": command,
    }
    return visit.page("delete.html", values)


async def delete_exporter(visit: Visit) -> web.StreamResponse:
    """Delete an Exporter, if it is still the one that was shown."""
    namespace, name = visit.arguments["namespace"], visit.arguments["name"]
    form = await visit.form()
    options = {"preconditions": {"uid": form["uid"]}} if form.get("uid") else {}
    await visit.api.delete(exporter_path(namespace, name), options)
    return visit.leads_to(visit.url("exporters"))


_ONE: Final = "exporters/{namespace}/{name}"
ROUTES: Final = (
    Route("GET", "policies/{group}/{namespace}/{name}", show_exporter),
    Route("POST", f"{_ONE}/sinks/{{sink}}/pause", pause_sink),
    Route("POST", f"{_ONE}/sinks/{{sink}}/resume", resume_sink),
    Route("GET", f"{_ONE}/delete", ask_to_delete),
    Route("POST", f"{_ONE}/delete", delete_exporter),
    Route("GET", _ONE, show_exporter),
)
