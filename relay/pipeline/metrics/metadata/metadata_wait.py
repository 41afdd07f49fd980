"""Lets families that are new and of no known type wait a moment for what tells their type.

Senders' metadata comes in a request after the samples, and shards send ``_count`` before
``_bucket``: a sample that is resolved at once would be of one type, and the next one of another.
Rules:

* A *family in sight* is a project's names with one root: ``foo``, ``foo_total``, ``foo_bucket``,
  ``foo_count`` and so on. While metadata has not told of them, their samples wait for ``wait_s``,
  and leave in the order in which they came.
* Metadata for all names that wait lets them leave at once, with the request that brings it. What
  comes meanwhile of the family waits behind. What one project's senders say lets that project's
  families leave; what the platform says, those of all projects that know no better.
* A series that declares its type itself never waits, if it has not begun to.
* A family waits once: then it is *settled*, by its name if need be, also over restarts. One whose
  type is known never waits.
* What waits holds its position and is named in checkpoints
  (:mod:`relay.pipeline.batching.unfinished`).
* At most :data:`SLICE` samples leave in a round; the rest of a family follows in the next ones, and
  what comes of it meanwhile is put behind.
* Bounded: beyond :data:`SAMPLES_MAX` and :data:`BYTES_MAX` the oldest family of the project that
  has most in here leaves early. ``families_max`` families, and as many settled ones, are shared out
  among projects (:mod:`relay.runtime.project_shares`). Nothing is dropped.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, NamedTuple

from relay.codec.remote_write.label_parser import SeriesLabels
from relay.pipeline.batching.emitter import Emitter, SampleProcessor
from relay.pipeline.batching.transaction import IngestMark, SampleExtras
from relay.pipeline.batching.unfinished import WAITING, ReplayGate, WaitingList
from relay.pipeline.metrics.metadata.metric_types import root_of
from relay.pipeline.metrics.metadata.project_types import Declaration
from relay.pipeline.metrics.metadata.type_store import TypeStore
from relay.pipeline.routing.route import VersionedDependency
from relay.runtime.project_shares import UNCLAIMED, SharedTable, Shares

SAMPLES_MAX: Final = 200_000
SLICE: Final = 4_000
"""Some 20 ms of work."""
SLICE_FULL: Final = 2
"""Samples that leave for each one that comes, where there is no room."""
BYTES_MAX: Final = 64 * 1024 * 1024
SAMPLE_BYTES: Final = 200
SERIES_BYTES: Final = 600
"""What a sample takes while it waits, and what a series takes besides, about."""

Key = tuple[str, str]
"""A project, and the root of a family's names."""

MakeHandlers = Callable[[str, SeriesLabels, str, Declaration | None], tuple[SampleProcessor, ...]]
"""Name, labels, project and declaration to the handlers of all that a series goes to."""


@dataclass(frozen=True, slots=True)
class FirstSightStatistics:
    """``families`` and ``samples`` that wait now; families that were ``settled`` by their names,
    ``early`` ones among those that left for want of room."""

    families: int
    samples: int
    settled: int
    early: int


class _Sample(NamedTuple):
    """One that waits; ``series`` is the handler that it came by."""

    series: FirstSamples
    stamp: bytes
    value: bytes
    extra: SampleExtras | None
    origin: IngestMark


class WaitingFamily:
    """See the module's rules. A :class:`~relay.pipeline.batching.unfinished.Waiter` once it has
    samples."""

    __slots__ = (
        "bytes",
        "due",
        "fact",
        "key",
        "last",
        "names",
        "needed_until",
        "origin",
        "out",
        "samples",
        "share",
    )

    def __init__(self, key: Key, share: str, due: float) -> None:
        self.key = key
        self.share: Final = share
        """For whom it counts; see :mod:`relay.runtime.project_shares`."""
        self.due = due
        self.fact = VersionedDependency()
        self.names: set[str] = set()
        self.samples: deque[_Sample] = deque()
        self.last = -1
        """Position of the last sample that left."""
        self.bytes = 0
        self.origin = IngestMark(-1, 0.0)
        self.needed_until = WAITING
        self.out = False
        """Whether it waits no more: what comes by its handlers is sent on at once."""

    def waiting_key(self) -> bytes:
        """See :class:`~relay.pipeline.batching.unfinished.Waiter`."""
        return waiting_key(self.key)

    def __repr__(self) -> str:
        return f"<WaitingFamily {self.key} {len(self.samples)} samples>"


