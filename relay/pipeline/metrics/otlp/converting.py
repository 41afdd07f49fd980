"""Points that leave in another form than they came in.

* Sinks that want deltas get the difference of cumulative sums and histograms, by way of the same
  state as series of remote write.
* Sinks of remote write get histograms and summaries as the series that they are in Prometheus.
* Points are read while their request may still be refused, and sent once it is known to be good, so
  that no state is ever rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from relay.codec.otlp.data_points import ExponentialPoint, HistogramPoint, Point, SummaryPoint
from relay.codec.otlp.metrics import Kind, encode_time
from relay.codec.otlp.metrics_in.points import PointFault, buckets_of, read_exemplars, read_point
from relay.codec.otlp.metrics_in.prometheus_points import (
    FamilyMember,
    members_of,
    native_histogram,
    raw_exemplar,
)
from relay.codec.remote_write.raw.buffer import RawEntry
from relay.codec.remote_write.raw.entries import histogram_entry, sample_entry
from relay.pipeline.batching.emitter import Emitter, Stream
from relay.pipeline.batching.transaction import BatchTransaction, SampleExtras
from relay.pipeline.drop_counters import DropTable
from relay.pipeline.metrics.hotpath.slow_path import count_expansion, count_slow_path_entry
from relay.pipeline.metrics.otlp.plan import Plan
from relay.pipeline.metrics.raw.points import NS_PER_MS, PROTOCOLS, append_raw_sample
from relay.pipeline.routing.match_set import RawOutput, SinkOutputSpec
from relay.pipeline.routing.route import Route

MEMBERS_MAX: Final = 1_000
"""Series of one histogram or summary that are remembered."""
MEMBER_BYTES: Final = 64
"""About the memory of one series' sample."""
SCALE: Final = "scale"
"""Reason for exponential histograms that Prometheus has no schema for."""

MakeRoutes = Callable[[str, tuple[str, str]], tuple[Route, ...]]
"""Returns the routes of a member to all outputs, by the suffix of its name and its own label."""


class PrometheusSeries:
    """Sends the histograms or summaries of one stream to sinks of remote write.

    ``outputs`` are these sinks, by their options; ``make_routes`` makes the routes of a series.
    """

    __slots__ = ("_drops", "_make_routes", "_name", "_outputs", "_routes")

    def __init__(
        self,
        name: str,
        outputs: Sequence[RawOutput],
        make_routes: MakeRoutes,
        drops: DropTable,
    ) -> None:
        self._name = name
        self._outputs = tuple(outputs)
        self._make_routes = make_routes
        self._drops = drops
        self._routes: dict[tuple[str, tuple[str, str]], tuple[Route, ...]] = {}

    def push(self, point: Point, emitter: Emitter) -> None:
        """Send a point as samples, or as a native histogram."""
        if isinstance(point, ExponentialPoint):
            self._push_native(point, emitter)
            return
        assert isinstance(point, HistogramPoint | SummaryPoint)
        for member in members_of(point):
            emitter.transaction.pace.pause()
            self._push_member(point, member, emitter)
        for output in self._outputs:
            for counter in output.counters:
                counter.exported += 1

    def _push_member(
        self, point: HistogramPoint | SummaryPoint, member: FamilyMember, emitter: Emitter
    ) -> None:
        time_ms = point.time_ns // NS_PER_MS
        stamp = encode_time(time_ms)
        assert stamp is not None, "a time that OTLP can express"
        start_ms = point.start_ns // NS_PER_MS if point.start_ns <= point.time_ns else 0
        routes = self._routes_of(member.suffix, member.label)
        for output, route in zip(self._outputs, routes, strict=True):
            protocol = PROTOCOLS[output.options.protocol]
            entry = None
            if member.exemplars or (start_ms and protocol == "remote_write_v2"):
                entry = sample_entry(
                    protocol,
                    route[2],
                    member.value,
                    time_ms,
                    start_ms=start_ms,
                    exemplars=member.exemplars,
                )
            self._append(output, route, stamp, member.value, entry, emitter)

    def _push_native(self, point: ExponentialPoint, emitter: Emitter) -> None:
        message = native_histogram(point)
        if message is None:
            counters = [counter for output in self._outputs for counter in output.counters]
            self._drops.count(self._name, SCALE, 1, counters)
            return
        time_ms = point.time_ns // NS_PER_MS
        exemplars = tuple(map(raw_exemplar, point.exemplars))
        routes = self._routes_of("", ("", ""))
        for output, route in zip(self._outputs, routes, strict=True):
            protocol = PROTOCOLS[output.options.protocol]
            entry = histogram_entry(protocol, route[2], message, time_ms, exemplars=exemplars)
            assert entry is not None, "only custom buckets have no form in 1.0"
            self._append(output, route, b"", b"", entry, emitter)
            for counter in output.counters:
                counter.exported += 1

    @staticmethod
    def _append(
        output: RawOutput,
        route: Route,
        stamp: bytes,
        value: bytes,
        entry: RawEntry | None,
        emitter: Emitter,
    ) -> None:
        """Append a sample, or an entry, to the batches of an output that need it."""
        batches, group, prefix = route
        transaction, gate = emitter.transaction, emitter.gate
        for batch, counter in zip(batches, output.counters, strict=True):
            if gate is not None and not gate.needs(batch, emitter.origin):
                continue
            if entry is None:
                transaction.append_sample(batch, group, prefix, stamp, value)
            else:
                transaction.append_point(batch, group, entry, emitter.origin)
            counter.points += 1

    def _routes_of(self, suffix: str, label: tuple[str, str]) -> tuple[Route, ...]:
        found = self._routes.get((suffix, label))
        if found is None:
            if len(self._routes) >= MEMBERS_MAX:
                self._routes.clear()
            found = self._routes[suffix, label] = self._make_routes(suffix, label)
        return found

    def __repr__(self) -> str:
        return f"<PrometheusSeries of {self._name}>"


