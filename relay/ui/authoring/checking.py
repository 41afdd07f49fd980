"""Check a draft as the API would check it on a write, without a write. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import ApiRefusalError
from relay.apiserver.objects.writes import (
    ObjectPlace,
    Stamp,
    WriteOptions,
    WriteRequest,
    create,
    update,
)
from relay.ui.api_calls import FIELD_MANAGER, FieldProblem
from relay.ui.authoring.controls import all_controls, exporter_kind
from relay.ui.authoring.draft import Draft

_STAMP: Final = Stamp("2000-01-01T00:00:00Z", "00000000-0000-0000-0000-000000000000", "")
_OPTIONS: Final = WriteOptions(FIELD_MANAGER, field_validation="Strict")
_MISSING: Final = "Required value"
_OFFSET: Final = re.compile(r" at offset (\d{1,9})(?=$|;)")
_PREFIXES: Final = ("Invalid value: ", "Required value: ", "Unsupported value: ", "Forbidden: ")


@dataclass(frozen=True, slots=True)
class Checked:
    """The faults of a draft: ``at`` those of fields that the form has, ``others`` the rest."""

    at: dict[str, str] = field(default_factory=dict)
    others: tuple[FieldProblem, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """True if it may be stored."""
        return not self.at and not self.others


def check(draft: Draft, project: str, live: JsonObject | None, *, is_begun: bool) -> Checked:
    """Return the faults of a draft; ``live`` is the stored object, None of a new one.

    ``is_begun``: what is only missing is no fault yet.
    """
    if draft.problems:
        return Checked(others=draft.problems)
    request = WriteRequest(
        exporter_kind(), ObjectPlace(project, draft.namespace, draft.name), _OPTIONS, _STAMP
    )
    try:
        if live is None:
            result = create(request, sendable(draft.value))
        else:
            result = update(request, live, for_update(draft.value, live))
    except ApiRefusalError as refusal:
        return sorted_problems(draft, problems_of(refusal), is_begun=is_begun)
    return Checked(warnings=tuple(result.warnings))


def problems_of(refusal: ApiRefusalError) -> tuple[FieldProblem, ...]:
    """Return the faults that a refusal names; the whole message where it names none."""
    causes = (refusal.details or {}).get("causes", ())
    found = tuple(FieldProblem(one.get("field", ""), one.get("message", "")) for one in causes)
    return found or (FieldProblem("", refusal.message),)


def sorted_problems(
    draft: Draft, problems: Iterable[FieldProblem], *, is_begun: bool = False
) -> Checked:
    """Return faults at the controls of the form, and the others."""
    paths = [
        "metadata.name",
        "metadata.namespace",
        *(path for path, _ in all_controls(draft.value)),
    ]
    paths += [f"spec.sinks[{index}].authentication" for index in range(len(draft.sinks))]
    at: dict[str, str] = {}
    others = []
    for problem in problems:
        if is_begun and problem.message.startswith(_MISSING):
            continue
        place = _control_of(problem.field, paths)
        message = plain(problem.message)
        if not place:
            others.append(FieldProblem(problem.field, message))
        elif place in at:
            at[place] = f"{at[place]}; {message}"
        else:
            at[place] = message
    return Checked(at, tuple(others))


def _control_of(field_path: str, paths: Sequence[str]) -> str:
    """Return the control for a fault: that of the field, or of the credentials it belongs to."""
    if field_path in paths:
        return field_path
    for path in sorted(paths, key=len, reverse=True):
        if field_path.startswith((f"{path}.", f"{path}[")):
            return path
    sink, _, rest = field_path.partition("].")
    kind, _, inner = rest.partition(".")
    del kind
    if sink.startswith("spec.sinks[") and inner.startswith("authentication"):
        return f"{sink}].authentication"
    return ""


def plain(message: str) -> str:
    """Return a message without the words that kube-apiserver puts before it.

    Offsets become places as people count them.
    """
    for prefix in _PREFIXES:
        message = message.removeprefix(prefix)
    message = _OFFSET.sub(lambda found: f" (character {int(found[1]) + 1})", message)
    return "is required" if message == _MISSING else message


def sendable(value: dict[str, Any]) -> dict[str, Any]:
    """Return a draft's object for a new one."""
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        return value
    kept = {name: own for name, own in metadata.items() if name != "resourceVersion"}
    return {**value, "metadata": kept}


def for_update(value: dict[str, Any], live: JsonObject) -> dict[str, Any]:
    """Return a draft's object for an update: what the server set stays as it is."""
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        return value
    stored = live["metadata"]
    kept = {name: own for name, own in stored.items() if name not in ("labels", "annotations")}
    hidden = {
        name: own
        for name, own in (stored.get("annotations") or {}).items()
        if name.startswith(("kubectl.kubernetes.io/", "relay."))
    }
    given = metadata.get("annotations") or {}
    annotations = {**hidden, **given} if isinstance(given, dict) else given  # the API says why not
    merged = {**kept, **{name: own for name, own in metadata.items() if name != "annotations"}}
    if annotations:
        merged["annotations"] = annotations
    return {**value, "metadata": merged}
