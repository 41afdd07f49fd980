"""Judge an object and its sinks: from facts to the verdicts of their conditions. Pure.

Rules:

* ``Accepted``: the object is valid, nobody has its name already, and so for every sink.
* ``ResolvedRefs``: every Secret that a sink refers to is there and usable.
* ``Programmed``: this generation runs. It is False while an older one does, or none.
* ``Delivering`` of a sink is Unknown (NoData) until a first point matches; True after a success for
  this generation while no failure is newer; else False: Failing, Behind, Rejected or Paused. While
  points wait for the first answer to this generation it is Unknown, so that no edit flaps.
* ``Delivering`` of the object is False if any sink's is, else Unknown if any is, else True. Paused
  sinks are left out unless all are paused. The other types: likewise, with all sinks.
* Every message says what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relay.control.status.conditions import (
    ConditionType,
    ConditionVerdict,
    worst,
)

Verdicts = dict[ConditionType, ConditionVerdict]

SINKS_SHOWN_MAX: Final = 3
"""Most sinks that the message of an object names."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason against something; ``message`` says what to do."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class DeliveryFacts:
    """Delivery by one sink. Times are wall clock, s.

    ``matched``: a point has matched. ``succeeded_at`` is the last success, ``programmed_at`` the
    time since which this generation runs; an earlier success is not its own. ``failed_at`` is the
    last failure, with ``failure`` in the endpoint's words; ``rejected``: it was for good.
    ``held`` is the reason why nothing is sent at all (credentials), ``behind`` why the sink is too
    slow; "" for no such thing.
    """

    matched: bool
    programmed_at: float
    succeeded_at: float | None = None
    failed_at: float | None = None
    failure: str = ""
    rejected: bool = False
    held: str = ""
    behind: str = ""


@dataclass(frozen=True, slots=True)
class SinkFacts:
    """One sink of an object.

    ``refused``: it has faults of its own. ``unresolved`` are its references' problems. ``runs``:
    this generation of it; ``runs_old``: its last good version. ``paused``: its owner's wish.
    ``delivery`` is None if nobody can tell, such as while its relay cannot be reached.
    """

    name: str
    refused: Problem | None = None
    unresolved: tuple[Problem, ...] = ()
    runs: bool = True
    runs_old: bool = False
    paused: bool = False
    delivery: DeliveryFacts | None = None


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """One object. ``refused``: it as a whole; then ``sinks`` are those of its last good version.

    ``warnings`` are shown with ``Accepted``.
    """

    sinks: tuple[SinkFacts, ...]
    refused: Problem | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectVerdicts:
    """The verdicts of an object, and of its sinks by name, in order."""

    conditions: Verdicts
    sinks: dict[str, Verdicts]


def assess(facts: ObjectFacts) -> ObjectVerdicts:
    """Judge an object and its sinks."""
    sinks = {one.name: assess_sink(one) for one in facts.sinks}
    return ObjectVerdicts(
        {
            "Accepted": _accepted(facts),
            "ResolvedRefs": _all_of("ResolvedRefs", sinks, "every reference is usable"),
            "Programmed": _programmed(facts, sinks),
            "Delivering": _delivering(facts.sinks, sinks),
        },
        sinks,
    )


def assess_sink(sink: SinkFacts) -> Verdicts:
    """Judge one sink."""
    refused = sink.refused
    accepted = ConditionVerdict("True", "Accepted")
    if refused is not None:
        accepted = ConditionVerdict("False", refused.reason, refused.message)
    resolved = ConditionVerdict("True", "ResolvedRefs")
    if sink.unresolved:
        message = "; ".join(one.message for one in sink.unresolved)
        resolved = ConditionVerdict("False", sink.unresolved[0].reason, message)
    return {
        "Accepted": accepted,
        "ResolvedRefs": resolved,
        "Programmed": _sink_programmed(sink),
        "Delivering": _sink_delivering(sink),
    }


def _sink_programmed(sink: SinkFacts) -> ConditionVerdict:
    if sink.refused is not None or not sink.runs:
        if sink.runs_old:
            message = "its last good version goes on running; see Accepted"
            return ConditionVerdict("False", "LastGoodRuns", message)
        if sink.refused is not None:
            return ConditionVerdict("False", "NotAccepted", "it does not run; see Accepted")
        return ConditionVerdict("False", "Pending", "it is being put into service")
    return ConditionVerdict("True", "Programmed")


