"""Reassembles classic histograms and summaries from their series.

A *family* is a name with one set of labels, without ``le``, ``vmrange`` and ``quantile``. Its
components for one time are a *set*; they arrive in any order, in several requests. Rules:

* A set leaves when its expected components are there, or after ``wait_s``. Components are learned:
  a family's first set waits; one missing
  :data:`~relay.pipeline.metrics.histograms.group.MISSES_MAX` times is no longer expected.
* A time has at most one point: a sample for a time that has left counts as late. Sets of a family
  leave in order of time.
* A source takes a family whole if its selector accepts ``_count``, ``_sum``, a ``_bucket`` of any
  bound and every component seen. Other sources get matching components as number points.
* A set holds the ingest position of its first sample until its point is in a batch; checkpoints
  list it (:mod:`relay.pipeline.batching.unfinished`).
* Bounds: ``families_max`` (least recently used are evicted), ``MEMBERS_MAX`` and ``SETS_MAX`` per
  family, ``samples_max`` waiting samples, twice as many until projects above their share open a
  set. Beyond, the oldest sets leave early. Both are shared among projects
  (:mod:`relay.runtime.project_shares`).
* Every sample has one outcome: ``assembled``, or a drop reason, counted for its sinks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from relay.codec.otlp.metrics import MetricIdentity
from relay.codec.remote_write.v1 import Labels
from relay.pipeline.batching.emitter import Emitter, Stream
from relay.pipeline.batching.transaction import DeferredSample, IngestMark, SampleExtras
from relay.pipeline.batching.unfinished import WaitingList
from relay.pipeline.drop_counters import DropTable
from relay.pipeline.metrics.histograms.build_point import FamilyKey
from relay.pipeline.metrics.histograms.counters import FamilyEpoch, Outcomes
from relay.pipeline.metrics.histograms.group import SETS_MAX, Component, Family, PendingPoint
from relay.pipeline.metrics.histograms.project_state import (
    COUNT_EVERY,
    AssemblyStatistics,
    ProjectSets,
)
from relay.pipeline.metrics.metadata.metric_types import Typing
from relay.pipeline.metrics.translate.target_info import TargetInfoStore
from relay.pipeline.routing.match_set import MatchedSource, SinkCounter, SinkOutputSpec
from relay.pipeline.routing.route import RouteChanges
from relay.pipeline.routing.router import Router
from relay.runtime.project_shares import SharedTable
from relay.selector.matchers import NAME

MakeStreams = Callable[[Labels, str, MetricIdentity, Iterable[SinkOutputSpec]], tuple[Stream, ...]]
"""Labels, project, identity and targets to streams."""

Members = tuple[tuple[str, str], ...]
"""Components of a family: part and text of the bound of each."""

_BOUND_LABELS = {"bucket": ("le", "vmrange"), "quantile": ("quantile",)}
_PROBES = {
    "histogram": (("_count", "", ""), ("_sum", "", ""), ("_bucket", "le", "+Inf")),
    "summary": (("_count", "", ""), ("_sum", "", ""), ("", "quantile", "0.5")),
}
"""Labels a source must accept to get a family whole, besides the known components."""


_Deadline = tuple[float, Family, PendingPoint]
_SETTLED_MAX = 1_000
"""Deadlines of sets that are gone, beyond as many as wait, before they are swept."""


class Discard:
    """Counts the samples of series that become no point as drops of their sinks."""

    __slots__ = ("_assembly", "_family", "_reason", "_sinks")

    def __init__(
        self, assembly: Assembly, family: str, reason: str, sinks: tuple[SinkCounter, ...]
    ) -> None:
        self._assembly = assembly
        self._family = family
        self._reason = reason
        self._sinks = sinks

    def take(
        self, stamp: bytes, value: bytes, extra: SampleExtras | None, emitter: Emitter
    ) -> None:
        """Count the sample as dropped."""
        del stamp, value, extra, emitter
        self._assembly.drop(self._family, self._reason, 1, self._sinks)

    def __repr__(self) -> str:
        return f"<Discard {self._reason}>"


class _Parting(NamedTuple):
    """A family that sinks lost during decoding, when ``at`` samples were deferred."""

    family: Family
    sinks: tuple[SinkCounter, ...]
    at: int


class Enrolment(NamedTuple):
    """A series' place in a family, and the handler of its samples for the family's sources."""

    family: Family
    handler: Component | Discard


class Assembly:
    """All families of histograms and summaries; ``changes``: resolve series anew."""

    def __init__(
        self,
        router: Router,
        resources: TargetInfoStore,
        make_streams: MakeStreams,
        waiting: WaitingList,
        drops: DropTable,
        *,
        wait_s: float = 10.0,
        families_max: int = 200_000,
        samples_max: int = 2_000_000,
    ) -> None:
        assert families_max >= 2
        self.epoch = FamilyEpoch()  # of families that have no project's yet
        self.changes = RouteChanges()
        self.outcomes = Outcomes()
        """Of samples that are of no project's families."""
        self._router = router
        self._resources = resources
        self._make_streams = make_streams
        self._waiting = waiting
        self._drops = drops
        self.deferred: Sequence[DeferredSample] = ()
        """Samples of the request that is decoded now, which are not taken yet."""
        self._partings: list[_Parting] = []
        self._wait_s = wait_s
        self._samples_max = samples_max
        self._leaving: list[Family] = []
        self._families: SharedTable[FamilyKey, Family] = SharedTable(
            families_max, forgets=self._leaving.append, make_epoch=FamilyEpoch
        )
        self._projects: dict[str, ProjectSets] = {}
        self._kept_deadlines = self.armed = 0
        """Deadlines when cleaned last of sets that left; ``armed``: those set since the start."""
        self._deadlines: deque[_Deadline] = deque()
        self.layouts: dict[bytes, Members] = {}
        """Components of steady families, by digest; saved: they need not be learned again."""
        self.layouts_version = 0
        self._recalled: dict[bytes, Members] = {}

    def enrol(
        self,
        labels: Mapping[str, str],
        project: str,
        typing: Typing,
        matched: Iterable[MatchedSource],
    ) -> Enrolment | None:
        """Return a series' place in its family, or None if no source takes the family whole.

        ``matched`` are the sources that this series matched: only these can take the whole family.
        """
        assert typing.family is not None
        bound = next((key for key in _BOUND_LABELS.get(typing.part, ()) if key in labels), "")
        if typing.part in _BOUND_LABELS and not bound:
            return None
        family = self._family(labels, project, typing.family, bound)
        if family.identity != typing.family:
            family.identity = typing.family
            family.streams = None
        self._route(family)
        fewer = family.sources.intersection(matched)
        if fewer != family.sources:
            self._part(family, family.sources - fewer)
            family.sources = fewer
            family.counters = _counters(family)
            family.streams = None
            family.fact.version += 1
            self.changes.pending = True
        if not fewer:
            return None
        member = family.member(bound or typing.part, labels.get(bound, ""))
        if member is None:
            sinks = tuple(self._sinks(family))
            name = family.identity.name
            return Enrolment(family, Discard(self, name, "too_many_members", sinks))
        return Enrolment(family, member)

    def note_members(self, family: Family) -> None:
        """Store the components of a family for the time after a restart."""
        digest = family.digest()
        known = self.layouts.get(digest)
        if known is None or len(known) != len(family.members):
            self.layouts[digest] = tuple(family.members)
            self.layouts_version += 1

    def forget(self, project: str, most: int) -> int:
        """Evict up to so many families of a project that is gone; return how many."""
        self.layouts_version += 1
        return self._families.forget(project, most)

    def recall_layouts(self, layouts: Mapping[bytes, Members]) -> None:
        """Restore the components of families from before a restart; before the first request."""
        self._recalled = dict(layouts)
        self.layouts = dict(layouts)

    def keep(self, family: Family, emitter: Emitter) -> Family | None:
        """Mark a family as used by one sample; return the present family of its key, or None."""
        part = self._project(family.key.project).part
        known = part.find(family.key)
        if known is None:
            known = family
            self._families.add(part, family.key, family)
        else:
            part.touch(family.key)
        known.epoch = part.epoch.number
        self._let_go(emitter)
        if known is not family and known.sources != family.sources:
            self.lose(family, "taken_apart", 1)
            family.fact.version += 1
            self.changes.pending = True
            return None
        return known

    def open(self, family: Family, time_ns: int, stamp: bytes, emitter: Emitter) -> PendingPoint:
        """Open a set; send the oldest sets early if there are too many."""
        sets = family.sets
        if len(sets) >= SETS_MAX:
            self._force(family, sets[min(sets)], emitter)
        self._skip_settled()
        project = self._project(family.key.project)
        self._make_room(project, emitter)
        if len(self._deadlines) > 2 * self._kept_deadlines + _SETTLED_MAX:
            # Entries behind a waiting one may include any number of sets that already left.
            self._deadlines = deque(entry for entry in self._deadlines if not entry[2].gone)
            self._kept_deadlines = len(self._deadlines)
        origin = emitter.origin
        if origin.came >= 0:  # it has waited before
            origin = IngestMark(origin.came, origin.arrived_at, origin.named_until)
        opened = sets[time_ns] = PendingPoint(family, time_ns, stamp, origin)
        if emitter.gate is not None:
            opened.origin = emitter.gate.mark(opened.origin, opened.waiting_key())
        self._waiting.add(opened)
        project.outcomes.sets += 1
        project.sets.append((family, opened))
        emitter.hold()
        self._deadlines.append((emitter.tick + self._wait_s, family, opened))
        self.armed += 1
        return opened

    def streams(self, family: Family) -> tuple[Stream, ...]:
        """Return the streams of a family's points, routed anew if exporters changed."""
        self._route(family)
        if family.streams is None or family.translated != family.resource.version:
            # A set keeps no order, but a sink's batches want one.
            sources = sorted(family.sources, key=lambda source: source.sequence)
            targets = _outputs(family, sources)
            family.streams = self._make_streams(
                family.labels, family.key.project, family.identity, targets
            )
            family.translated = family.resource.version
        return family.streams

    def sources_with(self, key: FamilyKey, time_ns: int) -> frozenset[MatchedSource]:
        """Return the sources that take a family whole, if it has or expects a set for this time.

        Expected: sets come at intervals, at most one and a half of them since the last.
        """
        family = self._families.find(key.project, key)
        if family is None:
            return frozenset()
        recent = family.recent
        is_there = time_ns in family.sets or time_ns in recent
        if not is_there and len(recent) > 1:
            interval = recent[-1] - recent[-2]
            is_there = recent[-1] < time_ns <= recent[-1] + interval * 3 // 2
        return family.sources if is_there else frozenset()

    def drop(self, family: str, reason: str, samples: int, sinks: Collection[SinkCounter]) -> None:
        """Count samples that are in no point as drops of these sinks."""
        self.outcomes.count(reason, samples)
        self._drops.count(family, reason, samples, sinks)

    def lose(self, family: Family, reason: str, samples: int) -> None:
        """Count samples that are in no point as drops of all sinks of a family."""
        self.drop(family.identity.name, reason, samples, self._sinks(family))

    def commit_partings(self) -> None:
        """Count the deferred samples of sinks that lost their family during decoding.

        The request was good; :attr:`deferred` is all that it deferred.
        """
        if self._partings:
            of_family: dict[Family, list[_Parting]] = {}
            for parting in self._partings:
                of_family.setdefault(parting.family, []).append(parting)
            self._partings.clear()
            for number, (handlers, *_) in enumerate(self.deferred):
                for handler in handlers:
                    if isinstance(handler, Component):
                        for family, sinks, at in of_family.get(handler.family, ()):
                            if number < at:
                                self._drops.count(family.identity.name, "taken_apart", 1, sinks)
        self.deferred = ()

    def forget_partings(self) -> None:
        """Discard the noted losses: the request was refused."""
        self._partings.clear()

    def expire(self, tick: float, emitter: Emitter) -> None:
        """Send the sets whose wait is over; ``tick`` is the emitter's clock, s."""
        while self._deadlines and self._deadlines[0][0] <= tick:
            _, family, pending = self._deadlines.popleft()
            if not pending.gone:
                pending.due = True
                if not emitter.collecting:
                    family.settle(emitter)

    def leave_late(self, done: PendingPoint, emitter: Emitter) -> IngestMark:
        """Return the mark for the point of a set that leaves after its last sample came."""
        gate = emitter.gate
        if gate is not None and max(done.last, done.origin.named_until) < gate.floor:
            done.needed_until = -1
            return replace(done.origin, position=emitter.made, came=done.last)
        if self._waiting.full and done.origin.named_until < 0:
            # The waiting list is full: the point keeps its real age, and holds back its sinks.
            emitter.tie(done.origin.position, done.last)
            done.needed_until = -1
            return replace(done.origin, position=done.last)
        origin = emitter.late(done.origin, done.last)
        done.needed_until = origin.position
        return origin

    def end_collecting(self, pending: PendingPoint, emitter: Emitter) -> None:
        """Send the sets that left before the process ended, and those complete by now."""
        if pending.gone:
            return
        if emitter.gate is not None and emitter.gate.had_left(pending.origin):
            # The set had left in this state before the restart: no more components come.
            pending.family.send(pending, emitter)
        pending.family.settle(emitter, at_end=True)

    def finish(self, emitter: Emitter) -> None:
        """Send all sets; no samples follow."""
        while self._deadlines:
            _, family, pending = self._deadlines.popleft()
            self._force(family, pending, emitter)

    def next_due(self) -> float | None:
        """Return the tick at which the next set's wait is over, or None."""
        self._skip_settled()
        return self._deadlines[0][0] if self._deadlines else None

    def take_changed(self) -> bool:
        """Return True if sources lost a family since the last call; its series need new routes."""
        pending, self.changes.pending = self.changes.pending, False
        return pending

    def statistics(self) -> AssemblyStatistics:
        """Return a snapshot."""
        everything = (self.outcomes, *(one.outcomes for one in self._projects.values()))
        by_name: dict[str, int] = {}
        for one in everything:
            for name, samples in one.by_name.items():
                by_name[name] = by_name.get(name, 0) + samples
        return AssemblyStatistics(
            len(self._families),
            sum(one.waiting for one in everything),
            sum(one.points for one in everything),
            by_name,
        )

    def _family(
        self, labels: Mapping[str, str], project: str, identity: MetricIdentity, bound: str
    ) -> Family:
        base = tuple(sorted(pair for pair in labels.items() if pair[0] not in (NAME, bound)))
        key = FamilyKey(project, identity.kind, identity.name, base)
        own = self._project(project)
        family = own.part.find(key)
        if family is None:
            named = sorted([(NAME, identity.name), *base])
            family = Family(self, key, identity, named, self._resources.find(labels, project))
            family.outcomes = own.outcomes
            family.now = own.part.epoch  # type: ignore[assignment]  # the table makes such
            # Sets of a family evicted for another leave with the next round: only a round may send.
            self._families.add(own.part, key, family)
            if self._recalled:
                self._expect(family, self._recalled.pop(family.digest(), ()))
        return family

    @staticmethod
    def _expect(family: Family, members: Members) -> None:
        """Expect of a family the components that it had before."""
        for part, text in members:
            member = family.member(part, text)
            if member is not None:
                member.expected = True
                family.expected += 1
        if members:
            family.is_steady = True
            family.reckon()

    def _route(self, family: Family) -> None:
        """Find the sources that take the family whole, after exporters changed."""
        if family.is_routed:
            return
        family.streams = None
        base = dict(family.key.labels)
        match_sets = []
        for suffix, label, value in _PROBES[family.identity.kind]:
            probe = {**base, NAME: family.identity.name + suffix}
            if label:
                probe[label] = value
            match_sets.append(self._router.match(probe, family.key.project)[0])
        family.probes = tuple(match_sets)
        family.routed = match_sets[0].project_epoch.version
        before = family.counters
        typed = frozenset(source for source in match_sets[0].matched if source.typed)
        family.sources = typed.intersection(*(match_set.matched for match_set in match_sets[1:]))
        family.counters = _counters(family)
        family.fact.version += 1
        waiting = family.leaving + sum(pending.taken for pending in family.sets.values())
        if waiting:
            self._drops.hand_waiting_over(family.identity.name, waiting, before, family.counters)

    def _sinks(self, family: Family) -> list[SinkCounter]:
        """Return the counters of all sinks that get the family's points."""
        return [outlet.counter for stream in self.streams(family) for outlet in stream.outlets]

    def _part(self, family: Family, sources: Iterable[MatchedSource]) -> None:
        """Remove sources that do not accept every component: they get numbers from now on."""
        sinks = tuple(output.counter for output in _outputs(family, sources))
        waiting = sum(pending.taken for pending in family.sets.values())
        if waiting:
            self._drops.count(family.identity.name, "taken_apart", waiting, sinks)
        self._partings.append(_Parting(family, sinks, len(self.deferred)))

    def _force(self, family: Family, pending: PendingPoint, emitter: Emitter) -> None:
        """Send a set, and the older ones of its family, without waiting."""
        for time_ns, older in family.sets.items():
            if time_ns <= pending.time_ns:
                older.due = True
        family.settle(emitter)

    def _skip_settled(self) -> None:
        while self._deadlines and self._deadlines[0][2].gone:
            self._deadlines.popleft()

    def _let_go(self, emitter: Emitter) -> None:
        """Send the waiting sets of evicted families."""
        while self._leaving:
            family = self._leaving.pop()
            self.layouts.pop(family.digest(), None)
            for pending in family.sets.values():
                pending.due = True
            family.settle(emitter)

    def _make_room(self, project: ProjectSets, emitter: Emitter) -> None:
        """Send the oldest sets of a project that has its share of waiting samples."""
        sets = project.sets
        while sets and sets[0][1].gone:
            sets.popleft()
        if len(sets) > 2 * project.outcomes.sets + _SETTLED_MAX:
            project.sets = sets = deque(entry for entry in sets if not entry[1].gone)
        even = self._samples_max // len(self._projects)
        if project.outcomes.waiting < even:
            return
        if project.recount == 0:
            project.recount = COUNT_EVERY
            total = sum(one.outcomes.waiting for one in self._projects.values())
            project.others = total - project.outcomes.waiting
        project.recount -= 1
        while project.outcomes.waiting + project.others >= self._samples_max and sets:
            self._force(*sets.popleft(), emitter)
            while sets and sets[0][1].gone:
                sets.popleft()

    def _project(self, project: str) -> ProjectSets:
        found = self._projects.get(project)
        if found is None:
            found = self._projects[project] = ProjectSets(self._families.part(project))
        return found

    def __repr__(self) -> str:
        return f"<Assembly {self._families!r}>"


def _outputs(family: Family, sources: Iterable[MatchedSource]) -> list[SinkOutputSpec]:
    """Return the outputs that get the family's points from the sources, in their order."""
    kind = family.identity.kind
    return [
        target
        for source in sources
        for target in source.typed
        if kind not in target.options.unsupported
    ]


def _counters(family: Family) -> tuple[SinkCounter, ...]:
    return tuple(output.counter for output in _outputs(family, family.sources))
