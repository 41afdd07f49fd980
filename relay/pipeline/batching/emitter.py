"""Appends finished points to the batches of the sinks that want them.

A *stream* is one identity (resource, scope, metric, attributes) for the sink outputs with the same
options. Counters and gauges of nothing but time and value need none: the routes of their series are
streams with everything prepared. Histograms, summaries, deltas, and numbers with start times or
exemplars are made into points first and pushed here.
"""

from __future__ import annotations

from typing import Protocol

from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.data_points import STALE, NumberPoint, Point, encode_point, wrap_point
from relay.codec.otlp.groups import MetricGroup
from relay.codec.otlp.metrics import prefix_attributes
from relay.pipeline.batching.transaction import BatchTransaction, IngestMark, SampleExtras
from relay.pipeline.batching.unfinished import ReplayGate
from relay.pipeline.batching.watermark import OffsetTracker
from relay.pipeline.drop_counters import DropTable
from relay.pipeline.routing.match_set import SinkCounter
from relay.pipeline.routing.route import Route


class Delta(Protocol):
    """Turns the cumulative points of one stream into deltas."""

    @property
    def outcome(self) -> str:
        """The outcome of the last point."""
        ...

    def step(self, point: Point) -> Point | None:
        """Return the delta since the point before; None where there is none."""
        ...


class SinkOutput:
    """The open batch of one shard of one sink, and the sink's counter."""

    __slots__ = ("batch", "counter")

    def __init__(self, batch: OpenBatch, counter: SinkCounter) -> None:
        self.batch = batch
        self.counter = counter


class Settles(Protocol):
    """Holds back incomplete points, such as histograms whose components have not all arrived."""

    def settle(self, emitter: Emitter, at_end: bool = False) -> None:
        """Send the complete points; ``at_end``: all samples of the request were handed out."""
        ...


class Emitter:
    """Appends the finished points of one transaction: the end of a request, or a deadline.

    ``origin`` is the mark of the current sample, and ``position`` its position: the request's,
    ``own``, unless it has waited. ``tick`` is the monotonic clock of the flush schedule, in s.
    ``gate`` decides in a replay which batch needs a point (None: all do); ``collecting``: nothing
    that waits may leave yet. Holds change at the commit; until then a request holds its own.
    ``withheld`` are counted points that batches did not need, one for each time in it.
    """

    __slots__ = (
        "_offsets",
        "_unsettled",
        "collecting",
        "gate",
        "origin",
        "own",
        "position",
        "tick",
        "transaction",
        "withheld",
    )

    def __init__(
        self,
        transaction: BatchTransaction,
        offsets: OffsetTracker,
        tick: float,
        gate: ReplayGate | None = None,
        collecting: bool = False,
    ) -> None:
        self.transaction = transaction
        self.origin = IngestMark(transaction.request, transaction.now)
        self.own = self.position = transaction.request
        self.tick = tick
        self.gate = gate
        self.collecting = collecting
        self.withheld: list[OpenBatch] = []
        self._offsets = offsets
        self._unsettled: dict[Settles, None] | None = None

    def settle_at_end(self, family: Settles) -> None:
        """Settle a family once more at the end of the request."""
        if self._unsettled is None:
            self._unsettled = {}
        self._unsettled[family] = None

    def end_request(self) -> None:
        """Settle the registered families: all samples of the request were handed out."""
        if self._unsettled is not None:
            for family in self._unsettled:
                family.settle(self, True)
            self._unsettled = None

    def look_at(self, origin: IngestMark, position: int) -> None:
        """Switch to a deferred sample received at ``position``.

        ``origin`` marks a point made of that sample alone.
        """
        self.origin = origin
        self.position = position

    def hold(self) -> None:
        """Hold the current sample's position: it waits to become a point."""
        self.transaction.hold(self.position)

    def needed(self, batches: tuple[OpenBatch, ...]) -> tuple[OpenBatch, ...]:
        """Return those of the batches that need a point of the current sample; note the others."""
        gate = self.gate
        if gate is None:
            return batches
        kept = tuple(batch for batch in batches if gate.needs(batch, self.origin))
        self.withheld += [batch for batch in batches if batch not in kept]
        return kept

    def release(self, position: int) -> None:
        """Give up one hold."""
        self.transaction.release(position)

    def tie(self, first: int, last: int) -> None:
        """Note that samples of two requests are in one point."""
        self._offsets.tie(first, last)

    @property
    def made(self) -> int:
        """The position of points that are made now."""
        return self.own if self.own >= 0 else self._offsets.following - 1

    def late(self, origin: IngestMark, came: int) -> IngestMark:
        """Return the mark of a point that leaves later than its samples arrived: as of now."""
        made = self.made
        self._offsets.tie(origin.position, made)
        return IngestMark(made, origin.arrived_at, origin.named_until, came)


