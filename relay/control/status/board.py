"""Keep the status of every object that was loaded, refused and conflicting ones among them.

* Conditions are judged about once a second: those of objects that changed, that have data, or whose
  judgement depends on time; all others in turns, :data:`ROUND_S` each. What does not change costs
  nothing but its turn. The event loop has a turn after each :class:`WorkSlice`.
* References to Secrets, which may be files, are looked up in a thread, only when something changed
  or is wrong.
* Counters and usage are read when a status is asked for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from relay.config.exporter.load_result import LoadResult, ObjectKey, ObjectResult
from relay.config.exporter.records.outputs import signals_of
from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import Exporter
from relay.control.reconcile.sink_entry import RunningExporter
from relay.control.reconcile.sink_report import SinkReport
from relay.control.status.assess import DeliveryFacts, ObjectVerdicts
from relay.control.status.facts import Unresolved, delivery_facts, unresolved_references
from relay.control.status.history import CARRY_S, Amend, Conditions, ObjectHistory
from relay.control.status.object_facts import (
    LoadedObject,
    facts_of,
    name_of,
    of_older_version,
    words_of_policy,
)
from relay.control.status.object_status import ObjectConditions, ObjectStatus, sink_status
from relay.control.status.usage import ExporterUsage
from relay.runtime import gc_pacing
from relay.runtime.event_loop import WorkSlice, run_in_thread
from relay.sink.worker import SinkWorker

_log = logging.getLogger("relay.control.status")

LOOK_S: Final = 1.0
"""Interval of judging; s."""
ROUND_S: Final = 60.0
"""Time in which every object is judged, whether or not anything has changed; s."""
BIG_CHANGE: Final = 1_000
"""Objects judged for a change of theirs after which survivors are frozen for the GC."""
EDITS_MAX: Final = 100
"""Most objects of one change that are found by a look at nothing but what differs."""
BUSY_S: Final = 900.0
"""Time without data after which an object's counters and rates stay as they are; s."""
RESOLVE_AGAIN_S: Final = 5.0
"""Interval at which unusable references and refused credentials are looked up again; s."""
_RESOLVED_AT_ONCE: Final = 200
"""Exporters whose references are looked up by one call in a thread."""

_NOT_JUDGED: Final = "\0"
"""Sign of no verdicts."""

_Part = TypeVar("_Part")
Place = tuple[ObjectKey, int]
"""An object, and its number among those of one name in one source."""


class RunningSinks(Protocol):
    """The running sinks; :class:`~relay.control.reconcile.reconciler.SinkReconciler` has them."""

    @property
    def awake(self) -> Iterable[SinkWorker]:
        """Return the sinks that have data."""

    def running(self, exporter: str) -> RunningExporter | None:
        """Return what runs of an exporter, by its id."""

    def reports_of(self, exporter: str) -> dict[str, SinkReport]:
        """Return the reports of its outputs by name."""

    def take_reread(self) -> set[str]:
        """Return the ids of exporters whose secrets were read again since the last call."""


_ALL_RESOLVED: Final[Unresolved] = {}
"""Shared by the thousands of objects of which no reference is missing."""


class _Tracked:
    """One object: what was loaded, what it was judged by, and the outcome."""

    __slots__ = (
        "deliveries",
        "exporter",
        "history",
        "id",
        "place",
        "result",
        "running",
        "sign",
        "unresolved",
        "wanted",
        "winner",
    )

    def __init__(self, place: Place, result: ObjectResult) -> None:
        self.place = place
        self.id = result.key.id
        self.result = result
        self.wanted: Exporter | None = None  # that is to run: also that of a last good version
        self.winner = ""  # which object has its name
        self.history = ObjectHistory()
        self.unresolved: Unresolved = _ALL_RESOLVED
        self.running: RunningExporter | None = None  # when it was judged last, and its version
        self.exporter: Exporter | None = None
        self.deliveries: tuple[DeliveryFacts, ...] = ()
        self.sign = ""


def _as_they_are(_: ObjectVerdicts) -> None:
    """Leave verdicts as they are."""


