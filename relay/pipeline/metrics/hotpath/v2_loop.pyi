from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.metrics.hotpath.slow_path import Resolution
from relay.pipeline.metrics.series.series_table import SeriesTable

def decode_v2_into_batches(
    table: SeriesTable, body: bytes, transaction: BatchTransaction, resolution: Resolution
) -> None: ...
