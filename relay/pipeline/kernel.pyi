from relay.pipeline.careful import Resolution
from relay.pipeline.intake import Intake
from relay.pipeline.memo import Memo
from relay.pipeline.table import SeriesTable

def consume(
    table: SeriesTable, body: bytes, intake: Intake, resolution: Resolution, memo: Memo
) -> None: ...
