from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.metrics.series.lookup import SeriesLookup

def decode_v2_into_batches(
    body: bytes, transaction: BatchTransaction, lookup: SeriesLookup
) -> None: ...
