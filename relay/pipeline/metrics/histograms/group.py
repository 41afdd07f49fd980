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
from relay.pipeline.routing.match_set import MatchedSource, MatchSet
from relay.pipeline.routing.route import VersionedDependency

MEMBERS_MAX = 512
"""Of one family. Backends take far fewer buckets; Prometheus' own have up to 40."""
SETS_MAX = 128
"""Times of one family that wait at once: a shard that is half an hour of scrapes behind."""
RECENT_MAX = 16
"""Times that have left and are remembered one by one; what is older than these is late."""
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
        """See :class:`~relay.pipeline.batching.unfinished.Waiter`."""
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
        """See :class:`relay.pipeline.batching.emitter.SampleProcessor`."""
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
        # Where the family was forgotten and made anew meanwhile, its namesake goes on.
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
        """Which buckets were seen, ``le`` or only ``vmrange``: beside ``le`` these say nothing."""
        self.sources: frozenset[MatchedSource] = frozenset()
        self.probes: tuple[MatchSet, ...] = ()
        """What the names that it must have matched, and at which version that was ``routed``."""
        self.routed = -1
        self.translated = -1
        self.streams: tuple[Stream, ...] | None = None
        self.epoch = -1
        self._digest = b""
        self.members: dict[tuple[str, str], Component] = {}
        """In the order of their slots."""
        self.expected = 0
        """How many members are."""
        self.needed = _NEVER
        """So many must be in a set that is complete, at least."""
        self.is_steady = False
        """Whether all members are expected and none was missing lately."""
        self.layout: Layout | None = None
        self.is_laid_out = False
        """Whether ``layout`` is that of the members as they are now; None: there is none."""
        self.sets: dict[int, PendingPoint] = {}
        self.latest: PendingPoint | None = None
        """The set of the last sample, if it is still there."""
        self.recent: list[int] = []
        """Ascending."""
        self.floor_ns = 0

    @property
    def is_routed(self) -> bool:
        """Whether ``sources`` are still what the exporters say."""
        for match_set in self.probes:
            if match_set.project_epoch.version != self.routed:
                return False
        return bool(self.probes)

    def digest(self) -> bytes:
        """Name the family, the same in every process."""
        if not self._digest:
            text = repr(tuple(self.key)).encode(errors="surrogatepass")
            self._digest = blake2b(text, digest_size=DIGEST_BYTES).digest()
        return self._digest

    def member(self, part: str, text: str) -> Component | None:
        """The member with this bound; None where there are too many."""
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
        """Put a sample into the set of its time, and send what is complete now."""
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
        """Send sets, oldest first, up to the first that has to wait. ``at_end`` of a request."""
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
            # Only buckets that hold something exist, so new ones may come at any time; they add up
            # to the count. Without a count, the end of a request tells that there are no more.
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
        """Let a set leave: it becomes a point, or is found to be none."""
        outcomes = self.outcomes
        del self.sets[done.time_ns]
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

    def take_run(self, deferred: list[DeferredSample], at: int, emitter: Emitter) -> int:
        """Send a set that comes whole, one sample behind the other from ``at``, as scrapes send it.

        Returns how many samples that were. 0 for anything else, and nothing is done then: the first
        of them begins a set, which is why no sample is looked at here more than once.
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
        """Send the usual: all members are there and nothing is odd, so that there is nothing to
        learn. False for anything else, and nothing is done then."""
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
        """Where the point of so many samples goes; counts it."""
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
        """Find out anew how many members a complete set has at the least."""
        # That ranges are complete can be seen in their values only.
        self.needed = 0 if self.is_ranged else self.expected or _NEVER

    def _learn(self, done: PendingPoint) -> None:
        """Expect what came, and no longer what has stayed away too often or has ended."""
        pairs = list(zip(self.members.values(), done.slots, strict=True))
        # Of a family that has ended as a whole the next life is likely to be the same.
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
        """Work out what depends on the members alone."""
        self.is_laid_out = True
        self.layout = layout_of(
            self.identity.kind, [(m.part, m.order[0], m.slot) for m in self.members.values()]
        )

    def _values(self, done: PendingPoint, part: str) -> list[bytes]:
        """The values of all members of one kind that are there."""
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
    """Hand samples that waited for the end of their request to their handlers."""
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
