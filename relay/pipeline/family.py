"""One histogram or summary of one set of labels, while its members come in.

What the rules of :mod:`relay.pipeline.assembly` say of a single family is here: which samples are
of one time, when a set of them is complete, in which order sets leave and what comes too late.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from relay.pipeline.families import (
    Refusal,
    classic_histogram,
    parse_bound,
    parse_range,
    range_histogram,
    ranges_add_up,
    summary,
)
from relay.pipeline.intake import Extra, Origin
from relay.pipeline.plans import Plan, SourceRoute
from relay.pipeline.resources import Resource
from relay.pipeline.route import Fact
from relay.pipeline.streams import Emission, Stream
from relay.wire.otlp import Kind, MetricIdentity
from relay.wire.otlp_points import STALE, Exemplar, HistogramPoint, SummaryPoint
from relay.wire.remote_write import Labels

MEMBERS_MAX = 512
"""Of one family. Backends take far fewer buckets; Prometheus' own have up to 40."""
SETS_MAX = 128
"""Times of one family that wait at once: a shard that is half an hour of scrapes behind."""
RECENT_MAX = 16
"""Times that have left and are remembered one by one; what is older than these is late."""
MISSES_MAX = 3
EXEMPLARS_MAX = 128
"""Of one set."""


class FamilyKey(NamedTuple):
    """What tells families apart; ``labels`` are those of all members."""

    project: str
    kind: Kind
    name: str
    labels: tuple[tuple[str, str], ...]


class Outcomes:
    """What became of samples, by outcome; ``waiting`` ones, in ``sets``, have none yet. ``points``
    were made."""

    __slots__ = ("by_name", "points", "sets", "waiting")

    def __init__(self) -> None:
        self.by_name: dict[str, int] = {}
        self.points = 0
        self.sets = 0
        self.waiting = 0

    def count(self, outcome: str, samples: int) -> None:
        """Add to one of a few counters."""
        self.by_name[outcome] = self.by_name.get(outcome, 0) + samples


class Home(Protocol):
    """What a family needs of the assembly that it belongs to."""

    epoch: int
    outcomes: Outcomes

    def keep(self, family: Family, emission: Emission) -> Family:
        """Note that a family is in use; return the one that goes by its key now."""
        ...

    def open(self, family: Family, time_ns: int, emission: Emission) -> Set:
        """Begin a set."""
        ...

    def streams(self, family: Family) -> tuple[Stream, ...]:
        """Where a family's points go now."""
        ...


class Set:
    """The members of a family that came for one time; ``due`` once it shall wait no longer."""

    __slots__ = ("due", "exemplars", "origin", "start_ns", "time_ns", "values")

    def __init__(self, time_ns: int, origin: Origin) -> None:
        self.time_ns = time_ns
        self.origin = origin
        self.due = False
        self.start_ns = 0
        self.exemplars: tuple[Exemplar, ...] = ()
        self.values: dict[Member, bytes] = {}


class Member:
    """One series of a family, as the handler of its samples. Compared by identity.

    ``order`` sorts members of one kind; ``missed`` counts the sets in a row that it was not in.
    """

    __slots__ = ("family", "missed", "order", "part", "text")

    def __init__(self, family: Family, part: str, text: str) -> None:
        self.family = family
        self.part = part
        self.text = text
        self.missed = 0
        self.order = parse_range(text) if part == "vmrange" else (parse_bound(text), 0.0)

    def take(self, stamp: bytes, value: bytes, extra: Extra | None, emission: Emission) -> None:
        """See :class:`relay.pipeline.streams.Handler`."""
        family = self.family
        time_ns = int.from_bytes(stamp[:8], "little")
        if family.epoch == family.home.epoch:
            family.take(self, time_ns, value, extra, emission)
            return
        current = family.home.keep(family, emission)
        # The family was forgotten and made anew meanwhile: its namesake there goes on.
        member = self if current is family else current.member(self.part, self.text)
        if member is None:
            family.home.outcomes.count("too_many_members", 1)
        else:
            current.take(member, time_ns, value, extra, emission)

    def __repr__(self) -> str:
        return f"<Member {self.part} {self.text!r} of {self.family!r}>"


