"""The transaction of one request, or of one deadline, over the open batches of all sinks.

Rules:

* It is the only writer of open batches (with append.pxd, its inlined half).
* Each batch that is written to is remembered as it was (:class:`BatchSnapshot`), and put back
  where the request is refused. ``OpenBatch.last_writer_offset`` marks the last transaction.
* Samples that need more than a prefix, a time and a value are only collected while the request is
  decoded (``deferred``). They are processed when it is known to be good, so histograms and deltas
  are never rolled back.
* A deadline's transaction has a negative position, which no request has.
* With thousands of sinks a request writes to hundreds of batches: compiled with the hot path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from relay.codec.otlp.batch import OpenBatch, SealedBatch
from relay.codec.otlp.data_points import Exemplar, ExponentialPoint, HistogramPoint, Point
from relay.codec.otlp.groups import MetricGroup
from relay.codec.otlp.record_buffer import RecordGroup
from relay.codec.remote_write.raw.buffer import RawEntry, RawPointBuffer
from relay.codec.remote_write.raw.label_table import RawGroup
from relay.codec.remote_write.raw_series import RawExemplar
from relay.pipeline.batching.flush_schedule import FlushSchedule
from relay.pipeline.batching.watermark import OffsetTracker
from relay.pipeline.pacing import UNPACED, Pace, empty
from relay.pipeline.routing.match_set import MatchSet, SinkCounter, SinkOutputSpec

LATEST_NS_MAX: Final = (1 << 64) - 1
"""The latest time that a point can have."""

TOO_FAR_IN_FUTURE: Final = "too_far_in_future"
"""Reason for points whose time is too far ahead of their arrival."""

RIDERS_WAIT_S: Final = 60.0
"""Longest wait of exemplars and metadata in a batch for its first point, s. They keep label tables
alive, and nothing else ends their wait."""

EXAMPLES_MAX = 5
"""Faults that are spelled out per request; the rest is only counted."""


class SampleExtras(NamedTuple):
    """Optional fields of a sample; most samples have none.

    ``start_ns`` is 0 where the sender supplied none. ``raw`` are the exemplars as they came, for
    sinks that take them so.
    """

    start_ns: int = 0
    exemplars: tuple[Exemplar, ...] = ()
    raw: tuple[RawExemplar, ...] = ()


NO_EXTRAS: Final = SampleExtras()

NativePoint = ExponentialPoint | HistogramPoint
"""Decoded form of a native histogram."""

DeferredSample = tuple[tuple[Any, ...], bytes, bytes, SampleExtras | None]
"""A sample that is processed when its request is known to be good: the
:class:`~relay.pipeline.batching.emitter.SampleProcessor` objects that its series had when it was
read, its time as :func:`~relay.codec.otlp.metrics.encode_time` makes it, the eight bytes of its
value, and what else it has."""


class RoutedSeries(Protocol):
    """The parts of a series that a transaction reads."""

    @property
    def name(self) -> str:
        """The metric's name."""
        ...

    @property
    def match_set(self) -> MatchSet:
        """The sources that take it."""
        ...


@dataclass(slots=True)
class IngestMark:
    """The oldest ingest position of a point's samples, and the wall clock of their arrival, in s.

    ``named_until``: it is replayed, and a checkpoint named it up to this position; -1: it did not.
    ``came`` is the position of its youngest sample where it left later than that; -1: ``position``.
    Shared, never changed; not frozen because one is made for every request.
    """

    position: int
    arrived_at: float
    named_until: int = -1
    came: int = -1


class AcceptedCounts(msgspec.Struct, frozen=True, gc=False):
    """Accepted part of a request, as remote write 2.0 response headers report it."""

    samples: int
    histograms: int
    exemplars: int


