from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.metrics.hotpath.slow_path import Resolution
from relay.pipeline.metrics.series.hash_index import SeriesHashIndex
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.metrics.series.series_table import SeriesTable

def has_metadata(body: bytes) -> bool: ...
def decode_v1_into_batches(
    table: SeriesTable,
    body: bytes,
    transaction: BatchTransaction,
    resolution: Resolution,
    all_guesses: dict[Series, SeriesHashIndex],
) -> None: ...
