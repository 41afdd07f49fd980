"""An Exporter that is being written: as a form, as YAML, each following the other. Pure.

* The fields of a form are named by the path of their value in the object, in the API's words, so
  that a fault of the API finds its field.
* What the form has no control for stays as it is in the object.
* The text counts if it is not the one that was shown last, the form otherwise.
* Credentials are beside the object: they go into Secrets and are in no text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from relay.apiserver.objects.field_checks import OBJECT_VALUES_MAX, read_json, shape_of
from relay.ui.api_calls import FieldProblem
from relay.ui.authoring.controls import (
    all_controls,
    credential_row,
    exporter_kind,
    is_by_resources,
    list_of,
    signal_of,
    sink_kind,
    sink_kind_of,
)
from relay.ui.authoring.manifest_text import (
    ManifestTextError,
    in_order,
    manifest_text,
    read_manifest_text,
    short_manifest,
)
from relay.ui.authoring.signals import Control, signal_row

Step = str | int
_STEP: Final = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_CREDENTIAL: Final = re.compile(r"credential\[(\d+)\]\.([A-Za-z]+)")
_DECIMAL: Final = re.compile(r"(0|[1-9]\d{0,8})(\.\d{1,12})?")
_COMMAS: Final = re.compile(r"[,\n]")
_LINE_ENDS: Final = re.compile(r"\r\n?")
ITEMS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft; ``version`` is the sign of the stored text that it is based on, "" of a new one.

    The object's ``resourceVersion`` will not do: it changes with every condition of its status.

    ``problems`` are those of a text that cannot be read; then ``text`` is what was written, and
    ``value`` what was before. ``credentials`` are by sink and key of its Secret.
    """

    value: dict[str, Any]
    text: str
    version: str = ""
    problems: tuple[FieldProblem, ...] = ()
    credentials: Mapping[tuple[int, str], str] = field(default_factory=dict)
    is_text: bool = False
    """True if the text was changed."""

    @property
    def base(self) -> str:
        """The object as JSON in ASCII, for the form to send back."""
        return json.dumps(self.value, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """The sign of the text that is shown."""
        return text_digest(self.text)

    @property
    def sources(self) -> list[dict[str, Any]]:
        """Its sources."""
        return list_of(self.value, "sources")

    @property
    def sinks(self) -> list[dict[str, Any]]:
        """Its sinks."""
        return list_of(self.value, "sinks")

    @property
    def shape(self) -> list[tuple[str, object]]:
        """Signals of sources, kinds and logins of sinks: they decide which controls there are."""
        kinds = [(sink, sink_kind_of(sink).field) for sink in self.sinks]
        return [
            *((signal_of(source).field, is_by_resources(source)) for source in self.sources),
            *((kind, get(sink, f"{kind}.authentication.type")) for sink, kind in kinds),
        ]

    @property
    def name(self) -> str:
        """Its name."""
        return str(_mapping(self.value.get("metadata")).get("name", ""))

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(_mapping(self.value.get("metadata")).get("namespace") or "default")

    def with_value(self, value: dict[str, Any]) -> Draft:
        """Return the draft with another object, and its text."""
        return replace(self, value=value, text=text_of(value), problems=(), is_text=False)


def text_of(value: Mapping[str, Any]) -> str:
    """Return the text that stands for an object."""
    node = exporter_kind().node["properties"]
    first = {name: value[name] for name in ("apiVersion", "kind", "metadata") if name in value}
    if "metadata" in first:
        first["metadata"] = in_order(first["metadata"], {})
    rest = {name: in_order(own, node.get(name, {})) for name, own in value.items()}
    return manifest_text({**first, **{key: rest[key] for key in rest if key not in first}})


def text_digest(text: str) -> str:
    """Return the sign by which a text is known not to have been changed."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def empty_value(namespace: str = "default") -> dict[str, Any]:
    """Return an Exporter that takes everything and has no sink yet."""
    return {
        "apiVersion": exporter_kind().api_version,
        "kind": "Exporter",
        "metadata": {"name": "", "namespace": namespace},
        "spec": {"sources": [{"name": "all", "metrics": {"metricsql": "{}"}}], "sinks": []},
    }


def draft_of(value: Mapping[str, Any]) -> Draft:
    """Return the draft of a stored object."""
    shown = short_manifest(value, exporter_kind().node)
    text = text_of(shown)
    return Draft(shown, text, text_digest(text))


def read_base(fields: Mapping[str, str]) -> Draft:
    """Return the draft that a form was made of; what is no draft of ours is an empty one."""
    try:
        base, _ = read_json(fields.get("base", "").encode(errors="surrogatepass"))
    except ValueError:
        base = None
    value: dict[str, Any] = empty_value() if base is None or problems_of_shape(base) else base
    return Draft(value, text_of(value), fields.get("version", ""))


def problems_of_shape(value: Any) -> tuple[FieldProblem, ...]:
    """Return why a value cannot be shown as a form, () if it can.

    A form has controls for each source and sink, so that their number is limited here; and its
    object has to come back from the page as it was.
    """
    if not isinstance(value, dict):
        return (FieldProblem("", "must be an object"),)
    found = [
        FieldProblem(name, "must be an object")
        for name in ("metadata", "spec")
        if not isinstance(value.get(name), dict | None)
    ]
    for section in ("sources", "sinks"):
        items = _mapping(value.get("spec")).get(section)
        if not isinstance(items, list):
            continue
        place = f"spec.{section}"
        if len(items) > ITEMS_MAX:
            found.append(FieldProblem(place, f"must have at most {ITEMS_MAX} items"))
        found += [
            FieldProblem(f"{place}[{index}]", "must be an object")
            for index, one in enumerate(items[:ITEMS_MAX])
            if not isinstance(one, dict)
        ]
    if found:
        return tuple(found)
    size = shape_of(value)
    if size is None or size > OBJECT_VALUES_MAX:
        return (FieldProblem("", f"must have at most {OBJECT_VALUES_MAX} values"),)
    try:
        read_json(json.dumps(value).encode())
    except ValueError as error:
        return (FieldProblem("", f"holds what JSON has not: {error}"),)
    return ()


def read_draft(fields: Mapping[str, str]) -> Draft:
    """Return the draft of a form as it was sent."""
    draft = read_base(fields)
    value = draft.value
    credentials = {
        (int(found[1]), found[2]): text
        for name, text in fields.items()
        if (found := _CREDENTIAL.fullmatch(name)) and text and len(found[1]) < 4
    }
    draft = replace(draft, credentials=credentials)
    text = fields.get("text", draft.text)
    if text_digest(text) == fields.get("digest", ""):
        return draft.with_value(_with_form(value, fields))
    try:
        written = read_manifest_text(text)
    except ManifestTextError as error:
        return replace(draft, text=text, problems=error.problems, is_text=True)
    problems = problems_of_shape(written)
    if problems:
        return replace(draft, text=text, problems=problems, is_text=True)
    return replace(draft, value=written, text=text, is_text=True)


def _with_form(value: dict[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the object with the form's values in it."""
    made: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value))
    for index, source in enumerate(list_of(made, "sources")):
        _set_signal(source, fields.get(f"signal[{index}]", ""))
    for index, sink in enumerate(list_of(made, "sinks")):
        _set_kind(sink, fields.get(f"kind[{index}]", ""))
    for path, control in list(all_controls(made)):
        sent = fields.get(path)
        if sent is not None and as_sent(sent) != as_sent(shown_value(made, path, control)):
            _set(made, path, _read(control, sent))
    for name in ("name", "namespace"):
        if f"metadata.{name}" in fields:
            _set(made, f"metadata.{name}", fields[f"metadata.{name}"].strip())
    for index, sink in enumerate(list_of(made, "sinks")):
        _set_authentication(made, sink, index, fields)
        _set_sources(made, sink, index, fields)
    return made


