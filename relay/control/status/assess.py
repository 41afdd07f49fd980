"""Judge an object and its sinks: from facts to the verdicts of their conditions. Pure.

Rules:

* ``Accepted``: the object is valid, nobody has its name already, and so for every sink.
* ``ResolvedRefs``: every Secret that a sink refers to is there and usable.
* ``Programmed``: this generation runs. It is False while an older one does, or none.
* ``Delivering`` of a sink is Unknown (NoData) until a first point matches this generation; True
  after a success for it while no failure is newer; else False: Failing, Behind, Rejected or Paused.
  While points wait for the first answer to this generation it is Unknown, so that no edit flaps.
* A failure that the next attempt makes good is no transition: once there was a success, failures
  count after :data:`~relay.control.status.facts.SETTLE_S`.
* ``Delivering`` of the object is False if any sink's is, else Unknown if any is, else True. Paused
  sinks are left out unless all are paused. The other types: likewise, with all sinks.
* Every message says what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from relay.control.status.conditions import ConditionType, ConditionVerdict, listed, worst
from relay.sink.steps import FailureKind

Verdicts = dict[str, ConditionVerdict]
"""By type: all of :data:`~relay.control.status.conditions.TYPES`, and others' own."""

SINKS_SHOWN_MAX: Final = 3
"""Most sinks that the message of an object names."""
NO_DATA: Final = (
    "nothing has matched yet: check the selectors of its sources; relay preview shows what they "
    "match now"
)
_STARTS: Final = "it is being put into service"
_KEPT: Final = "it is tried again, and data is kept in the queue"


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason against something; ``message`` says what to do."""

    reason: str
    message: str


class DeliveryFacts(NamedTuple):
    """Delivery by one sink since the present generation runs.

    ``matched``: a point has matched; ``waits``: points wait to be sent; ``succeeded``: an answer
    has accepted data. ``failure`` is the last failure in the endpoint's words, of this ``kind``, ""
    where a success was newer; ``loss`` one within the last minutes that cost a part of the data.
    ``behind`` is why the sink is too slow, or "". ``unsettled``: time alone may change these facts.
    ``address`` is that of its logs or traces, "" for the sink's own.
    """

    matched: bool
    waits: bool = False
    succeeded: bool = False
    failure: str = ""
    kind: FailureKind = "retried"
    loss: str = ""
    behind: str = ""
    unsettled: bool = False
    address: str = ""


@dataclass(frozen=True, slots=True)
class SinkFacts:
    """One sink of an object.

    ``refused``: it has faults of its own. ``unresolved`` are its references' problems. ``runs``:
    this generation of it; ``runs_old``: its last good version. ``paused``: its owner's wish.
    ``delivery`` is None if nobody can tell, such as while its relay cannot be reached. ``address``
    is its endpoint's, ``credentials`` name the Secret and keys that it uses; "" for none.
    """

    name: str
    refused: Problem | None = None
    unresolved: tuple[Problem, ...] = ()
    runs: bool = True
    runs_old: bool = False
    paused: bool = False
    delivery: DeliveryFacts | None = None
    address: str = ""
    credentials: str = ""


class ObjectFacts(msgspec.Struct, frozen=True):
    """One object. ``refused``: it as a whole; then ``sinks`` are those of its last good version.

    ``unresolved``: it is good, and does not run for want of what it refers to; ``sinks`` likewise.
    ``warnings`` are shown with ``Accepted``.
    """

    sinks: tuple[SinkFacts, ...]
    refused: Problem | None = None
    unresolved: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


class ObjectVerdicts(msgspec.Struct, frozen=True):
    """The verdicts of an object, and of its sinks by name, in order."""

    conditions: Verdicts
    sinks: dict[str, Verdicts]


def assess(facts: ObjectFacts) -> ObjectVerdicts:
    """Judge an object and its sinks."""
    return assess_object(facts, {one.name: assess_sink(one) for one in facts.sinks})


def assess_object(facts: ObjectFacts, sinks: dict[str, Verdicts]) -> ObjectVerdicts:
    """Judge an object whose sinks have these verdicts."""
    return ObjectVerdicts(
        {
            "Accepted": _accepted(facts),
            "ResolvedRefs": _resolved(facts, sinks),
            "Programmed": _programmed(facts, sinks),
            "Delivering": _delivering(facts, sinks),
        },
        sinks,
    )


def assess_sink(sink: SinkFacts) -> Verdicts:
    """Judge one sink."""
    refused = sink.refused
    accepted = ConditionVerdict("True", "Accepted")
    if refused is not None:
        accepted = ConditionVerdict("False", refused.reason, refused.message)
    return {
        "Accepted": accepted,
        "ResolvedRefs": _unresolved(sink.unresolved) or ConditionVerdict("True", "ResolvedRefs"),
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
        return ConditionVerdict("False", "Pending", _STARTS)
    return ConditionVerdict("True", "Programmed")


def _sink_delivering(sink: SinkFacts) -> ConditionVerdict:
    if sink.paused:
        message = (
            "spec.sinks[].paused is true: nothing is sent, and the queue is kept; set it to false "
            "to go on"
        )
        return ConditionVerdict("False", "Paused", message)
    if not sink.runs and not sink.runs_old:
        message = f"it does not run: {sink.refused.message}" if sink.refused else _STARTS
        return ConditionVerdict("Unknown", "NotProgrammed", message)
    facts = sink.delivery
    if facts is None:
        return ConditionVerdict("Unknown", "NoReport", "its relay cannot be asked now")
    if not facts.matched and not facts.waits and not facts.succeeded and not facts.failure:
        return ConditionVerdict("Unknown", "NoData", facts.loss or NO_DATA)
    if facts.failure:
        reason = "Rejected" if facts.kind == "rejected" else "Failing"
        return ConditionVerdict("False", reason, _failing(sink, facts))
    if not facts.succeeded:
        message = "data waits for the first answer to this version"
        return ConditionVerdict("Unknown", "NoAnswer", message)
    if facts.behind:
        message = f"{facts.behind}: the endpoint takes less than arrives; raise its limits, or"
        return ConditionVerdict("False", "Behind", f"{message} concurrency, or select less")
    loss = f"a part of the data was lost: {facts.loss}" if facts.loss else ""
    return ConditionVerdict("True", "Delivering", loss)


def _failing(sink: SinkFacts, facts: DeliveryFacts) -> str:
    """Return the message for a failure: the endpoint's words, and what to do."""
    match facts.kind:
        case "unauthorized":
            does = "it has no authentication: add one with the Secret that the endpoint wants"
            if sink.credentials:
                does = f"check {sink.credentials}"
            return f"{facts.failure}: {does}; nothing is sent until then, and data is kept"
        case "unreachable":
            address = facts.address or sink.address
            where = f"check the address {address}, and that it answers there; "
            return f"{facts.failure}: {where if address else ''}{_KEPT}"
        case "forbidden":
            does = "use an endpoint with a public address, or ask the operator to allow this one"
            return f"{facts.failure}: {does}; {_KEPT}"
        case "rejected":
            lost = "the endpoint refuses this data for good, and it is lost"
            address = facts.address or sink.address
            where = f"the address {address}, " if address else ""
            return f"{facts.failure}: {lost}; check {where}what is sent, and the endpoint's limits"
        case "given up":
            does = "raise retry.maxAttempts or queue.maxAge to keep it longer"
            return f"{facts.failure}: the data was given up and is lost; {does}"
    return f"{facts.failure}: {_KEPT}"


