"""What one request brings, and what it does to the batches that it reaches.

Rules:

* A batch remembers nothing of requests but the mark of the last one (``OpenBatch.request``); what a
  request found is kept here, as a :class:`Touch`, and puts the batch back where the request cannot
  be accepted after all.
* Samples that need more than a prefix, a time and a value are only collected while the request is
  decoded (``deferred``). They are looked at when it is known to be good, so that nothing which is
  assembled or accumulated from them ever has to be taken back.
* Points that come late, from a deadline and not from a request, go through an intake of their own
  whose mark is negative: no request has it.
* With thousands of sinks a request touches hundreds of batches, for a few samples each, so what is
  done for each of them is compiled with the hot path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from relay.codec.otlp.batch import OpenBatch, SealedBatch
from relay.codec.otlp.data_points import Exemplar, ExponentialPoint, HistogramPoint
from relay.codec.otlp.metrics import MetricGroup
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.pacing import ENTRIES, UNPACED, Pace
from relay.pipeline.routing.match_set import Plan

if TYPE_CHECKING:
    from relay.pipeline.batching.emitter import Handler
    from relay.pipeline.metrics.histograms.native import NativeRoute

LATEST_NS_MAX: Final = (1 << 64) - 1
"""The latest time that a point can have."""

TOO_FAR_IN_FUTURE: Final = "too_far_in_future"
"""Reason for points whose time is too far ahead of their arrival."""

EXAMPLES_MAX = 5
"""Faults that are spelled out per request; the rest is only counted."""


class Extra(NamedTuple):
    """What a sample may have besides a time and a value; most have neither.

    ``start_ns`` is 0 where the sender supplied none.
    """

    start_ns: int = 0
    exemplars: tuple[Exemplar, ...] = ()


NativePoint = ExponentialPoint | HistogramPoint
"""What a native histogram becomes."""

Deferred = tuple["tuple[Handler, ...]", bytes, bytes, Extra | None]
"""A sample that waits for its request to be known as good: the handlers that its series had when it
was met, its time as :func:`~relay.codec.otlp.metrics.encode_time` makes it, the eight bytes of its
value, and what else it has."""


@dataclass(slots=True)
class Origin:
    """Where a point comes from: the oldest ingest position that is in it, and the wall clock of
    its arrival, in s. Shared and never changed, but not frozen: one is made for every request.

    ``waited``: it is replayed, and was named as waiting when the process ended. ``came`` is the
    position of its youngest sample where it left later than that; -1: ``position``.
    """

    position: int
    arrived_at: float
    waited: bool = False
    came: int = -1


class Taken(NamedTuple):
    """How much of a request was good, as remote write 2.0 asks to be told."""

    samples: int
    histograms: int
    exemplars: int


class Touch:
    """Where a request found a batch: enough to put it back."""

    __slots__ = (
        "arena",
        "batch",
        "closed",
        "count",
        "oldest",
        "opened_at",
        "points",
        "room",
        "runs",
        "sealed",
        "size",
    )

    def see(self, batch: OpenBatch) -> None:
        """Remember the batch as it is."""
        arena = batch.arena
        self.batch = batch
        self.arena = arena
        self.points, self.size = arena.count, arena.size
        self.runs, self.closed = arena.closed_runs(), arena.closed_rest()
        self.room = arena.room()
        self.count = batch.count
        self.oldest = batch.oldest
        self.opened_at = batch.opened_at
        self.sealed = batch.sealed

    def undo(self) -> None:
        """Put the batch back to what it was."""
        batch = self.batch
        self.arena.cut(self.points, self.size, self.runs, self.closed)
        batch.arena = self.arena
        batch.group = None
        batch.count = self.count
        batch.oldest = self.oldest
        batch.opened_at = self.opened_at
        batch.sealed = self.sealed


class Intake:
    """What one request brought. ``request`` is its position, ``now`` its arrival on the wall clock,
    s, ``latest_ns`` the latest time of a point that is taken."""

    __slots__ = (
        "bounded",
        "buckets",
        "careful",
        "deferred",
        "dropped",
        "examples",
        "exemplars",
        "exemplars_lost",
        "exemplars_refused",
        "exemplars_sent",
        "expansion_bytes",
        "grown",
        "has_metadata",
        "histograms",
        "latest_ns",
        "learned",
        "loose",
        "lost",
        "native",
        "now",
        "pace",
        "request",
        "sealed",
        "tallies",
        "touches",
    )

    def __init__(
        self,
        request: int,
        now: float,
        latest_ns: int = LATEST_NS_MAX,
        pace: Pace = UNPACED,
        *,
        bounded: bool = True,
    ) -> None:
        self.request = request
        self.now = now
        self.latest_ns = latest_ns
        self.pace = pace
        self.bounded = bounded
        """Whether limits of work and size may refuse it. Not a replayed one: what was acknowledged
        was measured then, when other series were known and other sinks were there."""
        self.tallies: list[tuple[Plan, int]] = []
        """Good samples, by plan, as they came in a row."""
        self.dropped: dict[str, int] = {}
        """Samples that went no further, by reason."""
        self.examples: list[str] = []
        """What was wrong with the first few of them."""
        self.touches: list[Touch] = []
        self.sealed: list[tuple[OpenBatch, SealedBatch]] = []
        self.histograms = 0
        """Good native histograms; they are among the tallies, too."""
        self.exemplars = 0
        """Exemplars that came, good or not."""
        self.exemplars_refused = 0
        self.exemplars_sent = 0
        """Exemplars that entered batches, with one point or several."""
        self.exemplars_lost = 0
        """Exemplars of points that were in the end none."""
        self.careful = 0
        """Entries of the body that took the careful way."""
        self.learned = False
        """Whether it taught something that is needed to read others: a type, an object's
        labels."""
        self.expansion_bytes = 0
        """Bytes of points that it becomes beyond what it was; see
        :mod:`relay.pipeline.metrics.hotpath.slow_path`."""
        self.has_metadata = False
        self.deferred: list[Deferred] = []
        """Samples to look at when the whole request is known to be good."""
        self.native: list[tuple[NativeRoute, NativePoint]] = []
        """Native histograms, likewise."""
        self.loose: list[tuple[Series, tuple[Exemplar, ...]]] = []
        """Exemplars that came without a sample."""
        self.lost: list[tuple[Series, str, int]] = []
        """Samples that were dropped of series that somebody wants, and why."""
        self.buckets = 0
        """Buckets of its native histograms, gaps included: they take more room than they came
        in."""
        self.grown = 0
        """Bytes of memory by which it made open batches larger, known at the end of the round."""

    @property
    def samples(self) -> int:
        """Good samples of the request."""
        samples = 0
        for _, count in self.tallies:
            samples += count
        return samples

    @property
    def is_plain(self) -> bool:
        """Whether it brought nothing but good samples that are in their batches already."""
        more = self.dropped or self.deferred or self.native or self.loose or self.lost
        return not more and not self.exemplars

    def count(self) -> int:
        """Count the good samples for their plans; return how many came, good or not."""
        samples = 0
        for plan, count in self.tallies:
            plan.samples += count
            samples += count
        for count in self.dropped.values():
            samples += count
        return samples

    @property
    def taken(self) -> Taken:
        """What of the request was good."""
        return Taken(
            self.samples - self.histograms, self.histograms, self.exemplars - self.exemplars_refused
        )

    @property
    def wanted(self) -> bool:
        """Whether anything of the request goes on its way, or changes how others are read."""
        return bool(self.touches or self.deferred or self.native) or self.learned

    def drop(self, reason: str, count: int, example: str, series: Series | None = None) -> None:
        """Record samples that go no further, those of a good ``series`` to be named as well."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(f"{example}: {reason}")
        if series is not None and series.plan.matched:
            self.lost.append((series, reason, count))

    def note_exemplars(self, count: int, is_sent: bool) -> None:
        """Count the exemplars of a point that left, or of one that could not."""
        if is_sent:
            self.exemplars_sent += count
        else:
            self.exemplars_lost += count

    def withhold(self, wants: Callable[[OpenBatch], bool]) -> list[tuple[OpenBatch, int]]:
        """Take back what the request did to batches that do not want it, so that it is as if it
        had not been there; returns them, and how many points that were."""
        spared = [touch for touch in self.touches if not wants(touch.batch)]
        if not spared:
            return []
        points = {touch.batch: touch.batch.count - touch.count for touch in spared}
        kept = []
        for batch, sealed in self.sealed:
            if batch in points:
                points[batch] += sealed.count
            else:
                kept.append((batch, sealed))
        self.sealed = kept
        self.touches = [touch for touch in self.touches if touch.batch not in points]
        for touch in spared:
            touch.undo()
            touch.batch.request = -1
        return list(points.items())

    def undo(self) -> None:
        """Take everything back that the request did to batches."""
        self.pace.final = True  # taking back is not taken back
        for touch in self.touches:
            touch.undo()
            self.pace.pause()
        self.touches.clear()
        for kept in (
            self.sealed,
            self.tallies,
            self.deferred,
            self.native,
            self.loose,
            self.lost,
        ):
            while kept:
                del kept[-ENTRIES:]
                self.pace.pause()