def _sink_delivering(sink: SinkFacts) -> ConditionVerdict:
    if sink.paused:
        message = "spec.sinks[].paused is true: nothing is sent, and the queue is kept"
        return ConditionVerdict("False", "Paused", message)
    if not sink.runs and not sink.runs_old:
        return ConditionVerdict("Unknown", "NotProgrammed", "it does not run; see Programmed")
    facts = sink.delivery
    if facts is None:
        return ConditionVerdict("Unknown", "NoReport", "its relay cannot be asked now")
    if not facts.matched:
        message = "no point has matched yet: relay preview shows the series that a source selects"
        return ConditionVerdict("Unknown", "NoData", message)
    if facts.held:
        message = f"{facts.held}: nothing is sent until that changes; data is kept in the queue"
        return ConditionVerdict("False", "Failing", message)
    succeeded_at = facts.succeeded_at
    if succeeded_at is not None and succeeded_at < facts.programmed_at:
        succeeded_at = None  # with an older version
    failed_at = facts.failed_at
    if failed_at is not None and failed_at < facts.programmed_at:
        failed_at = None
    if failed_at is not None and (succeeded_at is None or failed_at > succeeded_at):
        if facts.rejected:
            message = f"{facts.failure}: the endpoint refuses this data for good, and it is lost"
            return ConditionVerdict("False", "Rejected", message)
        message = f"{facts.failure}: it is tried again; data is kept in the queue"
        return ConditionVerdict("False", "Failing", message)
    if succeeded_at is None:
        message = "points wait for the first answer to this version"
        return ConditionVerdict("Unknown", "NoAnswer", message)
    if facts.behind:
        message = f"{facts.behind}: the endpoint takes less than arrives"
        return ConditionVerdict("False", "Behind", message)
    return ConditionVerdict("True", "Delivering")


def _accepted(facts: ObjectFacts) -> ConditionVerdict:
    if facts.refused is not None:
        return ConditionVerdict("False", facts.refused.reason, facts.refused.message)
    refused = [one for one in facts.sinks if one.refused is not None]
    taken = len(facts.sinks) - len(refused)
    if refused:
        shown = [f"{one.name}: {one.refused.message}" for one in refused if one.refused]
        message = f"{taken}/{len(facts.sinks)} sinks are accepted; {_shortened(shown)}"
        return ConditionVerdict("False", "SinksNotAccepted", message)
    return ConditionVerdict("True", "Accepted", "; ".join(facts.warnings))


def _programmed(facts: ObjectFacts, sinks: dict[str, Verdicts]) -> ConditionVerdict:
    if facts.refused is not None:
        if any(one.runs or one.runs_old for one in facts.sinks):
            message = "the last good version goes on running; see Accepted"
            return ConditionVerdict("False", "LastGoodRuns", message)
        return ConditionVerdict("False", "NotAccepted", "it does not run; see Accepted")
    return _all_of("Programmed", sinks, "this version runs")


def _delivering(facts: Sequence[SinkFacts], sinks: dict[str, Verdicts]) -> ConditionVerdict:
    active = {one.name: sinks[one.name] for one in facts if not one.paused}
    if facts and not active:
        return ConditionVerdict("False", "Paused", "every sink is paused")
    return _all_of("Delivering", active, "every sink delivers")


def _all_of(name: ConditionType, sinks: dict[str, Verdicts], good: str) -> ConditionVerdict:
    """Return the worst of all sinks; its reason is that of the first sink that is so."""
    if not sinks:
        return ConditionVerdict("Unknown", "NoSinks", "it has no sink that can be judged")
    status = worst(one[name].status for one in sinks.values())
    if status == "True":
        return ConditionVerdict("True", name, good)
    those = {sink: one[name] for sink, one in sinks.items() if one[name].status == status}
    shown = [f"{sink}: {one.message or one.reason}" for sink, one in those.items()]
    message = f"{len(those)} of {len(sinks)} sinks: {_shortened(shown)}"
    return ConditionVerdict(status, next(iter(those.values())).reason, message)


def _shortened(texts: Sequence[str]) -> str:
    more = len(texts) - SINKS_SHOWN_MAX
    return "; ".join(texts[:SINKS_SHOWN_MAX]) + (f"; and {more} more" if more > 0 else "")