class FirstSamples:
    """The handler of one series of a family in sight."""

    __slots__ = ("_handlers", "_home", "declared", "family", "labels", "name")

    def __init__(
        self,
        home: MetadataWait,
        family: WaitingFamily,
        name: str,
        labels: SeriesLabels,
        declared: Declaration | None,
    ) -> None:
        self._home = home
        self._handlers: tuple[SampleProcessor, ...] | None = None
        self.family = family
        self.name = name
        self.labels = labels
        self.declared = declared
        """What the series says of itself by now."""

    def take(
        self, stamp: bytes, value: bytes, extra: SampleExtras | None, emitter: Emitter
    ) -> None:
        """See :class:`relay.pipeline.batching.emitter.SampleProcessor`."""
        if self.family.out:
            self.send(stamp, value, extra, emitter)
        else:
            self._home.put(_Sample(self, stamp, value, extra, emitter.origin), emitter)

    def send(
        self, stamp: bytes, value: bytes, extra: SampleExtras | None, emitter: Emitter
    ) -> None:
        """Hand a sample to those that its series goes to, as of now."""
        if self._handlers is None:
            self._handlers = self._home.handlers_of(self)
        for handler in self._handlers:
            handler.take(stamp, value, extra, emitter)

    def __repr__(self) -> str:
        return f"<FirstSamples of {self.name}>"


