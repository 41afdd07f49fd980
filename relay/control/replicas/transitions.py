"""Derive what happened to an object from its status before and after. Pure.

As the status before comes from the server after a restart or a change of leader, nothing that has
happened is told twice. A message is the condition's, with the sink's name before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from relay.codec.signal_names import RECORD_UNITS
from relay.control.status.conditions import StatusCondition
from relay.control.status.object_status import LedgerCounts, ObjectStatus, SinkStatus

EventType = Literal["Normal", "Warning"]

_LOSSES: Final = (
    ("rejected", "Rejected", "refused by the endpoint for good"),
    ("expired", "Expired", "too old before they could be delivered"),
    ("dropped", "Dropped", "dropped: see limits and the queue of the sink"),
)


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to an object, or to one of its ``sink`` s."""

    type: EventType
    reason: str
    message: str
    sink: str = ""


def happenings(before: ObjectStatus | None, after: ObjectStatus) -> tuple[Happening, ...]:
    """Return what has happened between two statuses of an object; ``before`` None: it is new."""
    old = {one.type: one for one in before.conditions} if before is not None else {}
    new = {one.type: one for one in after.conditions}
    found = [
        *_accepted(old.get("Accepted"), new.get("Accepted")),
        *_resolved(old.get("ResolvedRefs"), new.get("ResolvedRefs")),
        *_programmed(old.get("Programmed"), new.get("Programmed")),
    ]
    sinks = {sink.name: sink for sink in before.sinks} if before is not None else {}
    for sink in after.sinks:
        known = sinks.get(sink.name)
        if known is None:
            known = SinkStatus(sink.name, ())
        found += _delivering(known, sink)
        found += _losses(known, sink)
    return tuple(found)


def _changed(old: StatusCondition | None, new: StatusCondition) -> bool:
    return old is None or (old.status, old.reason) != (new.status, new.reason)


def _edited(old: StatusCondition | None, new: StatusCondition) -> bool:
    return old is not None and old.observed_generation < new.observed_generation


def _accepted(old: StatusCondition | None, new: StatusCondition | None) -> Iterator[Happening]:
    if new is None:
        return
    if new.status == "True" and (old is None or old.status != "True"):
        yield Happening("Normal", "Accepted", new.message or "the object is valid")
    elif new.status == "False" and (_changed(old, new) or _edited(old, new)):
        yield Happening("Warning", new.reason, new.message)


def _resolved(old: StatusCondition | None, new: StatusCondition | None) -> Iterator[Happening]:
    if new is None:
        return
    if new.status == "True" and old is not None and old.status == "False":
        yield Happening("Normal", "ResolvedRefs", new.message or "every reference is usable")
    elif new.status == "False" and _changed(old, new):
        yield Happening("Warning", new.reason, new.message)


def _programmed(old: StatusCondition | None, new: StatusCondition | None) -> Iterator[Happening]:
    """Yield that a version runs; reasons against it are told by ``Accepted``."""
    if new is None or new.status != "True":
        return
    if old is None or old.status != "True" or _edited(old, new):
        yield Happening("Normal", "Programmed", f"generation {new.observed_generation} runs")


def _delivering(before: SinkStatus, after: SinkStatus) -> Iterator[Happening]:
    old = next((one for one in before.conditions if one.type == "Delivering"), None)
    new = next((one for one in after.conditions if one.type == "Delivering"), None)
    if new is None or not _changed(old, new):
        return
    name = after.name
    if new.status == "False":
        kind: EventType = "Normal" if new.reason == "Paused" else "Warning"
        yield Happening(kind, new.reason, f"{name}: {new.message}", name)
    elif new.status == "True":
        if before.last_success is None or old is None:
            yield Happening("Normal", "Delivering", f"{name}: data is delivered", name)
        elif old.reason == "Paused":
            yield Happening("Normal", "Resumed", f"{name}: it delivers again", name)
        elif _was_failing(before, old):
            yield Happening("Normal", "Recovered", f"{name}: it delivers again", name)
        elif old.reason == "NoData" or before.last_success >= old.since:
            # Times are newer than conditions: the success was seen before its condition was.
            yield Happening("Normal", "Delivering", f"{name}: data is delivered", name)


def _was_failing(before: SinkStatus, old: StatusCondition) -> bool:
    """Return whether it failed last, also where an edit has come between."""
    if old.status == "False":
        return True
    failed_at, succeeded_at = before.last_error_at, before.last_success
    return failed_at is not None and succeeded_at is not None and failed_at > succeeded_at


def _losses(before: SinkStatus, after: SinkStatus) -> Iterator[Happening]:
    yield from _lost(before.ledger, after.ledger, after.name, "Points", "points")
    known = {one.signal: one.ledger for one in before.signals}
    for one in after.signals:
        unit = RECORD_UNITS.get(one.signal)  # the losses of metrics are told above
        if unit is not None:
            yield from _lost(known.get(one.signal), one.ledger, after.name, "Records", unit)


def _lost(
    before: LedgerCounts | None, after: LedgerCounts | None, sink: str, reason: str, unit: str
) -> Iterator[Happening]:
    if after is None:
        return
    for field, how, words in _LOSSES:
        was = getattr(before, field) if before is not None else 0
        now = getattr(after, field)
        if now > was:
            yield Happening("Warning", f"{reason}{how}", f"{sink}: {now} {unit} {words}", sink)
