"""Delays the samples of new families until metadata tells their type, for a short time.

Senders' metadata comes in a request after the samples. Without a wait, the first samples of a
family would get another type than later ones. A *family in sight* is a project's names with one
root: ``foo``, ``foo_total``, ``foo_bucket``, ... Rules:

* Samples of a family without metadata wait for ``wait_s``, and leave in order of arrival. Metadata
  for all names that wait releases them at once: a project's for that project, the platform's for
  all projects without their own.
* A series that declares its type does not wait, unless it waits already.
* A family waits once; then it is *settled*, also over restarts.
* Waiting samples hold their position; checkpoints list them
  (:mod:`relay.pipeline.batching.unfinished`).
* About :data:`SLICE` samples leave in a round; later samples of the family queue behind, and each
  request lets twice as many leave as it brings, :data:`REQUEST_STEPS` at most.
* Its series get their routes with the family's end, as prepared for the samples that waited, or are
  resolved anew.
* Bounds: beyond :data:`SAMPLES_MAX` and :data:`BYTES_MAX` the oldest family of the project with the
  most leaves early. ``families_max`` families, and as many settled ones, are shared among projects
  (:mod:`relay.runtime.project_shares`). Nothing is dropped.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from relay.codec.remote_write.label_parser import SeriesLabels
from relay.pipeline.batching.emitter import Emitter, SampleProcessor
from relay.pipeline.batching.transaction import IngestMark
from relay.pipeline.batching.unfinished import ReplayGate, WaitingList
from relay.pipeline.metrics.metadata.metric_types import Passes, root_of
from relay.pipeline.metrics.metadata.project_types import Declaration
from relay.pipeline.metrics.metadata.type_store import TypeStore
from relay.pipeline.metrics.metadata.waiting_family import (
    FirstSamples,
    Key,
    NamedSeries,
    WaitingFamily,
    WaitingSample,
    waiting_key,
)
from relay.runtime.project_shares import UNCLAIMED, SharedTable, Shares

SAMPLES_MAX: Final = 200_000
SLICE: Final = 200
"""Steps of a round, a millisecond of work or two; a sample that leaves is one."""
FAMILY_STEPS: Final = 4
"""Steps of the end of a family."""
MEMBERS_STEP: Final = 4
"""Series that get their routes in a step."""
MEMBERS_PAUSE: Final = 256
"""Series that get their routes between two pauses."""
REQUEST_STEPS: Final = 4_000
"""Most steps that a request takes; its own samples wait where that is too few."""
SLICE_FULL: Final = 2
"""Samples that leave for each one that comes, if the table is full."""
BYTES_MAX: Final = 64 * 1024 * 1024
SAMPLE_BYTES: Final = 200
SERIES_BYTES: Final = 600
"""Estimated bytes of a waiting sample, and the same again for its series."""

MakeHandlers = Callable[[FirstSamples], tuple[SampleProcessor, ...]]
"""Returns the handlers of all outputs of a series, and prepares its routes."""

TestSeries = Callable[[FirstSamples], bool]
"""Tells whether the handlers of a series are current; or gives it the routes that are prepared, and
is False if there are none, or others by now."""


@dataclass(frozen=True, slots=True)
class FirstSightStatistics:
    """A snapshot.

    ``families`` and ``samples`` that wait now; families ``settled`` by their names, of these
    ``early`` ones that left for lack of space.
    """

    families: int
    samples: int
    settled: int
    early: int


class MetadataWait:
    """All families that wait for metadata.

    ``tick`` is the emitter's clock, s; ``outdated``: series to be resolved anew; ``version``
    changes with the set of settled families.
    """

    def __init__(
        self,
        types: TypeStore,
        waiting: WaitingList,
        make_handlers: MakeHandlers,
        is_current: TestSeries,
        give_routes: TestSeries,
        *,
        wait_s: float,
        families_max: int,
    ) -> None:
        self.tick = 0.0
        self.armed = 0
        """Deadlines that were set since the start."""
        self._gate: ReplayGate | None = None
        self.passes: Final = Passes()
        """A name need not wait while its project remembers a typing that passed with the present
        number: :meth:`family` would be None. Every change of the families that wait, or have
        waited, ends that."""
        self.outdated: list[Any] = []
        self.version = 0
        self._types = types
        types.told = self.learned
        self._waiting = waiting
        self._make_handlers = make_handlers
        self.is_current: Final = is_current
        """True for a series whose handlers are those that it would get now."""
        self._give_routes = give_routes
        self._wait_s = wait_s
        self.enabled: Final = wait_s > 0
        """True if families wait at all."""
        self._shares = Shares(families_max)
        self._families: OrderedDict[Key, WaitingFamily] = OrderedDict()
        """Waiting families, in the order of their deadlines."""
        self._leaving: OrderedDict[Key, WaitingFamily] = OrderedDict()
        """Families whose samples leave, the longest leaving first."""
        self._ended: deque[WaitingFamily] = deque()
        """Families that no longer wait, and whose series have no routes yet."""
        self.behind = 0
        """Samples that have come for families that leave, since some left with a request."""
        self._by_root: dict[str, dict[WaitingFamily, None]] = {}
        self.told: dict[WaitingFamily, None] = {}
        """Families whose metadata arrived."""
        self._of_share: dict[str, OrderedDict[Key, WaitingFamily]] = {}
        """Waiting families by the project in whose share they count, the oldest first."""
        self._settled: SharedTable[str, bool] = SharedTable(families_max)
        """Roots of settled families, by project."""
        self._samples: dict[str, int] = {}
        """Waiting samples by project; ``_count`` is their sum."""
        self._count = 0
        self._bytes = 0
        self._early = 0

    @property
    def gate(self) -> ReplayGate | None:
        """Gate of the replay that is under way, or was the last; None: there was none."""
        return self._gate

    @gate.setter
    def gate(self, gate: ReplayGate | None) -> None:
        """Begin a replay: what is known of names no longer counts."""
        self._gate = gate
        self.passes.end()

    def family(self, name: str, project: str) -> WaitingFamily | None:
        """Return the family that a series of this name waits with; None if it need not wait."""
        key = project, root_of(name)
        known = self._families.get(key) or self._leaving.get(key)
        if known is not None:
            if name not in known.names:
                known.names |= {name}
            return known
        gate = self._gate
        is_replayed = gate is not None and not gate.crossed
        has_waited = gate is not None and is_replayed and gate.knows(waiting_key(key))
        types = self._types.of(project)
        if not has_waited and (self._settled.find(*key) or not types.is_unsure(name)):
            typing = types.remembered(name)
            if typing is not None and not is_replayed:
                typing.passed = self.passes.number
            return None
        giver = self._shares.must_evict(types.share)
        if giver == types.share:
            return None  # it has its share of those that wait
        if giver is not None:
            self._early += 1
            self._let_go(next(iter(self._of_share[giver].values())))
        self.passes.end()
        made = WaitingFamily(key, types.share, self.tick + self._wait_s)
        made.names = frozenset((name,))
        self._families[key] = self._of_share.setdefault(made.share, OrderedDict())[key] = made
        self.armed += 1
        self._shares.add(made.share)
        self._by_root.setdefault(key[1], {})[made] = None
        return made

    def handler(
        self,
        family: WaitingFamily,
        series: NamedSeries,
        labels: SeriesLabels,
        declared: Declaration | None,
    ) -> FirstSamples:
        """Return the handler of a series that waits with its family, one for the whole wait."""
        first = family.members.get(series)
        if first is None:
            family.bytes += SERIES_BYTES
            self._bytes += SERIES_BYTES
            first = family.members[series] = FirstSamples(self, family, series, labels, declared)
        first.declared = declared
        return first

    def find(self, series: NamedSeries, project: str) -> FirstSamples | None:
        """Return the handler of a series that waits with its family; None if it does not."""
        if not (self._families or self._leaving):
            return None
        key = project, root_of(series.name)
        family = self._families.get(key) or self._leaving.get(key)
        return None if family is None else family.members.get(series)

    def handlers_of(self, series: FirstSamples) -> tuple[SampleProcessor, ...]:
        """Return the present handlers of a series whose samples waited."""
        return self._make_handlers(series)

    def learned(self, project: str, family: str) -> None:
        """Note that metadata of a family's name changed in a project.

        "" is the platform, or everything without tenancy.
        """
        for root in (family, root_of(family)):
            if not project:
                self.told |= self._by_root.get(root, {})
                continue
            told = self._families.get((project, root))
            if told is not None:
                self.told[told] = None

    def put(self, sample: WaitingSample, emitter: Emitter) -> None:
        """Let a sample wait."""
        family, origin = sample.series.family, sample.origin
        if emitter.gate is not None:
            origin = emitter.gate.mark(origin, family.waiting_key())
            sample = sample._replace(origin=origin)
        if family.origin.position < 0:
            family.origin = origin
            emitter.hold()
            self._waiting.add(family)
        elif origin.named_until > family.origin.named_until:
            family.origin = replace(family.origin, named_until=origin.named_until)
        family.samples.append(sample)
        sample.series.waiting += 1
        self.behind += family.leaves
        family.bytes += SAMPLE_BYTES
        self._bytes += SAMPLE_BYTES
        project = family.key[0]
        self._samples[project] = self._samples.get(project, 0) + 1
        self._count += 1
        if self._bytes > BYTES_MAX or self._count > SAMPLES_MAX:
            self._make_room(emitter)

    def release_told(self, emitter: Emitter) -> None:
        """Release the families whose names metadata has described completely."""
        most = min(2 * self.behind, REQUEST_STEPS)
        self.behind = 0
        if self.told:
            told, self.told = self.told, {}
            for family in told:
                is_waiting = self._families.get(family.key) is family
                if is_waiting and not self._waits_for_more(family):
                    self._let_go(family)
                    most = max(most, SLICE)
        if most:
            self._send(emitter, most)

    def expire(self, tick: float, emitter: Emitter) -> None:
        """Release some of the families whose wait is over."""
        left = SLICE - self._send(emitter, SLICE)
        while left > 0 and self._families:
            family = next(iter(self._families.values()))
            if family.due > tick:
                break
            self._let_go(family)
            left -= self._send(emitter, left)

    def finish(self, emitter: Emitter) -> None:
        """Send all samples; none follow."""
        while self._families:
            self._let_go(next(iter(self._families.values())))
        self._send(emitter, None)

    def end_collecting(self, emitter: Emitter) -> None:
        """Release families at the end of the collecting phase of a replay.

        Those that left before the process ended, and those whose type is known by now.
        """
        for family in list(self._families.values()):
            had_left = emitter.gate is None or emitter.gate.had_left(family.origin)
            if family.samples and (had_left or not self._waits_for_more(family)):
                self._let_go(family)
        self._send(emitter, None)

    def next_due(self) -> float | None:
        """Return the tick at which the next family's wait is over, or None."""
        if self._leaving or self._ended:
            return self.tick
        for family in self._families.values():
            return family.due
        return None

    def take_outdated(self) -> list[Any]:
        """Return the series to be resolved anew since the last call."""
        if not self.outdated:
            return []
        outdated, self.outdated = self.outdated, []
        return outdated

    def settled(self) -> list[Key]:
        """Return the families that need not wait any more without metadata; a copy."""
        return [
            (part.project, root)
            for part in self._settled.parts()
            for root in (*part.old, *part.young)
        ]

    def forget(self, project: str, most: int) -> int:
        """Forget up to so many settled families of a project that is gone; return how many."""
        count = self._settled.forget(project, most)
        self.passes.end()
        self.version += bool(count)
        return count

    def recall(self, settled: Iterable[Key]) -> None:
        """Restore the settled families from before a restart."""
        for key in settled:
            self._add_settled(key)

    def statistics(self) -> FirstSightStatistics:
        """Return a snapshot."""
        return FirstSightStatistics(
            len(self._families) + len(self._leaving),
            self._count,
            len(self._settled),
            self._early,
        )

    def _waits_for_more(self, family: WaitingFamily) -> bool:
        """Return True if metadata is missing for any of the family's names."""
        types = self._types.of(family.key[0])
        return any(map(types.is_unsure, family.names))

    def _let_go(self, family: WaitingFamily) -> None:
        """Begin to release a family's samples."""
        del self._families[family.key]
        mine = self._of_share[family.share]
        del mine[family.key]
        if not mine:
            del self._of_share[family.share]
        self._shares.remove(family.share)
        self._leaving[family.key] = family
        family.leaves = True
        self.armed += 1
        if family.samples:
            self._settle(family)

    def _send(self, emitter: Emitter, most: int | None) -> int:
        """Take up to ``most`` steps to send the samples that leave (None: all); return how many.

        The last one may be the end of a family, which takes several.
        """
        used = 0
        while (self._leaving or self._ended) and (most is None or used < most):
            if self._ended:
                used += self._equip(emitter, None if most is None else most - used)
                continue
            family = next(iter(self._leaving.values()))
            count = min(SLICE, len(family.samples))
            if most is not None:
                count = min(count, most - used)
            if count:
                self._send_some(family, count, emitter)
                used += count
                emitter.transaction.pace.pause()
            if not family.samples:
                self._end(family, emitter)
                used += FAMILY_STEPS
        return used

    def _equip(self, emitter: Emitter, most: int | None) -> int:
        """Let series of the first family that ended have their routes; return steps, at least one.

        Members count as long as they are kept.
        """
        family = self._ended[0]
        members = family.members
        keep = 0 if most is None else max(0, len(members) - MEMBERS_STEP * most)
        steps = 1 + (len(members) - keep) // MEMBERS_STEP
        while len(members) > keep:
            if not len(members) % MEMBERS_PAUSE:
                emitter.transaction.pace.pause()
            _, first = members.popitem()
            family.bytes -= SERIES_BYTES
            self._bytes -= SERIES_BYTES
            series = first.series
            if series is not None and not self._give_routes(first):
                self.outdated.append(series)
                first.rest()
            first.series = None
        if not members:
            self._ended.popleft()
        return steps

    def _send_some(self, family: WaitingFamily, count: int, emitter: Emitter) -> None:
        before = emitter.origin, emitter.position
        popleft = family.samples.popleft
        latest: IngestMark | None = None
        for _ in range(count):
            series, stamp, value, extra, origin = popleft()
            if origin is not latest:
                latest = origin
                family.last = position = origin.position
                emitter.look_at(emitter.late(origin, position), position)
            series.send(stamp, value, extra, emitter)
            series.waiting -= 1
        emitter.look_at(*before)
        project = family.key[0]
        self._samples[project] -= count
        if not self._samples[project]:
            del self._samples[project]
        self._count -= count
        family.bytes -= SAMPLE_BYTES * count
        self._bytes -= SAMPLE_BYTES * count

    def _end(self, family: WaitingFamily, emitter: Emitter) -> None:
        """Remove a family without waiting samples."""
        family.out = True
        family.names = frozenset()  # series that are not seen again keep the family
        del self._leaving[family.key]
        del self._by_root[family.key[1]][family]
        if not self._by_root[family.key[1]]:
            del self._by_root[family.key[1]]
        family.fact.version += 1
        self._ended.append(family)
        self.told.pop(family, None)
        if family.last < 0:
            return  # asked for by a request that was refused: not seen yet
        gate = emitter.gate
        is_needed = gate is None or max(family.last, family.origin.named_until) >= gate.floor
        family.needed_until = emitter.made if is_needed else -1
        emitter.release(family.origin.position)

    def _settle(self, family: WaitingFamily) -> None:
        if self._waits_for_more(family):
            self._add_settled(family.key)
            self.version += 1

    def _add_settled(self, key: Key) -> None:
        project, root = key
        if not self._settled.find(project, root):
            is_claimed = self._types.of(project).share != UNCLAIMED
            self.passes.end()  # it may take the place of another one
            self._settled.add(self._settled.part(project, claimed=is_claimed), root, True)

    def _make_room(self, emitter: Emitter) -> None:
        """Release the oldest family of the project with the most waiting samples, step by step.

        And series of families that have ended, and families that are due and have no samples.
        """
        if self._ended:
            self._equip(emitter, 1)
        oldest = next(iter(self._families.values()), None)
        if oldest is not None and not oldest.samples and oldest.due <= self.tick:
            self._let_go(oldest)
            self._end(oldest, emitter)
        # By samples alone: else they would come faster than they leave while a family ends.
        wanted = max(0, self._count - SLICE_FULL)
        while self._count > wanted:
            if not self._leaving:
                project = max(self._samples, key=self._samples.__getitem__)
                for family in self._families.values():
                    if family.key[0] == project and family.samples:
                        self._early += 1
                        self._let_go(family)
                        break
            family = next(iter(self._leaving.values()))
            count = min(self._count - wanted, len(family.samples))
            if count:
                self._send_some(family, count, emitter)
            if not family.samples:
                self._end(family, emitter)

    def __repr__(self) -> str:
        return f"<MetadataWait {len(self._families)} families wait>"