class StatusBoard:
    """The statuses of all objects. Lives on the event loop.

    ``loaded`` returns the last result of loading that was given to ``sinks``; ``usage`` the usage
    of an exporter by its id; ``extra`` what adds to an object's verdicts, which is the
    same while ``extra_sign`` is. ``clock`` is
    the wall clock, s.
    """

    def __init__(
        self,
        sinks: RunningSinks,
        loaded: Callable[[], LoadResult],
        *,
        usage: Callable[[str], ExporterUsage | None] = lambda _: None,
        extra: Callable[[ObjectResult], Amend] = lambda _: _as_they_are,
        extra_sign: Callable[[ObjectResult], str] = lambda _: "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sinks = sinks
        self._loaded = loaded
        self._usage = usage
        self._extra = extra
        self._extra_sign = extra_sign
        self._clock = clock
        self._seen: LoadResult | None = None
        self._has_conflicts = False
        self._objects: dict[Place, _Tracked] = {}
        self._by_exporter: dict[str, _Tracked] = {}
        self._dirty: dict[_Tracked, None] = {}
        self._unfrozen = 0
        self._restless: dict[_Tracked, None] = {}
        self._carrying: dict[_Tracked, float] = {}
        """Objects with written conditions that stand in for others, until when; the next first."""
        self._unresolved: dict[_Tracked, None] = {}
        self._resolve_at = 0.0
        self._shown: tuple[ObjectConditions, ...] | None = None
        self._turns: Sequence[_Tracked] = ()
        self._busy: dict[_Tracked, float] = {}
        """Objects whose sinks had data, and when they were last seen to."""
        self._next = 0
        self._listeners: list[Callable[[Sequence[ObjectKey]], None]] = []
        self._lock = asyncio.Lock()

    def subscribe(self, listener: Callable[[Sequence[ObjectKey]], None]) -> None:
        """Call ``listener`` with the objects whose conditions have changed, and those gone."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Look about once a second, until cancelled. Bugs are logged and cost one look.

        One in judging an object costs no other.
        """
        while True:
            try:
                await self.look()
            except Exception:
                _log.exception("bug in the relay: statuses were not judged")
            await asyncio.sleep(LOOK_S)

    async def look(self) -> list[ObjectKey]:
        """Judge what may have changed; return the objects whose conditions did, and those gone."""
        async with self._lock:
            pace = WorkSlice()
            changed: dict[ObjectKey, None] = {}
            loaded = self._loaded()
            if loaded is not self._seen:
                await self._take(loaded, changed, pace)
            await self._resolve(loaded.secrets)
            self._end_carrying()
            dirty, self._dirty = self._dirty, {}
            now = self._clock()
            active = self._active()
            due = {**dirty, **self._restless, **self._turn(), **active}
            for one in due:
                try:
                    if self._judge(one, now, anew=one in dirty):
                        changed[one.place[0]] = None
                except Exception:
                    one.sign = _NOT_JUDGED  # so that it is judged in its turn
                    extra = {"object": one.id}
                    _log.exception("bug in the relay: a status was not judged", extra=extra)
                if one in active and any(each.matched or each.waits for each in one.deliveries):
                    self._busy[one] = now
                if pace.is_over:
                    await pace.rest()
                    now = self._clock()
            self._unfrozen += len(dirty)
            if self._unfrozen >= BIG_CHANGE:
                self._unfrozen = 0
                gc_pacing.freeze_survivors()
        for listener in self._listeners if changed else ():
            listener(list(changed))
        return list(changed)

    def objects(self) -> Iterator[ObjectKey]:
        """Return the objects in the order of the sources; of a name that is there twice, one."""
        return (key for key, number in self._objects if not number)

    def busy(self) -> Iterator[ObjectKey]:
        """Return the objects whose counters and usage may have changed within :data:`BUSY_S`."""
        since = self._clock() - BUSY_S
        for one in [one for one, at in self._busy.items() if at < since]:
            del self._busy[one]
        return (one.place[0] for one in self._busy if not one.place[1])

    def result(self, key: ObjectKey) -> ObjectResult | None:
        """Return what was loaded of an object; None: it is not known, or gone."""
        one = self._objects.get((key, 0))
        return one.result if one is not None else None

    def status(self, key: ObjectKey) -> ObjectStatus | None:
        """Return the status of an object as of now; None if it is not judged, or gone."""
        one = self._objects.get((key, 0))
        return self._status(one) if one is not None and one.history.conditions else None

    def settled(self, key: ObjectKey) -> object | None:
        """Return a mark that stays the same object while an object's counters and usage do.

        None while they may change.
        """
        one = self._objects.get((key, 0))
        if one is None or self._clock() - self._busy.get(one, -BUSY_S) < BUSY_S:
            return None
        return one.running or one

    def reports(self, key: ObjectKey) -> tuple[str, dict[str, SinkReport]]:
        """Return the id of an object's exporter, and the reports of its running sinks by name."""
        one = self._objects.get((key, 0))
        return (one.id, self._sinks.reports_of(one.id)) if one is not None else ("", {})

    def statuses(self) -> Iterator[tuple[ObjectResult, ObjectStatus]]:
        """Return all objects that were judged, with their statuses, in the order of the sources."""
        for one in self._objects.values():
            if one.history.conditions:
                yield one.result, self._status(one)

    def conditions(self) -> tuple[ObjectConditions, ...]:
        """Return the conditions of all objects, in the order of the sources.

        Cheap where nothing has changed since the last call.
        """
        if self._shown is None:
            self._shown = tuple(
                ObjectConditions(
                    one.result.key,
                    one.running is not None,
                    one.history.conditions,
                    one.history.sinks,
                )
                for one in self._objects.values()
                if one.history.conditions
            )
        return self._shown

    def mark(self, exporter: str) -> None:
        """Judge an object at the next look, by the id of its exporter."""
        one = self._by_exporter.get(exporter)
        if one is not None:
            self._dirty[one] = None

    def seed(
        self, key: ObjectKey, uid: str, conditions: Conditions, sinks: Mapping[str, Conditions]
    ) -> None:
        """Go on from the conditions that an object's own status has; judged at the next look."""
        one = self._objects.get((key, 0))
        if one is not None and one.result.uid == uid:
            now = self._clock()
            one.history.seed(conditions, sinks, now)
            self._dirty[one] = None
            self._carrying.pop(one, None)
            self._carrying[one] = now + CARRY_S

    async def _take(
        self, loaded: LoadResult, changed: dict[ObjectKey, None], pace: WorkSlice
    ) -> None:
        """Bring the objects in step with a result of loading."""
        if self._take_edits(loaded):
            return
        wanted: dict[str, Exporter] = {}
        for running in loaded.exporters:
            wanted[running.id] = running
            if pace.is_over:
                await pace.rest()
        before, objects = self._objects, dict[Place, _Tracked]()
        by_exporter: dict[str, _Tracked] = {}
        first: dict[str, ObjectResult] = {}
        numbers: dict[ObjectKey, int] = {}
        self._has_conflicts = False
        for result in loaded.objects:
            key = result.key
            number = numbers.get(key, 0)
            numbers[key] = number + 1
            place = (key, number)
            known = before.get(place)
            own_id = known.id if known is not None else key.id
            exporter = None if result.conflict else wanted.get(own_id)
            if known is None or known.result.uid != result.uid:
                known = _Tracked(place, result)
                self._dirty[known] = None
            elif known.result != result or known.wanted is not exporter:
                self._dirty[known] = None
            known.result, known.wanted = result, exporter
            objects[place] = known
            if result.conflict:
                self._has_conflicts = True
                winner = name_of(first.get(own_id), of=key.source)
                if winner != known.winner:
                    known.winner, self._dirty[known] = winner, None
            else:
                first.setdefault(own_id, result)
                by_exporter[own_id] = known
            if pace.is_over:
                await pace.rest()
        changed.update((key, None) for key, number in before if (key, number) not in objects)
        self._objects, self._by_exporter = objects, by_exporter
        self._turns = tuple(objects.values())
        tracked: tuple[dict[_Tracked, None] | dict[_Tracked, float], ...] = (
            self._dirty,
            self._restless,
            self._unresolved,
            self._carrying,
            self._busy,
        )
        for some in tracked:
            for one in [one for one in some if objects.get(one.place) is not one]:
                del some[one]
        self._seen, self._shown = loaded, None

    def _take_edits(self, loaded: LoadResult) -> bool:
        """Bring the objects in step at once if only some are edited, none has come or gone.

        Return False, with nothing done, if it is not so.
        """
        seen = self._seen
        if seen is None or len(seen.objects) != len(loaded.objects):
            return False
        if len(seen.exporters) != len(loaded.exporters) or self._has_conflicts:
            return False
        edited = _differing(seen.objects, loaded.objects)
        exporters = _differing(seen.exporters, loaded.exporters)
        if len(edited) > EDITS_MAX or len(exporters) > EDITS_MAX:
            return False
        if any(old.id != new.id for old, new in exporters) or any(
            (old.key, old.uid) != (new.key, new.uid) or new.conflict for old, new in edited
        ):
            return False
        for old, result in edited:
            known = self._objects[result.key, 0]
            known.result = result
            if old != result:
                self._dirty[known] = None
        for _, exporter in exporters:
            running = self._by_exporter.get(exporter.id)
            if running is not None:
                running.wanted, self._dirty[running] = exporter, None
        self._seen, self._shown = loaded, None
        return True

    def _end_carrying(self) -> None:
        """Judge the objects anew for which written conditions stand in no longer."""
        now = self._clock()
        while self._carrying:
            one, until = next(iter(self._carrying.items()))
            if until > now:
                return
            del self._carrying[one]
            self._dirty[one] = None

    async def _resolve(self, secrets: SecretStore) -> None:
        """Look up the references of objects that changed, or of which some cannot be used."""
        asked = dict(self._dirty)
        for exporter in self._sinks.take_reread():
            if (read := self._by_exporter.get(exporter)) is not None:
                asked[read] = None
        now = self._clock()
        if now >= self._resolve_at:
            self._resolve_at = now + RESOLVE_AGAIN_S
            asked |= self._unresolved
        pairs = [(one, one.wanted) for one in asked if one.wanted is not None]
        for start in range(0, len(pairs), _RESOLVED_AT_ONCE):
            part = pairs[start : start + _RESOLVED_AT_ONCE]

            def look_up(part: Sequence[tuple[_Tracked, Exporter]] = part) -> list[Unresolved]:
                return [unresolved_references(exporter, secrets) for _, exporter in part]

            for (one, _), found in zip(part, await run_in_thread(look_up), strict=True):
                if found != one.unresolved:
                    one.unresolved, self._dirty[one] = found, None
                if found:
                    self._unresolved[one] = None
                elif not any(each.kind == "unauthorized" for each in one.deliveries):
                    self._unresolved.pop(one, None)

    def _turn(self) -> dict[_Tracked, None]:
        """Return the objects that are judged now whether or not anything has changed."""
        count = -(-len(self._turns) * LOOK_S // ROUND_S)
        start = self._next if self._next < len(self._turns) else 0
        self._next = start + int(count)
        return dict.fromkeys(self._turns[start : self._next])

    def _active(self) -> dict[_Tracked, None]:
        """Return the objects whose sinks have data."""
        by_exporter = self._by_exporter
        found = [by_exporter.get(worker.exporter_id) for worker in self._sinks.awake]
        return {one: None for one in found if one is not None}

    def _judge(self, one: _Tracked, now: float, *, anew: bool) -> bool:
        """Judge an object, unless it is ``anew`` only if its facts have changed.

        Return whether a condition has changed.
        """
        result, history = one.result, one.history
        running = None if result.conflict else self._sinks.running(one.id)
        exporter, deliveries = None, tuple[DeliveryFacts, ...]()
        if running is not None:
            exporter, since = running.exporter, running.programmed_at
            entries = running.entries.values()
            deliveries = tuple([delivery_facts(e, programmed_at=since, now=now) for e in entries])
        sign = self._extra_sign(result)
        is_same = running is one.running and exporter is one.exporter and sign == one.sign
        if is_same and not anew and deliveries == one.deliveries:
            return False
        if (running is None) is not (one.running is None):
            self._shown = None
        one.running, one.exporter, one.deliveries, one.sign = running, exporter, deliveries, sign
        loaded = LoadedObject(result, one.wanted, one.winner)
        facts = facts_of(loaded, running, one.unresolved, now=now)
        amend = words_of_policy(loaded), of_older_version(loaded, running), self._extra(result)
        changed = history.judge(facts, generation=result.generation, at=now, amend=amend)
        if changed:
            self._shown = None
        if any(each.unsettled for each in deliveries) or exporter is not one.wanted:
            self._restless[one] = None
        else:
            self._restless.pop(one, None)
        if any(each.kind == "unauthorized" for each in deliveries):
            self._unresolved[one] = None
        return changed

    def _status(self, one: _Tracked) -> ObjectStatus:
        """Return a status with the counters of now."""
        exporter, runs = one.id, one.running is not None
        reports = self._sinks.reports_of(exporter) if runs else {}
        usage = self._usage(exporter) if runs else None
        signals = signals_of(one.running.exporter) if one.running is not None else {}
        sinks = [
            sink_status(
                name,
                conditions,
                {
                    signal: reports[output]
                    for signal, output in signals.get(name, {}).items()
                    if output in reports
                },
                usage.sinks.get(name) if usage else None,
            )
            for name, conditions in one.history.sinks.items()
        ]
        return ObjectStatus(
            one.history.conditions,
            tuple(sinks),
            usage.total if usage else None,
            usage.sources if usage else {},
        )

    def __repr__(self) -> str:
        return f"<StatusBoard {len(self._objects)} objects, {len(self._restless)} restless>"


def _differing(before: Sequence[_Part], now: Sequence[_Part]) -> list[tuple[_Part, _Part]]:
    """Return the parts of equally many that are other objects now, with those before."""
    return [(old, new) for old, new in zip(before, now, strict=True) if old is not new]
