from relay.pipeline.batching.transaction import Intake
from relay.pipeline.metrics.hotpath.slow_path import Resolution
from relay.pipeline.metrics.series.series_table import SeriesTable

def consume2(table: SeriesTable, body: bytes, intake: Intake, resolution: Resolution) -> None: ...
