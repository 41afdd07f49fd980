"""What one request brings, and what it does to the batches that it reaches.

Rules:

* A batch remembers nothing of requests but the mark of the last one
  (``OpenBatch.last_writer_offset``); what a
  request found is kept here, as a :class:`BatchSnapshot`, and puts the batch back where the
  request cannot
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
from relay.pipeline.routing.match_set import MatchSet

if TYPE_CHECKING:
    from relay.pipeline.batching.emitter import SampleProcessor
    from relay.pipeline.metrics.histograms.native import NativeRoute

LATEST_NS_MAX: Final = (1 << 64) - 1
"""The latest time that a point can have."""

TOO_FAR_IN_FUTURE: Final = "too_far_in_future"
"""Reason for points whose time is too far ahead of their arrival."""

EXAMPLES_MAX = 5
"""Faults that are spelled out per request; the rest is only counted."""


class SampleExtras(NamedTuple):
    """What a sample may have besides a time and a value; most have neither.

    ``start_ns`` is 0 where the sender supplied none.
    """

    start_ns: int = 0
    exemplars: tuple[Exemplar, ...] = ()


NativePoint = ExponentialPoint | HistogramPoint
"""What a native histogram becomes."""

DeferredSample = tuple["tuple[SampleProcessor, ...]", bytes, bytes, SampleExtras | None]
"""A sample that waits for its request to be known as good: the handlers that its series had when it
was met, its time as :func:`~relay.codec.otlp.metrics.encode_time` makes it, the eight bytes of its
value, and what else it has."""


@dataclass(slots=True)
class IngestMark:
    """Where a point comes from: the oldest ingest position that is in it, and the wall clock of
    its arrival, in s. Shared and never changed, but not frozen: one is made for every request.

    ``waited``: it is replayed, and was named as waiting when the process ended. ``came`` is the
    position of its youngest sample where it left later than that; -1: ``position``.
    """

    position: int
    arrived_at: float
    waited: bool = False
    came: int = -1


class AcceptedCounts(NamedTuple):
    """How much of a request was good, as remote write 2.0 asks to be told."""

    samples: int
    histograms: int
    exemplars: int


class BatchSnapshot:
    """Where a request found a batch: enough to put it back."""

    __slots__ = (
        "batch",
        "closed",
        "count",
        "oldest",
        "opened_at",
        "point_buffer",
        "points",
        "room",
        "runs",
        "sealed",
        "size",
    )

    def see(self, batch: OpenBatch) -> None:
        """Remember the batch as it is."""
        point_buffer = batch.point_buffer
        self.batch = batch
        self.point_buffer = point_buffer
        self.points, self.size = point_buffer.count, point_buffer.size
        self.runs, self.closed = point_buffer.closed_runs(), point_buffer.closed_rest()
        self.room = point_buffer.room()
        self.count = batch.count
        self.oldest = batch.oldest_offset
        self.opened_at = batch.opened_at
        self.sealed = batch.generation

    def undo(self) -> None:
        """Put the batch back to what it was."""
        batch = self.batch
        self.point_buffer.cut(self.points, self.size, self.runs, self.closed)
        batch.point_buffer = self.point_buffer
        batch.group = None
        batch.count = self.count
        batch.oldest_offset = self.oldest
        batch.opened_at = self.opened_at
        batch.generation = self.sealed


class BatchTransaction:
    """What one request brought. ``request`` is its position, ``now`` its arrival on the wall clock,
    s, ``latest_ns`` the latest time of a point that is taken."""

    __slots__ = (
        "batch_growth_bytes",
        "bounded",
        "buckets",
        "deferred",
        "dropped",
        "examples",
        "exemplars",
        "exemplars_lost",
        "exemplars_refused",
        "exemplars_sent",
        "expansion_bytes",
        "has_metadata",
        "histograms",
        "latest_ns",
        "learned",
        "lost",
        "native",
        "now",
        "orphan_exemplars",
        "pace",
        "request",
        "sealed",
        "slow_path_entries",
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
        self.tallies: list[tuple[MatchSet, int]] = []
        """Good samples, by plan, as they came in a row."""
        self.dropped: dict[str, int] = {}
        """Samples that went no further, by reason."""
        self.examples: list[str] = []
        """What was wrong with the first few of them."""
        self.touches: list[BatchSnapshot] = []
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
        self.slow_path_entries = 0
        """Entries of the body that took the careful way."""
        self.learned = False
        """Whether it taught something that is needed to read others: a type, an object's
        labels."""
        self.expansion_bytes = 0
        """Bytes of points that it becomes beyond what it was; see
        :mod:`relay.pipeline.metrics.hotpath.slow_path`."""
        self.has_metadata = False
        self.deferred: list[DeferredSample] = []
        """Samples to look at when the whole request is known to be good."""
        self.native: list[tuple[NativeRoute, NativePoint]] = []
        """Native histograms, likewise."""
        self.orphan_exemplars: list[tuple[Series, tuple[Exemplar, ...]]] = []
        """Exemplars that came without a sample."""
        self.lost: list[tuple[Series, str, int]] = []
        """Samples that were dropped of series that somebody wants, and why."""
        self.buckets = 0
        """Buckets of its native histograms, gaps included: they take more room than they came
        in."""
        self.batch_growth_bytes = 0
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
        more = self.dropped or self.deferred or self.native or self.orphan_exemplars or self.lost
        return not more and not self.exemplars

    def count(self) -> int:
        """Count the good samples for their plans; return how many came, good or not."""
        samples = 0
        for match_set, count in self.tallies:
            match_set.samples += count
            samples += count
        for count in self.dropped.values():
            samples += count
        return samples

    @property
    def taken(self) -> AcceptedCounts:
        """What of the request was good."""
        return AcceptedCounts(
            self.samples - self.histograms, self.histograms, self.exemplars - self.exemplars_refused
        )

    @property
    def has_effect(self) -> bool:
        """Whether anything of the request goes on its way, or changes how others are read."""
        return bool(self.touches or self.deferred or self.native) or self.learned

    def drop(self, reason: str, count: int, example: str, series: Series | None = None) -> None:
        """Record samples that go no further, those of a good ``series`` to be named as well."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(f"{example}: {reason}")
        if series is not None and series.match_set.matched:
            self.lost.append((series, reason, count))

    def note_exemplars(self, count: int, is_sent: bool) -> None:
        """Count the exemplars of a point that left, or of one that could not."""
        if is_sent:
            self.exemplars_sent += count
        else:
            self.exemplars_lost += count

    def drop_unwanted(self, wants: Callable[[OpenBatch], bool]) -> list[tuple[OpenBatch, int]]:
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
            touch.batch.last_writer_offset = -1
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
            self.orphan_exemplars,
            self.lost,
        ):
            while kept:
                del kept[-ENTRIES:]
                self.pace.pause()


