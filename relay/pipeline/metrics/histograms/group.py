"""One histogram or summary of one set of labels, while its members come in.

The rules of :mod:`relay.pipeline.metrics.histograms.assembler` for a single family: which samples
are of one time, when a set of them is complete, in which order sets leave and what is too late.
"""

from __future__ import annotations

from bisect import insort
from hashlib import blake2b

from relay.codec.otlp.data_points import STALE, Exemplar, HistogramPoint, SummaryPoint
from relay.codec.otlp.metrics import MetricIdentity
from relay.codec.remote_write.v1 import Labels
from relay.pipeline.batching.emitter import Emitter, Stream
from relay.pipeline.batching.transaction import DeferredSample, IngestMark, SampleExtras
from relay.pipeline.batching.unfinished import WAITING
from relay.pipeline.metrics.histograms.build_point import (
    FamilyKey,
    Layout,
    Refusal,
    Slots,
    layout_of,
    parse_bound,
    parse_range,
    point_of,
    ranges_add_up,
)
from relay.pipeline.metrics.histograms.counters import Home
from relay.pipeline.metrics.translate.target_info import Resource
from relay.pipeline.routing.match_set import MatchedSource, MatchSet, SinkCounter
from relay.pipeline.routing.route import VersionedDependency

MEMBERS_MAX = 512
"""Of one family. Backends take far fewer buckets; Prometheus' own have up to 40."""
SETS_MAX = 128
"""Times of one family that may wait at once: for a shard half an hour of scrapes behind."""
RECENT_MAX = 16
"""Finished times that are remembered one by one; a sample older than these is late."""
MISSES_MAX = 3
EXEMPLARS_MAX = 128
"""Of one set."""
DIGEST_BYTES = 12
_NEVER = MEMBERS_MAX + 1  # more members than there can be


class PendingPoint:
    """The members of a family that came for one time: their values, by :attr:`Component.slot`.

    ``taken``: their number. ``stamp``: the time as samples have it. ``last``: offset of the last
    one. ``due``: waits no longer. ``gone``: has left. A ``Waiter`` (batching.unfinished).
    """

    __slots__ = (
        "due",
        "exemplars",
        "family",
        "gone",
        "last",
        "needed_until",
        "origin",
        "slots",
        "stamp",
        "start_ns",
        "taken",
        "time_ns",
    )

    def __init__(self, family: Family, time_ns: int, stamp: bytes, origin: IngestMark) -> None:
        self.family = family
        self.time_ns = time_ns
        self.stamp = stamp
        self.origin = origin
        self.last = origin.position
        self.needed_until = WAITING
        self.due = self.gone = False
        self.start_ns = 0
        self.exemplars: tuple[Exemplar, ...] = ()
        self.slots: Slots = [None] * len(family.members)
        self.taken = 0

    def waiting_key(self) -> bytes:
        """Return the set's key, the same in every process."""
        return self.family.digest() + self.stamp[:8]


class Component:
    """One series of a family, as the handler of its samples. Compared by identity.

    ``slot`` is its place in every set, ``order`` sorts members of one kind; ``missed`` counts the
    sets in a row that it was not in, and ``expected`` says whether sets wait for it.
    """

    __slots__ = ("expected", "family", "missed", "order", "part", "slot", "text")

    def __init__(self, family: Family, part: str, text: str, slot: int) -> None:
        self.family = family
        self.part = part
        self.text = text
        self.slot = slot
        self.expected = False
        self.missed = 0
        self.order = parse_range(text) if part == "vmrange" else (parse_bound(text), 0.0)

    def take(
        self, stamp: bytes, value: bytes, extra: SampleExtras | None, emitter: Emitter
    ) -> None:
        """Put the sample into the family's set for its time."""
        family = self.family
        if family.epoch == family.now.number:
            pending = family.latest
            if (
                pending is None
                or extra is not None
                or pending.stamp != stamp
                or pending.slots[self.slot] is not None
            ):
                family.take(self, stamp, value, extra, emitter)
                return
            pending.slots[self.slot] = value
            pending.taken += 1
            pending.last = emitter.position
            family.outcomes.waiting += 1
            if pending.taken >= family.needed and not emitter.collecting:
                family.settle(emitter)
            return
        # If the family was evicted and created anew meanwhile, use the present one.
        current = family.home.keep(family, emitter)
        if current is None:
            return
        member = self if current is family else current.member(self.part, self.text)
        if member is None:
            current.home.lose(current, "too_many_members", 1)
        else:
            current.take(member, stamp, value, extra, emitter)

    def __repr__(self) -> str:
        return f"<Component {self.part} {self.text!r} of {self.family!r}>"