class MetadataWait:
    """All families in sight; see the module's rules. ``tick`` is the clock of emissions, in s;
    ``changed``: series must be resolved anew; ``version`` moves with what is settled."""

    def __init__(
        self,
        types: TypeStore,
        waiting: WaitingList,
        make_handlers: MakeHandlers,
        *,
        wait_s: float,
        families_max: int,
    ) -> None:
        self.tick = 0.0
        self.gate: ReplayGate | None = None
        self.changed = False
        self.version = 0
        self._types = types
        types.told = self.learned
        self._waiting = waiting
        self._make_handlers = make_handlers
        self._wait_s = wait_s
        self.enabled: Final = wait_s > 0
        """Whether anything waits at all."""
        self._shares = Shares(families_max)
        self._families: OrderedDict[Key, WaitingFamily] = OrderedDict()
        """Those that wait, by when they are due."""
        self._leaving: OrderedDict[Key, WaitingFamily] = OrderedDict()
        """Those whose samples leave, the first first."""
        self._by_root: dict[str, dict[WaitingFamily, None]] = {}
        self._told: dict[WaitingFamily, None] = {}
        """Those of which metadata came."""
        self._of_share: dict[str, OrderedDict[Key, WaitingFamily]] = {}
        """Those that wait by whom they count for, the oldest first."""
        self._settled: SharedTable[str, bool] = SharedTable(families_max)
        """Roots by project."""
        self._samples: dict[str, int] = {}
        """That wait, by project, and ``_count`` in all."""
        self._count = 0
        self._bytes = 0
        self._early = 0

    def family(self, name: str, project: str) -> WaitingFamily | None:
        """The family that a series of this name has to wait with; None where it need not."""
        key = project, root_of(name)
        known = self._families.get(key) or self._leaving.get(key)
        if known is not None:
            known.names.add(name)
            return known
        gate = self.gate
        has_waited = gate is not None and not gate.crossed and gate.knows(waiting_key(key))
        types = self._types.of(project)
        if not has_waited and (self._settled.find(*key) or not types.is_unsure(name)):
            return None
        giver = self._shares.must_evict(types.share)
        if giver == types.share:
            return None  # it has its share of those that wait
        if giver is not None:
            self._early += 1
            self._let_go(next(iter(self._of_share[giver].values())))
        made = WaitingFamily(key, types.share, self.tick + self._wait_s)
        made.names.add(name)
        self._families[key] = self._of_share.setdefault(made.share, OrderedDict())[key] = made
        self._shares.add(made.share)
        self._by_root.setdefault(key[1], {})[made] = None
        return made

    def handler(
        self,
        family: WaitingFamily,
        name: str,
        labels: SeriesLabels,
        declared: Declaration | None,
    ) -> tuple[SampleProcessor, ...]:
        """The handlers of a series that waits with its family."""
        family.bytes += SERIES_BYTES
        self._bytes += SERIES_BYTES
        return (FirstSamples(self, family, name, labels, declared),)

    def handlers_of(self, series: FirstSamples) -> tuple[SampleProcessor, ...]:
        """Where a series' samples go that have waited."""
        return self._make_handlers(
            series.name, series.labels, series.family.key[0], series.declared
        )

    def learned(self, project: str, family: str) -> None:
        """A project knows something else now of a family of this name; "": the platform does, or
        everybody without tenancy."""
        for root in (family, root_of(family)):
            if not project:
                self._told |= self._by_root.get(root, {})
                continue
            told = self._families.get((project, root))
            if told is not None:
                self._told[told] = None

    def put(self, sample: _Sample, emitter: Emitter) -> None:
        """Let a sample wait."""
        family, origin = sample.series.family, sample.origin
        if emitter.gate is not None and emitter.gate.has_waited(
            origin.position, family.waiting_key()
        ):
            origin = replace(origin, waited=True)
            sample = sample._replace(origin=origin)
        if family.origin.position < 0:
            family.origin = origin
            emitter.hold()
            self._waiting.add(family)
        elif origin.waited and not family.origin.waited:
            family.origin = replace(family.origin, waited=True)
        family.samples.append(sample)
        family.bytes += SAMPLE_BYTES
        self._bytes += SAMPLE_BYTES
        project = family.key[0]
        self._samples[project] = self._samples.get(project, 0) + 1
        self._count += 1
        if self._bytes > BYTES_MAX or self._count > SAMPLES_MAX:
            self._make_room(emitter)

    def release_told(self, emitter: Emitter) -> None:
        """Let those leave of whose names metadata has told all."""
        told, self._told = self._told, {}
        for family in told:
            if family.key in self._families and not self._waits_for_more(family):
                self._let_go(family)
        self._send(emitter, SLICE)

    def expire(self, tick: float, emitter: Emitter) -> None:
        """Let those leave that have waited long enough."""
        while self._families:
            family = next(iter(self._families.values()))
            if family.due > tick:
                break
            self._let_go(family)
        self._send(emitter, SLICE)

    def finish(self, emitter: Emitter) -> None:
        """Let all leave: nothing more will come."""
        while self._families:
            self._let_go(next(iter(self._families.values())))
        self._send(emitter, None)

    def end_collecting(self, emitter: Emitter) -> None:
        """A replay has come to where everybody needs everything: what had left before the process
        ended leaves, and what is known by now."""
        for family in list(self._families.values()):
            known = not self._waits_for_more(family)
            if family.samples and (known or not family.origin.waited):
                self._let_go(family)
        self._send(emitter, None)

    def next_due(self) -> float | None:
        """When the next family has waited long enough, or None."""
        if self._leaving:
            return self.tick
        return next((family.due for family in self._families.values()), None)

    def take_changed(self) -> bool:
        """Whether families have left since this was asked last: their series go other ways."""
        changed, self.changed = self.changed, False
        return changed

    def settled(self) -> list[Key]:
        """The families that need not wait any more, though metadata told nothing; a copy."""
        return [
            (part.project, root)
            for part in self._settled.parts()
            for root in (*part.old, *part.young)
        ]

    def recall(self, settled: Iterable[Key]) -> None:
        """Know again which families were settled before a restart."""
        for key in settled:
            self._add_settled(key)

    def statistics(self) -> FirstSightStatistics:
        """A snapshot."""
        return FirstSightStatistics(
            len(self._families) + len(self._leaving),
            self._count,
            len(self._settled),
            self._early,
        )

    def _waits_for_more(self, family: WaitingFamily) -> bool:
        """Whether there are names of which metadata has not told."""
        types = self._types.of(family.key[0])
        return any(map(types.is_unsure, family.names))

    def _let_go(self, family: WaitingFamily) -> None:
        """Let a family's samples begin to leave."""
        del self._families[family.key]
        mine = self._of_share[family.share]
        del mine[family.key]
        if not mine:
            del self._of_share[family.share]
        self._shares.remove(family.share)
        self._leaving[family.key] = family
        if family.samples:
            self._settle(family)

    def _send(self, emitter: Emitter, most: int | None) -> None:
        """Send so many samples of those that leave (None: all)."""
        left = most
        while self._leaving and (left is None or left > 0):
            family = next(iter(self._leaving.values()))
            count = len(family.samples) if left is None else min(left, len(family.samples))
            if count:
                self._send_some(family, count, emitter)
            if left is not None:
                left -= count
            if not family.samples:
                self._end(family, emitter)

    def _send_some(self, family: WaitingFamily, count: int, emitter: Emitter) -> None:
        before = emitter.origin, emitter.position
        for _ in range(count):
            series, stamp, value, extra, origin = family.samples.popleft()
            family.last = position = origin.position
            emitter.look_at(emitter.late(origin, position), position)
            series.send(stamp, value, extra, emitter)
        emitter.look_at(*before)
        project = family.key[0]
        self._samples[project] -= count
        if not self._samples[project]:
            del self._samples[project]
        self._count -= count
        family.bytes -= SAMPLE_BYTES * count
        self._bytes -= SAMPLE_BYTES * count

    def _end(self, family: WaitingFamily, emitter: Emitter) -> None:
        """Nothing of a family waits any more."""
        family.out = True
        del self._leaving[family.key]
        del self._by_root[family.key[1]][family]
        if not self._by_root[family.key[1]]:
            del self._by_root[family.key[1]]
        family.fact.version += 1
        self.changed = True
        self._bytes -= family.bytes
        if family.last < 0:
            return  # asked for by a request that was refused: not seen yet
        gate = emitter.gate
        is_needed = gate is None or family.origin.waited or family.last >= gate.floor
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
            self._settled.add(self._settled.part(project, claimed=is_claimed), root, True)

    def _make_room(self, emitter: Emitter) -> None:
        """Let the oldest family of the project leave that has most in here, step by step."""
        if not self._leaving:
            project = max(self._samples, key=self._samples.__getitem__)
            for family in self._families.values():
                if family.key[0] == project and family.samples:
                    self._early += 1
                    self._let_go(family)
                    break
        self._send(emitter, SLICE_FULL)

    def __repr__(self) -> str:
        return f"<MetadataWait {len(self._families)} families wait>"


def waiting_key(key: Key) -> bytes:
    """Name what waits of a family, the same in every process."""
    text = f"first sight {key!r}".encode(errors="surrogatepass")
    return blake2b(text, digest_size=16).digest()