def _set_signal(source: dict[str, Any], wanted: str) -> None:
    """Let a source be of another signal; what both signals have is kept."""
    row, before = signal_row(wanted), signal_of(source)
    if row is None or row is before:
        return
    old = _mapping(source.pop(before.field, {}))
    names = {"resourceSelectors"}
    if "metrics" not in (row.field, before.field):
        names |= {"selector", "redact"}
    kept = {name: own for name, own in old.items() if name in names}
    by_resources = "resourceSelectors" in kept
    source[row.field] = kept if by_resources else {row.selector: "", **kept}


def _set_kind(sink: dict[str, Any], wanted: str) -> None:
    """Let a sink be of another kind, with the endpoint and the authentication that it has."""
    row, before = sink_kind(wanted), sink_kind_of(sink)
    if row is None or row is before:
        return
    old = _mapping(sink.pop(before.field, {}))
    kept = {name: old[name] for name in ("endpoint", "authentication", "headers") if name in old}
    sink[row.field] = kept


def _set_authentication(
    value: dict[str, Any], sink: dict[str, Any], index: int, fields: Mapping[str, str]
) -> None:
    kind = sink_kind_of(sink).field
    place = f"spec.sinks[{index}].{kind}.authentication"
    wanted = fields.get(f"authentication[{index}]")
    if wanted is None:
        return
    row = credential_row(wanted)
    if not row.keys:
        _set(value, place, None)
        return
    before = _mapping(get(value, place))
    secret = dict(_mapping(before.get("secretRef"))) if before.get("type") == row.type else {}
    name = fields.get(f"secret[{index}]", "").strip()
    made: dict[str, Any] = {"type": row.type, "secretRef": {**secret, "name": name}}
    if row.type == "apiKey":
        made["header"] = fields.get(f"header[{index}]", "").strip()
    rest = {key: own for key, own in before.items() if key not in ("type", "secretRef", "header")}
    _set(value, place, {**made, **rest})