def _unresolved(problems: Sequence[Problem]) -> ConditionVerdict | None:
    if not problems:
        return None
    message = "; ".join(one.message for one in problems)
    return ConditionVerdict("False", problems[0].reason, message)


def _resolved(facts: ObjectFacts, sinks: dict[str, Verdicts]) -> ConditionVerdict:
    if facts.refused is not None and not sinks:
        return ConditionVerdict("Unknown", "NotAccepted", "it is not looked at; see Accepted")
    return _unresolved(facts.unresolved) or _all_of(
        "ResolvedRefs", sinks, "every reference is usable"
    )


def _accepted(facts: ObjectFacts) -> ConditionVerdict:
    if facts.refused is not None:
        return ConditionVerdict("False", facts.refused.reason, facts.refused.message)
    refused = [one for one in facts.sinks if one.refused is not None]
    taken = len(facts.sinks) - len(refused)
    if refused:
        shown = [f"{one.name}: {one.refused.message}" for one in refused if one.refused]
        message = f"{taken}/{len(facts.sinks)} sinks are accepted; {listed(shown, SINKS_SHOWN_MAX)}"
        return ConditionVerdict("False", "SinksNotAccepted", message)
    return ConditionVerdict("True", "Accepted", "; ".join(facts.warnings))


def _programmed(facts: ObjectFacts, sinks: dict[str, Verdicts]) -> ConditionVerdict:
    if facts.refused is not None:
        if any(one.runs or one.runs_old for one in facts.sinks):
            message = "the last good version goes on running; see Accepted"
            return ConditionVerdict("False", "LastGoodRuns", message)
        return ConditionVerdict("False", "NotAccepted", "it does not run; see Accepted")
    if facts.unresolved and not any(one.runs for one in facts.sinks):
        if any(one.runs_old for one in facts.sinks):
            message = "the last good version goes on running; see ResolvedRefs"
            return ConditionVerdict("False", "LastGoodRuns", message)
        return ConditionVerdict("False", "NotResolved", "it does not run; see ResolvedRefs")
    return _all_of("Programmed", sinks, "this version runs")


def _delivering(facts: ObjectFacts, sinks: dict[str, Verdicts]) -> ConditionVerdict:
    if not sinks and (facts.refused is not None or facts.unresolved):
        cause = facts.refused or facts.unresolved[0]
        return ConditionVerdict("Unknown", "NotProgrammed", f"it does not run: {cause.message}")
    active = {one.name: sinks[one.name] for one in facts.sinks if not one.paused}
    if facts.sinks and not active:
        return ConditionVerdict("False", "Paused", "every sink is paused")
    return _all_of("Delivering", active, all_deliver(len(facts.sinks) - len(active)))


def _all_of(name: ConditionType, sinks: dict[str, Verdicts], good: str) -> ConditionVerdict:
    if not sinks:
        return ConditionVerdict("Unknown", "NoSinks", "it has no sink that can be judged")
    return worst_of_sinks(name, {sink: one[name] for sink, one in sinks.items()}, good)


def worst_of_sinks(
    name: ConditionType, sinks: Mapping[str, ConditionVerdict], good: str
) -> ConditionVerdict:
    """Return an object's verdict from those of its sinks; ``good`` is the message if all are True.

    It is the worst of them, its reason that of the first sink that is so.
    """
    status = worst(one.status for one in sinks.values())
    if status == "True":
        return ConditionVerdict("True", name, good)
    those = {sink: one for sink, one in sinks.items() if one.status == status}
    texts = [f"{sink}: {one.message or one.reason}" for sink, one in those.items()]
    told = listed(texts, SINKS_SHOWN_MAX)
    message = told if len(sinks) == 1 else f"{len(those)} of {len(sinks)} sinks: {told}"
    return ConditionVerdict(status, next(iter(those.values())).reason, message)


def all_deliver(paused: int) -> str:
    """Return the message of an object whose sinks deliver, but for those that are paused."""
    return f"every sink delivers, but for {paused} paused" if paused else "every sink delivers"
