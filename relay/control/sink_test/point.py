"""Encode the synthetic point of a sink test by the parts that encode every other point.

The point is one sample of :data:`METRIC`, value 1, with the labels ``exporter`` and ``sink``; it
goes through a pipeline of its own, so it has the form that the sink's options give to any sample.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from relay.codec.otlp.batch import OpenBatch, SealedBatch
from relay.codec.remote_write.encode import encode_series
from relay.codec.remote_write.raw_series import RawSeries
from relay.codec.remote_write.v1 import label_key
from relay.config.exporter.types import OtlpHttp, Sink
from relay.control.reconcile.sink_entry import output_options
from relay.control.sink_test.record import record_request
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.limits import Limits
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.selector.matchers import NAME, Selector
from relay.sink.kinds import encoders_for
from relay.sink.open_batches import open_batches
from relay.sink.queue.encoding import SharedBodyCache, encode_batch
from relay.sink.queue.payload import EncodedRequest
from relay.sink.request_size import configured_bytes_max

METRIC: Final = "telemetry_relay_sink_test"
_LIMITS: Final = Limits(series_max=1_000, families_max=1_000, histograms_max=1_000)


class _Owner:
    """Owns the batches of one point."""

    def __init__(self, exporter: str, sink: Sink) -> None:
        self.exporter_id = exporter
        self.sink_id = sink.name
        self._batches = open_batches(self, sink)

    @property
    def shards(self) -> Sequence[OpenBatch]:
        return self._batches

    def offer(self, sealed: SealedBatch, shard: int) -> None:
        raise AssertionError(f"a batch of {sealed.count} points of shard {shard} was handed over")


def synthetic_request(exporter: str, sink: Sink, now: float) -> EncodedRequest:
    """Return the request with the point, log record or span of one output; ``now``: clock, s."""
    if isinstance(sink.endpoint, OtlpHttp) and sink.endpoint.signal != "metrics":
        return record_request(exporter, sink, now)
    labels = {NAME: METRIC, "exporter": exporter, "sink": sink.name}
    sample = (struct.pack("<d", 1.0), int(now * 1000), 0)
    series = RawSeries(label_key(sorted(labels.items())), samples=(sample,))
    body = encode_series(series, "remote_write_v1").data
    owner = _Owner(exporter, sink)
    engine = MetricsPipeline(_LIMITS)
    target = SinkOutputSpec(SinkCounter(exporter, sink.name), owner.shards, output_options(sink))
    engine.add_exporter(exporter, "", [("test", Selector(()), [target])])
    transaction = engine.ingest(body, now=now, tick=0.0)
    sealed = [*transaction.sealed, *engine.flush(owner.shards)]
    endpoint = sink.endpoint
    (request,) = (
        request
        for batch, one in sealed
        for request in encode_batch(
            one,
            encoders_for(endpoint).new,
            shard=batch.shard,
            compression=endpoint.compression,
            bytes_max=configured_bytes_max(sink),
            bodies=SharedBodyCache(),
        )
    )
    return request