class Conversion:
    """Implements :class:`relay.pipeline.metrics.otlp.plan.Converts` for one stream.

    ``targets`` are the sinks that get its points so: those that lose a point that is no valid one.
    """

    __slots__ = ("deltas", "series", "targets")

    def __init__(
        self,
        deltas: Stream | None,
        series: PrometheusSeries | None,
        targets: Sequence[SinkOutputSpec],
    ) -> None:
        self.deltas = deltas
        self.series = series
        self.targets = tuple(targets)

    def push(self, point: Point, emitter: Emitter) -> None:
        """Send a point."""
        if self.deltas is not None:
            self.deltas.push(point, emitter.origin, emitter)
        if self.series is not None:
            self.series.push(point, emitter)

    def __repr__(self) -> str:
        return f"<Conversion for {len(self.targets)} sinks>"


def convert(message: bytes, kind: Kind, plan: Plan, transaction: BatchTransaction) -> None:
    """Read a point for the sinks that get it converted; they lose one that contradicts itself."""
    conversion = plan.converts
    assert isinstance(conversion, Conversion)
    count_slow_path_entry(transaction)
    transaction.pace.pause()  # a point may have 1 MiB
    try:
        point = read_point(message, kind)
    except PointFault as fault:
        transaction.omit(plan.name, fault.reason, conversion.targets)
        return
    if conversion.series is not None:
        size = len(message) + MEMBER_BYTES * buckets_of(point)
        count_expansion(size * len(plan.match_set.base.raw), transaction)
    transaction.native.append((conversion, point))


def append_with_extras(
    plan: Plan,
    stamp: bytes,
    value: bytes,
    start_ns: int,
    message: bytes,
    transaction: BatchTransaction,
) -> None:
    """Append a sample with a start time, or with the exemplars of its message."""
    raw = tuple(map(raw_exemplar, read_exemplars(message))) if message else ()
    if raw:
        transaction.exemplars += len(raw)
        transaction.note_exemplars(len(raw), is_sent=True)
    append_raw_sample(plan, stamp, value, SampleExtras(start_ns, (), raw), transaction)