def begin_run(batch: OpenBatch, group: MetricGroup, transaction: BatchTransaction) -> None:
    """Begin a run of ``group``; on the request's first touch, remember how the batch was."""
    if batch.last_writer_offset != transaction.request:
        assert batch.group is None
        touch = BatchSnapshot.__new__(BatchSnapshot)
        touch.see(batch)
        transaction.touches.append(touch)
        batch.last_writer_offset = transaction.request
    elif batch.group is not None:
        batch.point_buffer.close_run(batch.group)
    if not batch.count:
        batch.oldest_offset = transaction.request
        batch.opened_at = transaction.now
    batch.group = group


def append_point(
    batch: OpenBatch,
    group: MetricGroup,
    point: bytes,
    origin: IngestMark,
    transaction: BatchTransaction,
) -> None:
    """Append a finished point, which may be older than what the batch holds."""
    if batch.group is not group:
        begin_run(batch, group, transaction)
    if not batch.count:
        batch.oldest_offset = origin.position
        batch.opened_at = origin.arrived_at
    elif origin.position < batch.oldest_offset:
        batch.oldest_offset = origin.position
        batch.opened_at = min(batch.opened_at, origin.arrived_at)
    batch.point_buffer.add_finished(point)
    batch.count += 1
    if batch.count == batch.limit:
        seal_batch(batch, transaction)


def seal_batch(batch: OpenBatch, transaction: BatchTransaction) -> None:
    """Take a full batch's points out; they stay in the intake until the caller takes them."""
    sealed = batch.seal()
    assert sealed is not None
    transaction.sealed.append((batch, sealed))


def end_runs(transaction: BatchTransaction) -> None:
    """Close the runs that the request left open, so that the next one starts its own."""
    for touch in transaction.touches:
        batch = touch.batch
        if batch.group is not None:
            batch.point_buffer.close_run(batch.group)
            batch.group = None