def enter(batch: OpenBatch, group: MetricGroup, intake: Intake) -> None:
    """Begin a run of ``group``; on the request's first touch, remember how the batch was."""
    if batch.request != intake.request:
        assert batch.group is None
        touch = Touch.__new__(Touch)
        touch.see(batch)
        intake.touches.append(touch)
        batch.request = intake.request
    elif batch.group is not None:
        batch.arena.close_run(batch.group)
    if not batch.count:
        batch.oldest = intake.request
        batch.opened_at = intake.now
    batch.group = group


def append(
    batch: OpenBatch, group: MetricGroup, point: bytes, origin: Origin, intake: Intake
) -> None:
    """Append a finished point, which may be older than what the batch holds."""
    if batch.group is not group:
        enter(batch, group, intake)
    if not batch.count:
        batch.oldest = origin.position
        batch.opened_at = origin.arrived_at
    elif origin.position < batch.oldest:
        batch.oldest = origin.position
        batch.opened_at = min(batch.opened_at, origin.arrived_at)
    batch.arena.add_finished(point)
    batch.count += 1
    if batch.count == batch.limit:
        seal(batch, intake)


def seal(batch: OpenBatch, intake: Intake) -> None:
    """Take a full batch's points out; they stay in the intake until the caller takes them."""
    sealed = batch.seal()
    assert sealed is not None
    intake.sealed.append((batch, sealed))


def leave(intake: Intake) -> None:
    """Close the runs that the request left open, so that the next one starts its own."""
    for touch in intake.touches:
        batch = touch.batch
        if batch.group is not None:
            batch.arena.close_run(batch.group)
            batch.group = None