class Stream:
    """Outputs for the points of one identity.

    ``attributes`` are encoded for the kind of ``group``; ``drops`` counts points that become no
    delta; ``samples`` is the number of samples behind the last point.
    """

    __slots__ = ("attributes", "delta", "drops", "group", "outlets")

    def __init__(
        self,
        group: MetricGroup,
        attributes: bytes,
        outlets: tuple[SinkOutput, ...],
        drops: DropTable,
        delta: Delta | None = None,
    ) -> None:
        self.group = group
        self.attributes = attributes
        self.outlets = outlets
        self.drops = drops
        self.delta = delta

    def push(self, point: Point, origin: IngestMark, emitter: Emitter, samples: int = 1) -> bool:
        """Append a cumulative point, or its delta, to every output's batch.

        Return False if there was nothing to append (a delta's first point).
        """
        if self.delta is not None:
            difference = self.delta.step(point)
            if difference is None:
                reason = f"delta_{self.delta.outcome}"
                counters = [outlet.counter for outlet in self.outlets]
                self.drops.count(self.group.identity.name, reason, samples, counters)
                return False
            point = difference
        self._append(encode_point(self.attributes, point), origin, emitter, samples)
        return True

    def push_body(self, body: bytes, origin: IngestMark, emitter: Emitter, samples: int) -> None:
        """Append a point that is encoded but for its attributes; the stream has no delta."""
        assert self.delta is None
        self._append(wrap_point(self.attributes, body), origin, emitter, samples)

    def _append(self, encoded: bytes, origin: IngestMark, emitter: Emitter, samples: int) -> None:
        gate = emitter.gate
        transaction = emitter.transaction
        for outlet in self.outlets:
            counter = outlet.counter
            # Includes points the sink got before a restart and does not need again.
            counter.exported += samples
            if gate is not None and not gate.needs(outlet.batch, origin):
                continue
            transaction.append_point(outlet.batch, self.group, encoded, origin)
            counter.points += 1

    def __repr__(self) -> str:
        return f"<Stream {self.group!r} to {len(self.outlets)} outlets>"


class SampleProcessor(Protocol):
    """Processes the samples of a series, besides its routes."""

    def take(
        self, stamp: bytes, value: bytes, extra: SampleExtras | None, emitter: Emitter
    ) -> None:
        """Process one sample; ``stamp`` is its time and a tag, ``value`` the bytes of a double."""
        ...


class NumberHandler:
    """Makes each sample a number point and pushes it to streams.

    ``routed``: routes make points of the samples, too. ``counts``: no other handler counts their
    exemplars.
    """

    __slots__ = ("_counts", "_routed", "_streams")

    def __init__(
        self, streams: tuple[Stream, ...], *, routed: bool = False, counts: bool = True
    ) -> None:
        self._streams = streams
        self._routed = routed
        self._counts = counts

    def take(
        self, stamp: bytes, value: bytes, extra: SampleExtras | None, emitter: Emitter
    ) -> None:
        """Append the sample to every stream as a number point."""
        point = number_point(stamp, value, extra)
        is_sent = self._routed
        for stream in self._streams:
            is_sent |= stream.push(point, emitter.origin, emitter)
        if point.exemplars and self._counts:
            emitter.transaction.note_exemplars(len(point.exemplars), is_sent)

    def __repr__(self) -> str:
        return f"<NumberHandler {self._streams!r}>"


class RouteHandler:
    """Appends numbers by way of routes, with the marks of an emitter.

    ``counters`` are those of each route's batches, in their order. ``counts``: no other handler of
    the samples counts their exemplars.
    """

    __slots__ = ("counters", "counts", "routes")

    def __init__(
        self,
        routes: tuple[tuple[tuple[OpenBatch, ...], MetricGroup, bytes], ...],
        counters: tuple[tuple[SinkCounter, ...], ...],
        *,
        counts: bool = True,
    ) -> None:
        self.routes = routes
        self.counters = counters
        self.counts = counts

    def take(
        self, stamp: bytes, value: bytes, extra: SampleExtras | None, emitter: Emitter
    ) -> None:
        """Append the sample to every batch that needs it."""
        transaction = emitter.transaction
        origin = emitter.origin
        gate = emitter.gate
        for at, (batches, group, prefix) in enumerate(self.routes):
            head = prefix
            if extra is not None:
                head = encode_point(prefix_attributes(prefix), number_point(stamp, value, extra))
            elif value == STALE:
                head = group.stale_prefix(prefix)
            for place, counter in enumerate(self.counters[at]):
                batch = batches[place]
                # As for streams, this includes what the sink does not need again.
                counter.exported += 1
                if gate is not None and not gate.needs(batch, origin):
                    continue
                if extra is None:
                    transaction.append_late(batch, group, head, stamp, value, origin)
                else:
                    transaction.append_point(batch, group, head, origin)
                counter.points += 1
        if self.counts and extra is not None and extra.exemplars:
            # As for streams, also where a replay needs no point of it: it left before the restart.
            transaction.note_exemplars(len(extra.exemplars), is_sent=True)

    def __repr__(self) -> str:
        return f"<RouteHandler {self.routes!r}>"


def number_point(stamp: bytes, value: bytes, extra: SampleExtras | None) -> NumberPoint:
    """Build a number point from a sample; ``stamp`` is its encoded time and a tag."""
    time_ns = int.from_bytes(stamp[:8], "little")
    if extra is None:
        return NumberPoint(time_ns, value)
    return NumberPoint(time_ns, value, extra.start_ns, extra.exemplars)


def append_number(
    route: Route,
    stamp: bytes,
    value: bytes,
    extra: SampleExtras,
    origin: IngestMark,
    transaction: BatchTransaction,
) -> None:
    """Append a number point with a start time or exemplars by way of a route."""
    batches, group, prefix = route
    point = encode_point(prefix_attributes(prefix), number_point(stamp, value, extra))
    for batch in batches:
        transaction.append_point(batch, group, point, origin)
