from relay.pipeline.batching.transaction import Intake
from relay.pipeline.metrics.hotpath.slow_path import Resolution
from relay.pipeline.metrics.series.hash_index import Guesses
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.metrics.series.series_table import SeriesTable

def has_metadata(body: bytes) -> bool: ...
def consume(
    table: SeriesTable,
    body: bytes,
    intake: Intake,
    resolution: Resolution,
    all_guesses: dict[Series, Guesses],
) -> None: ...
