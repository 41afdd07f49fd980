from relay.pipeline.careful import Resolution
from relay.pipeline.intake import Intake
from relay.pipeline.table import SeriesTable

def consume2(table: SeriesTable, body: bytes, intake: Intake, resolution: Resolution) -> None: ...
