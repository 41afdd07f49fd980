from relay.codec.otlp.metrics_in.scan import MetricsEnvelope
from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.metrics.otlp.stream_table import MetricEntry
from relay.pipeline.metrics.otlp.streams import OtlpStreams

def take_points(
    envelope: MetricsEnvelope,
    first: int,
    stop: int,
    metric: MetricEntry,
    streams: OtlpStreams,
    transaction: BatchTransaction,
) -> None: ...
