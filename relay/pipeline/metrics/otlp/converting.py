"""Points that leave in another form than they came in.

* Sinks that want deltas get the difference of cumulative sums and histograms, by way of the same
  state as series of remote write.
* Points are read while their request may still be refused, and sent once it is known to be good, so
  that no state is ever rolled back.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError as ProtobufDecodeError

from relay.codec.otlp.data_points import Point
from relay.codec.otlp.metrics import Kind
from relay.codec.otlp.metrics_in.points import PointFault, raw_exemplars, read_point
from relay.pipeline.batching.emitter import Emitter, Stream
from relay.pipeline.batching.transaction import BatchTransaction, SampleExtras
from relay.pipeline.metrics.otlp.plan import Plan
from relay.pipeline.metrics.raw.points import append_raw_sample
from relay.pipeline.routing.match_set import SinkOutputSpec


class Conversion:
    """Implements :class:`relay.pipeline.metrics.otlp.plan.Converts` for one stream.

    ``targets`` are the sinks that get its points so: those of a point that is no valid one.
    """

    __slots__ = ("streams", "targets")

    def __init__(self, streams: tuple[Stream, ...], targets: Sequence[SinkOutputSpec]) -> None:
        self.streams = streams
        self.targets = tuple(targets)

    def push(self, point: Point, emitter: Emitter) -> None:
        """Send a point."""
        for stream in self.streams:
            stream.push(point, emitter.origin, emitter)

    def __repr__(self) -> str:
        return f"<Conversion to {len(self.streams)} streams>"


def convert(message: bytes, kind: Kind, plan: Plan, transaction: BatchTransaction) -> None:
    """Read a point for the sinks that get it converted; they lose one that contradicts itself."""
    conversion = plan.converts
    assert isinstance(conversion, Conversion)
    try:
        point = read_point(message, kind)
    except PointFault as fault:
        transaction.omit(plan.name, fault.reason, conversion.targets)
        return
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
    try:
        raw = raw_exemplars(message) if message else ()
    except ProtobufDecodeError:
        raw = ()
    if raw:
        transaction.exemplars += len(raw)
        transaction.note_exemplars(len(raw), is_sent=True)
    append_raw_sample(plan, stamp, value, SampleExtras(start_ns, (), raw), transaction)