class Family(Fact):
    """One histogram or summary of one set of labels; see the module's rules.

    ``sources`` take it as a whole; ``version`` moves when they become fewer.
    """

    __slots__ = (
        "epoch",
        "expected",
        "floor_ns",
        "home",
        "identity",
        "is_cumulative",
        "is_ranged",
        "key",
        "labels",
        "members",
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
        super().__init__()
        self.home = home
        self.key = key
        self.labels = labels
        self.resource = resource
        self.identity = identity
        self.is_cumulative = self.is_ranged = False
        """Which buckets were seen, ``le`` or only ``vmrange``: beside ``le`` these say nothing."""
        self.sources: frozenset[SourceRoute] = frozenset()
        self.probes: tuple[Plan, ...] = ()
        """What the names that it must have matched, and at which version that was ``routed``."""
        self.routed = -1
        self.translated = -1
        self.streams: tuple[Stream, ...] | None = None
        self.epoch = -1
        self.members: dict[tuple[str, str], Member] = {}
        self.expected: set[Member] = set()
        self.sets: dict[int, Set] = {}
        self.recent: dict[int, None] = {}
        self.floor_ns = 0

    @property
    def is_routed(self) -> bool:
        """Whether ``sources`` are still what the exporters say."""
        return bool(self.probes) and all(
            plan.partition.version == self.routed for plan in self.probes
        )

    def member(self, part: str, text: str) -> Member | None:
        """The member with this bound; None where there are too many."""
        known = self.members.get((part, text))
        if known is None and len(self.members) < MEMBERS_MAX:
            known = self.members[part, text] = Member(self, part, text)
            self.is_cumulative |= part == "le"
            self.is_ranged = (self.is_ranged or part == "vmrange") and not self.is_cumulative
        return known

    def take(
        self,
        member: Member,
        time_ns: int,
        value: bytes,
        extra: Extra | None,
        emission: Emission,
    ) -> None:
        """Put a sample into the set of its time, and send what is complete now."""
        home = self.home
        pending = self.sets.get(time_ns)
        if pending is None:
            if time_ns <= self.floor_ns or time_ns in self.recent:
                # It is alive all the same: sets to come wait for it again.
                self.expected.add(member)
                home.outcomes.count("late", 1)
                return
            pending = home.open(self, time_ns, emission)
        if member in pending.values:
            same = pending.values[member] == value
            home.outcomes.count("duplicate" if same else "conflict", 1)
            return
        pending.values[member] = value
        home.outcomes.waiting += 1
        if extra is not None:
            pending.start_ns = max(pending.start_ns, extra.start_ns)
            pending.exemplars = (pending.exemplars + extra.exemplars)[:EXEMPLARS_MAX]
        if self._complete(pending):
            self.settle(emission)

    def settle(self, emission: Emission) -> None:
        """Send sets, oldest first, up to the first that has to wait."""
        while self.sets:
            oldest = self.sets[min(self.sets)]
            if not oldest.due and not self._complete(oldest):
                return
            self._send(oldest, emission)

    def _complete(self, pending: Set) -> bool:
        values = pending.values
        expected = self.expected
        if not expected or len(values) < 2:
            return bool(expected) and expected <= values.keys()
        if self.is_ranged:
            # Of these buckets only those exist that hold something, so that new ones may come at
            # any time; but they add up to the count.
            head = self.members.get(("count", "")), self.members.get(("sum", ""))
            if any(member in expected and member not in values for member in head):
                return False
            whole = values.get(head[0]) if head[0] is not None else None
            ranges = [value for member, value in values.items() if member.part == "vmrange"]
            if whole is not None and whole != STALE:
                return ranges_add_up(whole, ranges)
        return len(values) >= len(expected) and expected <= values.keys()

    def _send(self, done: Set, emission: Emission) -> None:
        home = self.home
        del self.sets[done.time_ns]
        self.recent[done.time_ns] = None
        if len(self.recent) > RECENT_MAX:
            self.floor_ns = max(self.floor_ns, min(self.recent))
            del self.recent[min(self.recent)]
        self._learn(done)
        home.outcomes.sets -= 1
        home.outcomes.waiting -= len(done.values)
        emission.release(done.origin.position)
        point = self._point(done)
        if isinstance(point, str):
            home.outcomes.count(point, len(done.values))
            done.values = {}
            return
        streams = home.streams(self)
        home.outcomes.count("assembled" if streams else "unwanted", len(done.values))
        home.outcomes.points += bool(streams)
        for stream in streams:
            stream.push(point, done.origin, emission)
        done.values = {}

    def _learn(self, done: Set) -> None:
        """Expect what came, and no longer what has stayed away too often or has ended."""
        present = done.values
        for member in self.expected - present.keys():
            member.missed += 1
            if member.missed >= MISSES_MAX:
                self.expected.discard(member)
        for member in present:
            member.missed = 0
        self.expected.update(present)
        ended = {member for member, value in present.items() if value == STALE}
        if len(ended) < len(present):
            # Of a family that has ended as a whole the next life is likely to be the same.
            self.expected -= ended

    def _point(self, done: Set) -> HistogramPoint | SummaryPoint | Refusal:
        total: bytes | None = None
        whole: bytes | None = None
        bounded: list[tuple[tuple[float, float], bytes]] = []
        for member, value in done.values.items():
            if member.part == "count":
                whole = value
            elif member.part == "sum":
                total = value
            elif member.part != "vmrange" or not self.is_cumulative:
                bounded.append((member.order, value))
        bounded.sort(key=_by_order)
        if self.identity.kind == "summary":
            quantiles = [(order[0], value) for order, value in bounded]
            return summary(done.time_ns, whole, total, quantiles, done.start_ns)
        if self.is_ranged:
            ranges = [(*order, value) for order, value in bounded]
            return range_histogram(
                done.time_ns, whole, total, ranges, done.start_ns, done.exemplars
            )
        buckets = [(order[0], value) for order, value in bounded]
        return classic_histogram(done.time_ns, whole, total, buckets, done.start_ns, done.exemplars)

    def __repr__(self) -> str:
        return f"<Family {self.key.name} {len(self.members)} members, {len(self.sets)} sets>"


def _by_order(item: tuple[tuple[float, float], bytes]) -> tuple[float, float]:
    return item[0]