class BatchSnapshot:
    """State of a batch before its transaction, to restore it on rollback."""

    __slots__ = (
        "batch",
        "closed_rest",
        "closed_runs",
        "count",
        "generation",
        "memory_bytes",
        "oldest_offset",
        "opened_at",
        "point_buffer",
        "points",
        "size",
    )

    def take(self, batch: OpenBatch) -> None:
        """Record the state of the batch."""
        point_buffer = batch.point_buffer
        self.batch = batch
        self.point_buffer = point_buffer
        self.points, self.size = point_buffer.count, point_buffer.size
        self.closed_runs, self.closed_rest = point_buffer.closed_runs(), point_buffer.closed_rest()
        self.memory_bytes = point_buffer.room()
        self.count = batch.count
        self.oldest_offset = batch.oldest_offset
        self.opened_at = batch.opened_at
        self.generation = batch.generation

    def restore(self) -> None:
        """Restore the recorded state of the batch."""
        batch = self.batch
        self.point_buffer.cut(self.points, self.size, self.closed_runs, self.closed_rest)
        batch.point_buffer = self.point_buffer
        batch.group = None
        batch.count = self.count
        batch.oldest_offset = self.oldest_offset
        batch.opened_at = self.opened_at
        batch.generation = self.generation
        batch.last_writer_offset = -1  # another transaction may have the same position