def _set_sources(
    value: dict[str, Any], sink: dict[str, Any], index: int, fields: Mapping[str, str]
) -> None:
    """Let a sink get the chosen sources; all of them is said by saying nothing."""
    if f"sources-of[{index}]" not in fields:
        return
    names = [str(one.get("name", "")) for one in list_of(value, "sources")]
    chosen = [
        name for number, name in enumerate(names) if fields.get(f"source-of[{index}][{number}]")
    ]
    if not chosen or chosen == names:
        sink.pop("sources", None)
    else:
        sink["sources"] = chosen


def _read(control: Control, text: str) -> Any:
    """Return the value of a control, None for none; what is no number stays text."""
    if control.kind == "long":
        return text
    text = text.strip()
    if not text:
        return None
    if control.kind == "number":
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text
    if control.kind == "decimal":
        return msgspec.json.decode(text) if _DECIMAL.fullmatch(text) else text
    if control.kind == "words":
        return [word for word in map(str.strip, _COMMAS.split(text)) if word]
    if control.kind == "lines":
        pairs = (line.partition(":") for line in text.splitlines() if line.strip())
        return {name.strip(): own.strip() for name, _, own in pairs}
    if control.kind == "actions":
        # The action comes last: names of attributes may have colons.
        turned = (line.rpartition(":") for line in text.splitlines() if line.strip())
        return [
            {
                "attribute": (name if colon else action).strip(),
                "action": action.strip() * bool(colon),
            }
            for name, colon, action in turned
        ]
    return text


def shown_value(value: Any, path: str, control: Control) -> str:
    """Return the text that a control shows of an object."""
    found = get(value, path)
    if found is None:
        return ""
    if control.kind == "lines":
        return "\n".join(f"{name}: {own}" for name, own in _mapping(found).items())
    if control.kind == "words" and _are_texts(found):
        return ", ".join(found)
    if control.kind == "actions" and _are_actions(found):
        return "\n".join(f"{one['attribute']}: {one['action']}" for one in found)
    return found if isinstance(found, str) else msgspec.json.encode(found).decode()


def as_sent(text: str) -> str:
    """Return a text as a browser sends it back, so that it can be compared.

    A page cannot hold NUL, and the line ends of a control are not those of its value.
    """
    return _LINE_ENDS.sub("\n", text.replace("\0", "\ufffd")).strip("\n")


def path_steps(path: str) -> Iterator[Step]:
    """Yield the steps of a path such as ``spec.sinks[0].name``."""
    for name, index in _STEP.findall(path):
        yield int(index) if index else name


def get(value: Any, path: str) -> Any:
    """Return the value at a path, None where there is none."""
    for step in path_steps(path):
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def _set(value: Any, path: str, own: Any) -> None:
    """Set the value at a path; None takes it away, and what is empty then."""
    *before, last = path_steps(path)
    parents = [value]
    for step in before:
        parent = parents[-1]
        if isinstance(step, int):
            if not isinstance(parent, list) or step >= len(parent):
                return
            parents.append(parent[step])
            continue
        found = parent.get(step) if isinstance(parent, dict) else None
        if not isinstance(found, dict | list):
            if own is None or not isinstance(parent, dict):
                return
            found = parent[step] = {}
        parents.append(found)
    if not isinstance(parents[-1], dict) or not isinstance(last, str):
        return
    if own is not None:
        parents[-1][last] = own
        return
    parents[-1].pop(last, None)
    for parent, step in zip(reversed(parents[:-1]), reversed(before), strict=True):
        is_empty = isinstance(parent, dict) and parent.get(step) == {}
        if not is_empty or step in ("metadata", "spec", "metrics", "logs", "traces"):
            return
        parent.pop(step)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _are_actions(value: object) -> bool:
    """Return True for a list of attributes and their actions, and nothing else."""
    return isinstance(value, list) and all(
        isinstance(one, dict)
        and one.keys() == {"attribute", "action"}
        and _are_texts(list(one.values()))
        for one in value
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