class Family:
    """One histogram or summary of one set of labels; see the module's rules.

    ``sources`` take it as a whole, and ``fact`` changes when they become fewer.
    """

    __slots__ = (
        "_digest",
        "counters",
        "epoch",
        "expected",
        "fact",
        "floor_ns",
        "home",
        "identity",
        "is_cumulative",
        "is_laid_out",
        "is_ranged",
        "is_steady",
        "key",
        "labels",
        "latest",
        "layout",
        "leaving",
        "members",
        "needed",
        "now",
        "outcomes",
        "probes",
        "recent",
        "resource",
        "routed",
        "sets",
        "sources",
        "streams",
        "translated",
    )

    def __init__(
        self,
        home: Home,
        key: FamilyKey,
        identity: MetricIdentity,
        labels: Labels,
        resource: Resource,
    ) -> None:
        self.home = home
        self.outcomes = home.outcomes
        self.now = home.epoch
        self.fact = VersionedDependency()
        self.key = key
        self.labels = labels
        self.resource = resource
        self.identity = identity
        self.is_cumulative = self.is_ranged = False
        """Bucket labels seen: ``le``, or only ``vmrange``, which is ignored beside ``le``."""
        self.sources: frozenset[MatchedSource] = frozenset()
        self.counters: tuple[SinkCounter, ...] = ()  # of what the sources feed
        self.probes: tuple[MatchSet, ...] = ()
        """Match sets of the names that it must have matched, at router version ``routed``."""
        self.routed = -1
        self.translated = -1
        self.streams: tuple[Stream, ...] | None = None
        self.epoch = -1
        self._digest = b""
        self.members: dict[tuple[str, str], Component] = {}
        self.expected = 0  # number of expected components
        self.needed = _NEVER  # least number of components in a complete set
        self.is_steady = False
        """True if all components are expected and none was missing lately."""
        self.layout: Layout | None = None
        self.is_laid_out = False
        """True if ``layout`` belongs to the present components; a layout may be None."""
        self.sets: dict[int, PendingPoint] = {}
        self.latest: PendingPoint | None = None  # the set of the last sample, if still here
        self.leaving = 0  # samples of the set that is being sent
        self.recent: list[int] = []  # times that left lately, ns, ascending
        self.floor_ns = 0

    @property
    def is_routed(self) -> bool:
        """Return True if ``sources`` are up to date with the exporters."""
        for match_set in self.probes:
            if match_set.project_epoch.version != self.routed:
                return False
        return bool(self.probes)

    def digest(self) -> bytes:
        """Return the digest of the family's key, the same in every process."""
        if not self._digest:
            text = repr(tuple(self.key)).encode(errors="surrogatepass")
            self._digest = blake2b(text, digest_size=DIGEST_BYTES).digest()
        return self._digest

    def member(self, part: str, text: str) -> Component | None:
        """Return the component with this bound; None if there are too many."""
        known = self.members.get((part, text))
        if known is None and len(self.members) < MEMBERS_MAX:
            known = self.members[part, text] = Component(self, part, text, len(self.members))
            for pending in self.sets.values():
                pending.slots.append(None)
            self.is_cumulative |= part == "le"
            self.is_ranged = (self.is_ranged or part == "vmrange") and not self.is_cumulative
            self.is_steady = self.is_laid_out = False
            self.reckon()
        return known

    def take(
        self,
        member: Component,
        stamp: bytes,
        value: bytes,
        extra: SampleExtras | None,
        emitter: Emitter,
    ) -> None:
        """Put a sample into the set of its time, and send the sets that are complete."""
        time_ns = int.from_bytes(stamp[:8], "little")
        pending = self.sets.get(time_ns)
        if pending is None:
            if time_ns <= self.floor_ns or time_ns in self.recent:
                self._expect(member)  # sets to come wait for it
                self.home.lose(self, "late", 1)
                return
            pending = self.home.open(self, time_ns, stamp, emitter)
        self.latest = pending
        slots = pending.slots
        known = slots[member.slot]
        if known is not None:
            self.home.lose(self, "duplicate" if known == value else "conflict", 1)
            return
        slots[member.slot] = value
        pending.taken += 1
        pending.last = emitter.position
        self.outcomes.waiting += 1
        if extra is not None:
            pending.start_ns = max(pending.start_ns, extra.start_ns)
            pending.exemplars = (pending.exemplars + extra.exemplars)[:EXEMPLARS_MAX]
        if pending.taken >= self.needed and not emitter.collecting:
            self.settle(emitter)

    def settle(self, emitter: Emitter, at_end: bool = False) -> None:
        """Send sets, oldest first, up to the first that must wait; ``at_end`` of a request."""
        while self.sets:
            oldest = self.sets[min(self.sets)]
            if not oldest.due and not self._complete(oldest, at_end):
                if self.is_ranged and not at_end:
                    emitter.settle_at_end(self)
                return
            self.send(oldest, emitter)

    def _complete(self, pending: PendingPoint, at_end: bool = False) -> bool:
        slots = pending.slots
        if not self.expected:
            return False
        if self.is_ranged:
            # Only non-empty buckets exist, so a new one may come at any time; they are complete
            # when they add up to the count. Without a count, the end of the request decides.
            head = self.members.get(("count", "")), self.members.get(("sum", ""))
            for member in head:
                if member is not None and member.expected and slots[member.slot] is None:
                    return False
            whole = slots[head[0].slot] if head[0] is not None else None
            if whole is not None and whole != STALE:
                return ranges_add_up(whole, self._values(pending, "vmrange"))
            if not at_end:
                return False
        if pending.taken == len(slots):
            return True
        if pending.taken < self.expected:
            return False
        for member in self.members.values():
            if member.expected and slots[member.slot] is None:
                return False
        return True

    def send(self, done: PendingPoint, emitter: Emitter) -> None:
        """Remove a set: send its point, or count why it has none."""
        outcomes = self.outcomes
        del self.sets[done.time_ns]
        self.leaving = done.taken
        done.gone = True
        if self.latest is done:
            self.latest = None
        self._remember(done.time_ns)
        outcomes.sets -= 1
        outcomes.waiting -= done.taken
        first = done.origin.position
        emitter.release(first)
        if done.last == emitter.own:
            origin = emitter.origin
            done.needed_until = -1
            if first != done.last:
                emitter.tie(first, done.last)
        else:
            origin = self.home.leave_late(done, emitter)
        if not (
            self.is_steady
            and done.taken == len(done.slots)
            and not done.exemplars
            and self._send_usual(done.slots, done.time_ns, done.start_ns, origin, emitter)
        ):
            self._learn(done)
            point = self._point(done)
            is_sent = False
            if isinstance(point, str):
                self.home.lose(self, point, done.taken)
            else:
                for stream in self._wanted(done.taken):
                    is_sent |= stream.push(point, origin, emitter, done.taken)
            emitter.transaction.note_exemplars(len(done.exemplars), is_sent)
        done.slots = []
        self.leaving = 0

    def take_run(self, deferred: list[DeferredSample], at: int, emitter: Emitter) -> int:
        """Send a set whose samples follow one another from ``at``, as scrapes send them.

        Return the number of samples. 0 for anything else, with nothing changed: the first sample
        then opens a set, so no sample is read here more than once.
        """
        members = len(self.members)
        stop = at + members
        if not self.is_steady or self.sets or stop > len(deferred) or self.epoch != self.now.number:
            return 0
        if emitter.gate is not None:
            return 0
        stamp = deferred[at][1]
        time_ns = int.from_bytes(stamp[:8], "little")
        if self.recent and time_ns <= self.recent[-1]:
            return 0
        slots: Slots = [None] * members
        while at < stop:
            handlers, own_stamp, value, extra = deferred[at]
            if len(handlers) != 1 or extra is not None or own_stamp != stamp:
                return 0
            handler = handlers[0]
            if type(handler) is not Component:
                return 0
            member = handler
            if member.family is not self or slots[member.slot] is not None:
                return 0
            slots[member.slot] = value
            at += 1
        if not self._send_usual(slots, time_ns, 0, emitter.origin, emitter):
            return 0
        self._remember(time_ns)
        return members

    def _send_usual(
        self, slots: Slots, time_ns: int, start_ns: int, origin: IngestMark, emitter: Emitter
    ) -> bool:
        """Send the point of a complete, regular set; return False, unchanged, for others."""
        if not self.is_laid_out:
            self._lay_out()
        layout = self.layout
        if layout is None:
            return False
        body = layout.encode(slots, time_ns, start_ns)
        if body is None:
            return False
        for stream in self._wanted(len(slots)):
            if stream.delta is None:
                stream.push_body(body, origin, emitter, len(slots))
            else:
                point = layout.point(slots, time_ns, start_ns)
                assert point is not None, "it can be encoded"
                stream.push(point, origin, emitter, len(slots))
        return True

    def _wanted(self, samples: int) -> tuple[Stream, ...]:
        """Return the outputs for a point of so many samples, and count it."""
        outcomes = self.outcomes
        streams = self.home.streams(self)
        outcomes.count("assembled" if streams else "unwanted", samples)
        outcomes.points += bool(streams)
        return streams

    def _remember(self, time_ns: int) -> None:
        """Note that there is a point for this time, or that there will be none."""
        recent = self.recent
        if not recent or time_ns > recent[-1]:
            recent.append(time_ns)
        else:
            insort(recent, time_ns)
        if len(recent) > RECENT_MAX:
            self.floor_ns = max(self.floor_ns, recent.pop(0))

    def _expect(self, member: Component) -> None:
        if not member.expected:
            member.expected = True
            self.expected += 1
            self.reckon()

    def reckon(self) -> None:
        """Recompute the least number of components in a complete set."""
        # Whether ranges are complete shows in their values only.
        self.needed = 0 if self.is_ranged else self.expected or _NEVER

    def _learn(self, done: PendingPoint) -> None:
        """Expect the components that came; stop expecting those absent too often or ended."""
        pairs = list(zip(self.members.values(), done.slots, strict=True))
        # A family that ended as a whole probably comes back with the same components.
        has_ended = all(value is None or value == STALE for _, value in pairs)
        self.expected = 0
        self.is_steady = True
        for member, value in pairs:
            if value is not None:
                member.missed = 0
                member.expected = value != STALE or has_ended
            elif member.expected:
                member.missed += 1
                member.expected = member.missed < MISSES_MAX
                self.is_steady = False
            self.expected += member.expected
            self.is_steady &= member.expected
        self.reckon()
        if self.is_steady:
            self.home.note_members(self)

    def _lay_out(self) -> None:
        """Precompute the point layout from the components."""
        self.is_laid_out = True
        self.layout = layout_of(
            self.identity.kind, [(m.part, m.order[0], m.slot) for m in self.members.values()]
        )

    def _values(self, done: PendingPoint, part: str) -> list[bytes]:
        """Return the values of all present components of one part."""
        found = [done.slots[m.slot] for m in self.members.values() if m.part == part]
        return [value for value in found if value is not None]

    def _point(self, done: PendingPoint) -> HistogramPoint | SummaryPoint | Refusal:
        pairs = list(zip(self.members.values(), done.slots, strict=True))
        parts = [(member.part, member.order, value) for member, value in pairs if value is not None]
        last = [(m.part, m.order) for m, value in pairs if m.expected or value is not None]
        times, is_ranged = (done.time_ns, done.start_ns), self.is_ranged
        return point_of(self.identity.kind, parts, last, *times, done.exemplars, is_ranged)

    def __repr__(self) -> str:
        return f"<Family {self.key.name} {len(self.members)} members, {len(self.sets)} sets>"


def take_all(deferred: list[DeferredSample], emitter: Emitter) -> None:
    """Hand deferred samples to their handlers."""
    at = 0
    while at < len(deferred):
        handlers, stamp, value, extra = deferred[at]
        if len(handlers) == 1 and type(handlers[0]) is Component:
            member = handlers[0]
            taken = member.family.take_run(deferred, at, emitter)
            if taken:
                at += taken
                continue
        for handler in handlers:
            if type(handler) is Component:
                member = handler
                member.take(stamp, value, extra, emitter)
            else:
                handler.take(stamp, value, extra, emitter)
        at += 1
    emitter.end_request()