class BatchTransaction:
    """Writes one request to the open batches: completely or not at all.

    ``request`` is its position, ``now`` its arrival on the wall clock, s, ``latest_ns`` the latest
    time of a point that is taken. It ends with :meth:`commit` or :meth:`rollback`.
    """

    __slots__ = (
        "_held",
        "_held_before",
        "_released",
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
        "is_processed",
        "latest_ns",
        "learned",
        "lost",
        "native",
        "now",
        "omitted",
        "orphan_exemplars",
        "pace",
        "request",
        "sample_counts",
        "sealed",
        "slow_path_check_at",
        "slow_path_entries",
        "snapshots",
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
        """True if limits of work and size apply; a replayed request was acknowledged already."""
        self.sample_counts: list[tuple[MatchSet, int]] = []
        """Good samples, by match set, for each run of one match set."""
        self.dropped: dict[str, int] = {}
        """Dropped samples, by reason."""
        self.examples: list[str] = []
        """The faults of the first few of them."""
        self.snapshots: list[BatchSnapshot] = []
        """Of every batch that it wrote to."""
        self.sealed: list[tuple[OpenBatch, SealedBatch]] = []
        self.histograms = 0
        """Good native histograms; they are among the sample counts, too."""
        self.exemplars = self.exemplars_refused = 0
        """Exemplars that came, good or not, and those that were refused."""
        self.exemplars_sent = 0
        """Exemplars that entered batches, with one point or several."""
        self.exemplars_lost = 0
        """Exemplars of samples that became no point."""
        self.slow_path_entries = self.slow_path_check_at = 0
        """Entries of the body that took the slow path; at how many the limit is looked at next."""
        self.learned = False
        """True if the request changed shared state: a metric's type or an object's labels."""
        self.expansion_bytes = 0
        """Bytes of points beyond the request's own size; see
        :mod:`relay.pipeline.metrics.hotpath.slow_path`."""
        self.has_metadata = False
        self.deferred: list[DeferredSample] = []
        """Samples to process when the whole request is known to be good."""
        self.native: list[tuple[Any, Point]] = []
        """Points that came as such, likewise, each with its route: native histograms, and points of
        OTLP for sinks that want them in another form."""
        self.is_processed = False
        """True once these were processed and freed."""
        self.orphan_exemplars: list[tuple[Any, tuple[Exemplar, ...]]] = []
        """Exemplars that came without a sample, each with its series."""
        self.lost: list[tuple[RoutedSeries, str, int]] = []
        """Dropped samples of matched series, and why."""
        self.omitted: list[tuple[str, str, list[SinkCounter]]] = []
        """Good points that some of their sinks have no form for: family, reason and these sinks."""
        self.buckets = 0
        """Buckets of its native histograms, gaps included: a gap has no bytes in the body."""
        self.batch_growth_bytes = 0
        """Bytes of memory by which it made open batches larger, known after :meth:`commit`."""
        self._held = 0
        """Number of the request's own samples that wait for others."""
        self._held_before: list[int] = []
        """Older positions that are held once more, by samples that go on waiting elsewhere."""
        self._released: list[int] = []

    @property
    def samples(self) -> int:
        """Good samples of the request."""
        samples = 0
        for _, count in self.sample_counts:
            samples += count
        return samples

    @property
    def is_plain(self) -> bool:
        """True if all samples are good and none needs further processing."""
        more = self.dropped or self.deferred or self.native or self.orphan_exemplars or self.lost
        return not (more or self.omitted) and not self.exemplars

    def flush_counts(self) -> int:
        """Count the good samples for their match sets; return how many came, good or not."""
        samples = 0
        for match_set, count in self.sample_counts:
            match_set.samples += count
            samples += count
        for count in self.dropped.values():
            samples += count
        return samples

    @property
    def taken(self) -> AcceptedCounts:
        """Accepted samples, histograms and exemplars of the request."""
        return AcceptedCounts(
            self.samples - self.histograms, self.histograms, self.exemplars - self.exemplars_refused
        )

    @property
    def has_effect(self) -> bool:
        """True if the request writes to a batch, defers a sample or changes shared state."""
        waits = self.deferred or self.native or self.is_processed
        return bool(self.snapshots or waits or self.learned)

    def drop(
        self, reason: str, count: int, example: str, series: RoutedSeries | None = None
    ) -> None:
        """Count dropped samples; of a matched ``series`` also by its sinks."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(f"{example}: {reason}")
        if series is not None and series.match_set.matched:
            self.lost.append((series, reason, count))

    def omit(self, family: str, reason: str, sinks: Iterable[SinkOutputSpec]) -> None:
        """Count a good point as a drop of those of its sinks that have no form for it."""
        self.omitted.append((family, reason, [sink.counter for sink in sinks]))

    def note_exemplars(self, count: int, is_sent: bool) -> None:
        """Count the exemplars of a sample that became a point, or did not."""
        if is_sent:
            self.exemplars_sent += count
        else:
            self.exemplars_lost += count

    def begin_run(self, batch: OpenBatch, group: MetricGroup | RawGroup | RecordGroup) -> None:
        """Begin a run of ``group``; on the first write to the batch, remember how it was."""
        if batch.last_writer_offset != self.request:
            assert batch.group is None
            snapshot = BatchSnapshot.__new__(BatchSnapshot)
            snapshot.take(batch)
            self.snapshots.append(snapshot)
            batch.last_writer_offset = self.request
        elif batch.group is not None:
            batch.point_buffer.close_run(batch.group)
        if not batch.count:
            batch.oldest_offset = self.request
            batch.opened_at = self.now
        batch.group = group

    def append_sample(
        self,
        batch: OpenBatch,
        group: MetricGroup | RawGroup,
        head: bytes,
        stamp: bytes,
        value: bytes,
    ) -> None:
        """Append a number of this request; ``append_number`` in append.pxd is the inlined twin."""
        if batch.group is not group:
            self.begin_run(batch, group)
        batch.point_buffer.add(head, stamp, value)
        batch.count += 1
        if batch.count == batch.limit:
            self.seal(batch)

    def append_point(
        self,
        batch: OpenBatch,
        group: MetricGroup | RawGroup,
        point: bytes | RawEntry,
        origin: IngestMark,
    ) -> None:
        """Append a finished point, which may be older than what the batch holds."""
        self._make_way(batch, group, origin)
        batch.point_buffer.add_finished(point)
        self._count_point(batch)

    def append_late(
        self,
        batch: OpenBatch,
        group: MetricGroup,
        head: bytes,
        stamp: bytes,
        value: bytes,
        origin: IngestMark,
    ) -> None:
        """Append a number that may be older than what the batch holds."""
        self._make_way(batch, group, origin)
        batch.point_buffer.add(head, stamp, value)
        self._count_point(batch)

    def _make_way(
        self, batch: OpenBatch, group: MetricGroup | RawGroup, origin: IngestMark
    ) -> None:
        """Begin a run if need be; let the batch hold a point of this mark."""
        if batch.group is not group:
            self.begin_run(batch, group)
        if not batch.count:
            batch.oldest_offset = origin.position
            batch.opened_at = origin.arrived_at
        elif origin.position < batch.oldest_offset:
            batch.oldest_offset = origin.position
            batch.opened_at = min(batch.opened_at, origin.arrived_at)

    def _count_point(self, batch: OpenBatch) -> None:
        """Count a point that was appended, and seal the batch if it is full."""
        batch.count += 1
        if batch.count == batch.limit:
            self.seal(batch)

    def append_rider(self, batch: OpenBatch, group: RawGroup, rider: bytes | RawEntry) -> bool:
        """Append what leaves with a batch's points and is none; return False if that is full."""
        if batch.group is not group:
            self.begin_run(batch, group)
        point_buffer = batch.point_buffer
        assert isinstance(point_buffer, RawPointBuffer)
        return point_buffer.add_rider(rider, batch.count > 0)

    def seal(self, batch: OpenBatch) -> None:
        """Take a batch's points out; the caller of the transaction gets them from ``sealed``."""
        sealed = batch.seal()
        assert sealed is not None
        self.sealed.append((batch, sealed))

    def hold(self, position: int) -> None:
        """Hold a position from :meth:`commit` on: a sample of it waits to become a point."""
        if position == self.request:
            self._held += 1
        else:
            self._held_before.append(position)

    def release(self, position: int) -> None:
        """Give up one hold at :meth:`commit`, not before batches hold what they took."""
        if position == self.request:
            self._held -= 1
        else:
            self._released.append(position)

    def free_processed(self) -> None:
        """Free what was deferred and is processed, with pauses."""
        self.is_processed = True
        for kept in (self.deferred, self.native):
            empty(kept, self.pace.pause)

    def commit(self, offsets: OffsetTracker, schedule: FlushSchedule, tick: float) -> None:
        """Close runs, hold positions and arm deadlines; nothing can be appended later.

        Every batch that was written to holds the position of its oldest point and leaves when it is
        due, at once if it has no timeout; sealed batches keep their hold until their owner is done
        with them. ``tick`` is now on the schedule's clock.
        """
        for snapshot in self.snapshots:
            batch = snapshot.batch
            if batch.group is not None:
                batch.point_buffer.close_run(batch.group)
                batch.group = None
            if batch.count and batch.timeout_s <= 0:
                self.seal(batch)
        for _, sealed in self.sealed:
            offsets.hold(sealed.oldest)
        for snapshot in self.snapshots:
            batch = snapshot.batch
            self.batch_growth_bytes += batch.point_buffer.room() - snapshot.memory_bytes
            # Most batches were open before and hold their oldest position: nothing is to be done.
            fresh = batch.generation != snapshot.generation or not snapshot.count
            if batch.count and (fresh or batch.oldest_offset != snapshot.oldest_offset):
                offsets.hold(batch.oldest_offset)
                if fresh:
                    schedule.arm(batch, tick + batch.timeout_s)
            elif not fresh:
                continue
            elif batch.point_buffer.count and not (
                snapshot.points and batch.generation == snapshot.generation
            ):
                schedule.arm(batch, tick + max(batch.timeout_s, RIDERS_WAIT_S))
            if snapshot.count:
                offsets.release(snapshot.oldest_offset)
        self._hand_over_positions(offsets)

    def _hand_over_positions(self, offsets: OffsetTracker) -> None:
        """Hold and release what waits, now that the batches hold theirs."""
        assert self._held >= 0, "more samples of the request ended their wait than began it"
        if self._held:
            offsets.hold_waiting(self.request, self._held)
        for position in self._held_before:
            offsets.hold_waiting(position)
        for position in self._released:
            offsets.release_waiting(position)

    def drop_unwanted(self, wants: Callable[[OpenBatch], bool]) -> list[tuple[OpenBatch, int]]:
        """Restore the batches that do not want the request.

        Return these batches with the number of points taken back from each.
        """
        unwanted = [snapshot for snapshot in self.snapshots if not wants(snapshot.batch)]
        if not unwanted:
            return []
        points = {snapshot.batch: snapshot.batch.count - snapshot.count for snapshot in unwanted}
        kept = []
        for batch, sealed in self.sealed:
            if batch in points:
                points[batch] += sealed.count
            else:
                kept.append((batch, sealed))
        self.sealed = kept
        self.snapshots = [each for each in self.snapshots if each.batch not in points]
        for snapshot in unwanted:
            snapshot.restore()
        return list(points.items())

    def rollback(self) -> None:
        """Restore every batch, and forget what the request brought."""
        self.pace.final = True  # from here on a pause must not raise
        for snapshot in self.snapshots:
            snapshot.restore()
            self.pace.pause()
        self.snapshots.clear()
        kept: list[list[Any]] = [self.sealed, self.sample_counts, self.deferred, self.native]
        for one in (*kept, self.orphan_exemplars, self.lost, self.omitted):
            empty(one, self.pace.pause)
