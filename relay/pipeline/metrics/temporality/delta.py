"""Turns cumulative streams into deltas, for sinks whose backend accepts nothing else.

Rules (ODM, "Temporality" and "Resets and Gaps"; reference, section B and vectors 36 and 37):

* Windows are contiguous: a delta starts where the one before ended. A point out of order, or for a
  time that was exported, is dropped and counted; its increments are in the next point, because the
  stream is cumulative. For the same reason a gap loses nothing.
* The first point of a stream only sets the base, unless its start time is not before ``since_ns``,
  the start of the relay: then none of it can have been exported before.
* A value below the last one is a reset: the whole new value is the increment, starting where the
  last window ended. A start time behind the last point is an explicit reset.
* A stale marker ends nothing: a target that returns continues or resets, and both show in its next
  value.
* Deltas of doubles are taken against the sum of the deltas sent, not against the last value, so
  that adding them up again gives the stream back without drift.
* Histograms whose buckets changed are compared in the buckets that both have; exponential ones in
  the coarser scale.
* The state of a stream is forgotten when it was not fed between two turns, which are ``age_max_s``
  apart. At most ``states_max`` are held, shared out among projects
  (:mod:`relay.runtime.project_shares`).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from operator import sub
from typing import Literal, get_args

from relay.codec.otlp.data_points import (
    STALE,
    ExponentialPoint,
    HistogramPoint,
    NumberPoint,
    Point,
    SummaryPoint,
)
from relay.codec.otlp.metrics import Kind
from relay.pipeline.metrics.temporality.exponential_buckets import subtract
from relay.runtime.project_shares import UNCLAIMED, ProjectPart, SharedTable

Outcome = Literal[
    "made",
    "reset",
    "first",
    "duplicate",
    "out_of_order",
    "stale",
    "not_finite",
    "layout",
]
"""Outcomes of a point: ``made`` and ``reset`` are exported, all others dropped."""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

Cumulative = NumberPoint | HistogramPoint | ExponentialPoint

_DOUBLE = struct.Struct("<d")


@dataclass(frozen=True, slots=True)
class DeltaStatistics:
    """``states`` held now, ``forgotten`` since the start, and points by outcome."""

    states: int
    forgotten: int
    outcomes: dict[str, int]


class State:
    """The state of one stream; ``time_ns`` is 0 while it is empty.

    ``last`` is the last cumulative point; ``total`` is, for doubles, the sum of the deltas sent.
    """

    __slots__ = ("epoch", "key", "last", "part", "store", "time_ns", "total")

    def __init__(self, store: DeltaStore, part: ProjectPart[bytes, State], key: bytes) -> None:
        self.store = store
        self.part = part
        self.key = key
        self.epoch = -1
        self.forget()

    def forget(self) -> None:
        """Reset the state: the next point begins anew."""
        self.time_ns = 0
        self.total = 0.0
        self.last: Cumulative | None = None

    @property
    def outcome(self) -> Outcome:
        """Outcome of the last point, of this or any stream."""
        return self.store.outcome

    def step(self, point: Point) -> Point | None:
        """Return the delta since the point before; None if there is none.

        Summaries pass unchanged: OTLP gives them no temporality.
        """
        store = self.store
        if self.epoch != self.part.epoch.number:
            store.keep(self)
        outcome, made = self._step(point)
        store.outcomes[outcome] += 1
        store.outcome = outcome
        return made

    def _step(self, point: Point) -> tuple[Outcome, Point | None]:
        if isinstance(point, NumberPoint):
            if point.value == STALE:
                return "stale", None
        elif point.stale:
            return "stale", None
        if point.time_ns <= self.time_ns:
            return ("duplicate" if point.time_ns == self.time_ns else "out_of_order"), None
        match point:
            case NumberPoint():
                return self._number(point)
            case HistogramPoint():
                return self._histogram(point)
            case ExponentialPoint():
                return self._exponential(point)
            case SummaryPoint():
                return "made", point

    def _number(self, point: NumberPoint) -> tuple[Outcome, Point | None]:
        value = _double(point.value)
        if not math.isfinite(value):
            return "not_finite", None
        last = self.last
        if last is None or self._restarted(point.start_ns):
            return self._begin(point, value)
        assert isinstance(last, NumberPoint)
        outcome: Outcome = "made"
        start_ns = self.time_ns
        if value < _double(last.value):
            outcome, increment, self.total = "reset", value, value
        else:
            # A sum of rounded deltas may be above the value by as much as the rounding.
            increment = max(0.0, value - self.total)
            self.total += increment
        self._advance(point)
        packed = _DOUBLE.pack(increment)
        return outcome, NumberPoint(point.time_ns, packed, start_ns, point.exemplars)

    def _histogram(self, point: HistogramPoint) -> tuple[Outcome, Point | None]:
        last = self.last
        if last is None or self._restarted(point.start_ns):
            return self._begin(point, _sum(point))
        assert isinstance(last, HistogramPoint)
        now = point
        if last.bounds != point.bounds or len(last.counts) != len(point.counts):
            last, now = _shared_buckets(last, point)
        assert len(now.counts) == len(last.counts)
        counts = tuple(map(sub, now.counts, last.counts))
        count = point.count - last.count
        if count < 0 or min(counts, default=0) < 0:
            return self._reset(point)
        start_ns = self.time_ns
        total = self._sum_increment(point)
        self._advance(point)
        delta = HistogramPoint(
            point.time_ns, count, total, now.bounds, counts, start_ns, point.exemplars
        )
        return "made", delta

    def _exponential(self, point: ExponentialPoint) -> tuple[Outcome, Point | None]:
        last = self.last
        if last is None or self._restarted(point.start_ns):
            return self._begin(point, _sum(point))
        assert isinstance(last, ExponentialPoint)
        if last.zero_threshold != point.zero_threshold:
            # Observations moved between the zero bucket and others: the difference is undefined.
            self.forget()
            self._begin(replace(point, start_ns=0), _sum(point))
            return "layout", None
        scale = min(last.scale, point.scale)
        positive = subtract(point.positive, point.scale - scale, last.positive, last.scale - scale)
        negative = subtract(point.negative, point.scale - scale, last.negative, last.scale - scale)
        zeros = point.zero_count - last.zero_count
        if positive is None or negative is None or zeros < 0 or point.count < last.count:
            return self._reset(point)
        start_ns = self.time_ns
        total = self._sum_increment(point)
        self._advance(point)
        return "made", replace(
            point,
            count=zeros + sum(positive.counts) + sum(negative.counts),
            sum=total,
            scale=scale,
            zero_count=zeros,
            positive=positive,
            negative=negative,
            start_ns=start_ns,
        )

    def _restarted(self, start_ns: int) -> bool:
        """Return True if the start time says that the stream restarted after its last point."""
        return start_ns > self.time_ns

    def _begin(self, point: Cumulative, total: float) -> tuple[Outcome, Point | None]:
        """Take the first point of a stream, or the first after a restart."""
        known = self.last is not None
        self.total = total
        self._advance(point)
        if point.start_ns and (known or point.start_ns >= self.store.since_ns):
            return ("reset" if known else "made"), point
        return "first", None

    def _reset(self, point: HistogramPoint | ExponentialPoint) -> tuple[Outcome, Point | None]:
        start_ns = self.time_ns
        self.total = _sum(point)
        self._advance(point)
        return "reset", replace(point, start_ns=start_ns)

    def _sum_increment(self, point: HistogramPoint | ExponentialPoint) -> bytes | None:
        """Return the increment of the sum; it may be negative, because observations may be."""
        if point.sum is None:
            return None
        increment = _double(point.sum) - self.total
        if not math.isfinite(increment):
            self.total = _sum(point)
            return None
        self.total += increment
        return _DOUBLE.pack(increment)

    def _advance(self, point: Cumulative) -> None:
        self.time_ns = point.time_ns
        self.last = replace(point, exemplars=()) if point.exemplars else point

    def __repr__(self) -> str:
        return f"<State {self.key.hex()} at {self.time_ns} ns>"


class DeltaStore:
    """Delta state of every stream that some sink wants as deltas, in bounded memory."""

    def __init__(
        self, *, states_max: int = 1_000_000, age_max_s: float = 3600.0, since_ns: int = 0
    ) -> None:
        assert states_max >= 2
        self.since_ns = since_ns
        self.outcomes: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        self.outcome: Outcome = "made"
        """Outcome of the last point."""
        self._age_max_s = age_max_s
        self._turn_at: float | None = None
        # Its stream may still hold an evicted state, which must not be continued.
        self._states: SharedTable[bytes, State] = SharedTable(states_max, forgets=State.forget)
        self._restored: ProjectPart[bytes, State] = ProjectPart("", UNCLAIMED)
        """Restored states whose streams have not come yet; their projects are unknown."""

    def delta(self, project: str, stream: object, kind: Kind) -> State | None:
        """Return the state of a project's stream; None for kinds without deltas.

        The stream is identified by its repr. A digest is stored: the label texts of a million
        streams would take half a gigabyte.
        """
        if kind not in ("sum", "histogram", "exponential_histogram"):
            return None
        key = blake2b(f"{kind} {stream!r}".encode(errors="surrogatepass"), digest_size=16).digest()
        part = self._states.part(project)
        state = part.find(key)
        if state is None:
            state = State(self, part, key)
            self.keep(state)
            before = self._restored.take(key)
            if before is not None:
                state.time_ns, state.total, state.last = before.time_ns, before.total, before.last
        return state

    def keep(self, state: State) -> None:
        """Mark a stream as in use; may evict the longest unused ones."""
        part = state.part
        known = part.find(state.key)
        if known is None:
            self._states.add(part, state.key, state)
        elif known is state:
            part.touch(state.key)
        else:
            # Two handlers of one stream: the one that returned late starts without state.
            state.forget()
            part.replace(state.key, state)
        state.epoch = part.epoch.number

    def restore(self, key: bytes, total: float, last: Cumulative) -> None:
        """Restore a stream's state from before a restart, unless it has a newer one."""
        known = [part.find(key) for part in self._states.parts()]
        state = next((one for one in known if one is not None), None)
        if state is None:
            if len(self._restored) >= self._states.entries_max:
                self._restored.pop()
            state = State(self, self._restored, key)
            self._restored.replace(key, state)
        if not state.time_ns:
            state.time_ns, state.total, state.last = last.time_ns, total, last

    def forget(self, project: str, most: int) -> int:
        """Forget up to so many states of a project that is gone; return how many."""
        return self._states.forget(project, most)

    def tick(self, tick: float) -> None:
        """Advance the monotonic clock, s: forget states that were not fed for long."""
        if self._turn_at is None:
            self._turn_at = tick + self._age_max_s
        elif tick >= self._turn_at:
            self._turn_at = tick + self._age_max_s
            self._states.age()
            self._restored.turn()

    def states(self) -> Iterator[State]:
        """Yield every state that is not empty."""
        restored = self._restored
        for state in (*self._states.values(), *restored.old.values(), *restored.young.values()):
            if state.time_ns:
                yield state

    def statistics(self) -> DeltaStatistics:
        """Return a snapshot."""
        states = len(self._states) + len(self._restored)
        return DeltaStatistics(states, self._states.forgotten, dict(self.outcomes))

    def __repr__(self) -> str:
        return f"<DeltaStore {len(self._states)} states>"


def _shared_buckets(
    last: HistogramPoint, point: HistogramPoint
) -> tuple[HistogramPoint, HistogramPoint]:
    """Return both histograms in the buckets that they have in common."""
    if not last.counts or not point.counts:
        return replace(last, bounds=(), counts=()), replace(point, bounds=(), counts=())
    known = set(last.bounds)
    shared = tuple(bound for bound in point.bounds if bound in known)
    return _coarser(last, shared), _coarser(point, shared)


def _coarser(point: HistogramPoint, bounds: tuple[float, ...]) -> HistogramPoint:
    """Return the point in fewer buckets; ``bounds`` are a subset of its own."""
    counts = [0]
    wanted = iter((*bounds, math.inf))
    bound = next(wanted)
    for own, count in zip((*point.bounds, math.inf), point.counts, strict=True):
        counts[-1] += count
        if own == bound and own != math.inf:
            counts.append(0)
            bound = next(wanted)
    return replace(point, bounds=bounds, counts=tuple(counts))


def _sum(point: HistogramPoint | ExponentialPoint) -> float:
    return 0.0 if point.sum is None else _double(point.sum)


def _double(eight: bytes) -> float:
    value: float = _DOUBLE.unpack(eight)[0]
    return value
