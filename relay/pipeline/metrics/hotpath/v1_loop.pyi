from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.metrics.series.lookup import SeriesLookup

def has_metadata(body: bytes, entries_max: int) -> bool: ...
def decode_v1_into_batches(
    body: bytes, transaction: BatchTransaction, lookup: SeriesLookup
) -> None: ...
