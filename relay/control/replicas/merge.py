"""Make one status of an object out of those that several relays give it. Pure.

Rules:

* One relay alone: its status, as it is.
* ``Accepted``, ``ResolvedRefs`` and types that only some have: the worst of the relays that have
  judged the newest generation.
* ``Programmed``: the worst of all; its ``observedGeneration`` is the lowest that any relay runs. A
  relay that stays behind for longer than it is waited for makes it False (``Pending``).
* ``Delivering`` of a sink: a relay without data (``NoData``) counts only if all are so. Of the
  others False wins, then a relay that cannot be asked (Unknown, ``NoReport``), then Unknown. That
  of the object follows from its sinks, as for one relay.
* Ledgers and usage are sums, ``lastSuccess`` and ``lastError`` the latest.
* ``lastTransitionTime`` moves only with the merged status.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from relay.control.status.assess import all_deliver, worst_of_sinks
from relay.control.status.conditions import (
    MESSAGE_CHARS_MAX,
    TYPES,
    ConditionVerdict,
    StatusCondition,
    listed,
    worst,
)
from relay.control.status.object_status import (
    LedgerCounts,
    ObjectStatus,
    SignalStatus,
    SinkStatus,
    UsageFigures,
)
from relay.runtime.excerpt import clipped

NO_REPORT: Final = "NoReport"
_NO_DATA = "NoData"
_SHOWN_MAX = 3
_Counts = TypeVar("_Counts", LedgerCounts, UsageFigures)


@dataclass(frozen=True, slots=True)
class RelayReading:
    """The answer of one relay about one object.

    ``status`` None: it does not know the object; with ``why``: it cannot be asked.
    """

    relay: str
    status: ObjectStatus | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Round:
    """One merge: ``unreached`` are relays that cannot be asked, with the reason.

    ``waits``: a relay that is behind is still waited for.
    """

    total: int
    unreached: tuple[tuple[str, str], ...]
    at: float
    waits: bool


_Votes = Sequence[tuple[str, StatusCondition]]


def merged(
    readings: Iterable[RelayReading],
    before: ObjectStatus | None,
    *,
    at: float,
    waits: bool,
) -> ObjectStatus:
    """Return the status of an object after a judgement at ``at`` (wall clock, s).

    ``before`` is the merged status until now; ``waits``: relays that are behind are waited for.
    """
    ordered = sorted(readings, key=lambda one: one.relay)
    assert ordered, "there is at least this relay itself"
    statuses = [(one.relay, one.status) for one in ordered if one.status is not None]
    if len(ordered) == 1 and statuses:
        return statuses[0][1]
    unreached = tuple((one.relay, one.why) for one in ordered if one.why)
    lacking = [one.relay for one in ordered if one.status is None and not one.why]
    this = _Round(len(ordered), unreached, at, waits)
    sinks = _sinks(statuses, lacking, before, this)
    conditions = _conditions(
        [(relay, one.conditions) for relay, one in statuses],
        lacking,
        before.conditions if before is not None else (),
        this,
        sinks,
    )
    sources = dict.fromkeys(name for _, one in statuses for name in one.source_usage)
    return ObjectStatus(
        conditions,
        sinks,
        _sum(UsageFigures, (one.usage for _, one in statuses)),
        {name: _sum_of(name, statuses) for name in sources},
        f"{len(ordered) - len(unreached)} of {len(ordered)}",
    )


def generation_of(status: ObjectStatus) -> int:
    """Return the generation of an object that a status is about; 0 if it tells none."""
    return max((one.observed_generation for one in status.conditions), default=0)


def is_behind(readings: Iterable[RelayReading]) -> bool:
    """Return whether relays that answer know different generations of the object."""
    known = {
        generation_of(one.status) if one.status is not None else 0
        for one in readings
        if not one.why
    }
    return len(known) > 1


def _sinks(
    statuses: Sequence[tuple[str, ObjectStatus]],
    lacking: Sequence[str],
    before: ObjectStatus | None,
    this: _Round,
) -> tuple[SinkStatus, ...]:
    by_name: dict[str, dict[str, SinkStatus]] = {}
    # The newest generation's sinks; one that it has no more is shown by no relay for long.
    newest = max((generation_of(one) for _, one in statuses), default=0)
    for _, status in statuses:
        if generation_of(status) == newest:
            by_name.update((sink.name, {}) for sink in status.sinks if sink.name not in by_name)
    for relay, status in statuses:
        for sink in status.sinks:
            if sink.name in by_name:
                by_name[sink.name][relay] = sink
    known = {sink.name: sink for sink in before.sinks} if before is not None else {}
    found: list[SinkStatus] = []
    for name, of in by_name.items():
        without = [*lacking, *(relay for relay, _ in statuses if relay not in of)]
        old = known.get(name)
        conditions = _conditions(
            [(relay, sink.conditions) for relay, sink in of.items()],
            without,
            old.conditions if old is not None else (),
            this,
        )
        found.append(
            SinkStatus(
                name,
                conditions,
                *_outcomes(of.values()),
                _sum(LedgerCounts, (sink.ledger for sink in of.values())),
                _sum(UsageFigures, (sink.usage for sink in of.values())),
                _signals(of.values()),
            )
        )
    return tuple(found)


def _signals(sinks: Iterable[SinkStatus]) -> tuple[SignalStatus, ...]:
    """Return the sums of each signal, in the order of their first appearance."""
    by_signal: dict[str, list[SignalStatus]] = {}
    for sink in sinks:
        for one in sink.signals:
            by_signal.setdefault(one.signal, []).append(one)
    return tuple(
        SignalStatus(name, *_outcomes(of), _sum(LedgerCounts, (one.ledger for one in of)))
        for name, of in by_signal.items()
    )


def _outcomes(
    of: Collection[SinkStatus | SignalStatus],
) -> tuple[float | None, float | None, str]:
    """Return the latest success, and the time and words of the latest failure."""
    failed = max(
        (one for one in of if one.last_error_at is not None),
        key=lambda one: (one.last_error_at or 0.0, one.last_error),
        default=None,
    )
    succeeded = max((at for one in of if (at := one.last_success) is not None), default=None)
    if failed is None:
        return succeeded, None, ""
    return succeeded, failed.last_error_at, failed.last_error


def _conditions(
    of: Sequence[tuple[str, tuple[StatusCondition, ...]]],
    lacking: Sequence[str],
    before: tuple[StatusCondition, ...],
    this: _Round,
    sinks: tuple[SinkStatus, ...] = (),
) -> tuple[StatusCondition, ...]:
    known = {one.type: one for one in before}
    names: dict[str, None] = dict.fromkeys(TYPES)
    names.update((one.type, None) for _, conditions in of for one in conditions)
    found: list[StatusCondition] = []
    for name in names:
        votes = [(relay, one) for relay, conditions in of for one in conditions if one.type == name]
        if not votes:
            verdict, generation = _unknown(lacking, this), 0
        elif name == "Programmed":
            verdict, generation = _programmed(votes, lacking, this, is_known=name in known)
        elif name == "Delivering":
            generation = min(one.observed_generation for _, one in votes)
            verdict = _delivering(votes, lacking, this, is_known=name in known)
            if sinks and not _agree(votes):
                verdict = _delivering_of(sinks)
        else:
            verdict, generation = _newest(votes, this)
        since = _since(verdict, known.get(name), votes, this)
        found.append(
            StatusCondition(
                name,
                verdict.status,
                verdict.reason,
                clipped(verdict.message, MESSAGE_CHARS_MAX),
                generation,
                since,
            )
        )
    return tuple(found)


def _newest(votes: _Votes, this: _Round) -> tuple[ConditionVerdict, int]:
    generation = max(one.observed_generation for _, one in votes)
    chosen = [vote for vote in votes if vote[1].observed_generation == generation]
    return _worst_of(chosen, this), generation


def _programmed(
    votes: _Votes, lacking: Sequence[str], this: _Round, *, is_known: bool
) -> tuple[ConditionVerdict, int]:
    lowest = min(one.observed_generation for _, one in votes)
    highest = max(one.observed_generation for _, one in votes)
    behind = [relay for relay, one in votes if one.observed_generation < highest]
    behind += lacking
    if behind and not (this.waits and is_known):
        names = listed(sorted(behind), _SHOWN_MAX, separator=", ")
        message = f"{names} of {this.total} relays run an older version or none"
        return ConditionVerdict("False", "Pending", message), highest
    return _worst_of(votes, this), lowest


def _delivering(
    votes: _Votes, lacking: Sequence[str], this: _Round, *, is_known: bool
) -> ConditionVerdict:
    counting = [vote for vote in votes if vote[1].reason != _NO_DATA] or votes
    status = worst(one.status for _, one in counting)
    if status == "False":
        return _worst_of(counting, this)
    if this.unreached:
        return _unreached(this)
    if lacking and not (this.waits and is_known):
        names = listed(sorted(lacking), _SHOWN_MAX, separator=", ")
        message = f"{names} of {this.total} relays do not run it yet"
        return ConditionVerdict("Unknown", "NotProgrammed", message)
    return _worst_of(counting, this)


def _delivering_of(sinks: tuple[SinkStatus, ...]) -> ConditionVerdict:
    """Return ``Delivering`` of an object from that of its merged sinks."""
    verdicts: dict[str, ConditionVerdict] = {}
    for sink in sinks:
        for one in sink.conditions:
            if one.type == "Delivering" and (one.status, one.reason) != ("False", "Paused"):
                verdicts[sink.name] = ConditionVerdict(one.status, one.reason, one.message)
    if not verdicts:
        return ConditionVerdict("False", "Paused", "every sink is paused")
    return worst_of_sinks("Delivering", verdicts, all_deliver(len(sinks) - len(verdicts)))


def _worst_of(votes: _Votes, this: _Round) -> ConditionVerdict:
    """Return the worst verdict; its message names the relays that have it, unless all have."""
    status = worst(one.status for _, one in votes)
    those = [vote for vote in votes if vote[1].status == status]
    first = those[0][1]
    if _agree(votes):
        return ConditionVerdict(status, first.reason, first.message)
    if status == "True":
        return ConditionVerdict(status, first.reason, max(one.message for _, one in those))
    texts = [f"{relay}: {one.message or one.reason}" for relay, one in those]
    told = listed(texts, _SHOWN_MAX)
    return ConditionVerdict(status, first.reason, f"{len(those)} of {this.total} relays: {told}")


def _unreached(this: _Round) -> ConditionVerdict:
    texts = [f"{relay} cannot be asked: {why}" for relay, why in this.unreached]
    told = listed(texts, _SHOWN_MAX)
    next_step = "what it delivers is not known: if this stays, tell the operator of the relays"
    return ConditionVerdict("Unknown", NO_REPORT, f"{told}; {next_step}")


def _unknown(lacking: Sequence[str], this: _Round) -> ConditionVerdict:
    if this.unreached and not lacking:
        return _unreached(this)
    return ConditionVerdict("Unknown", "NotEvaluated", "no relay has judged it yet")


def _agree(votes: _Votes) -> bool:
    return len({(one.status, one.reason, one.message) for _, one in votes}) == 1


def _since(
    verdict: ConditionVerdict, before: StatusCondition | None, votes: _Votes, this: _Round
) -> float:
    """Return since when the merged status holds; wall clock, s."""
    if before is not None:
        return before.since if before.status == verdict.status else this.at
    times = [one.since for _, one in votes if one.status == verdict.status]
    if not times:
        return this.at
    return max(times) if verdict.status == "True" else min(times)


def _sum(kind: type[_Counts], of: Iterable[_Counts | None]) -> _Counts | None:
    """Return the sums of all counts that are known; None if none are."""
    known = [one for one in of if one is not None]
    if not known:
        return None
    names = kind.__struct_fields__
    return kind(**{name: sum(getattr(one, name) for one in known) for name in names})


def _sum_of(source: str, statuses: Sequence[tuple[str, ObjectStatus]]) -> UsageFigures:
    of = (one.source_usage.get(source) for _, one in statuses)
    return _sum(UsageFigures, of) or UsageFigures()
