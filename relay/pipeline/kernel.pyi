from relay.pipeline.careful import Resolution
from relay.pipeline.guesses import Guesses
from relay.pipeline.intake import Intake
from relay.pipeline.series import Series
from relay.pipeline.table import SeriesTable

def has_metadata(body: bytes) -> bool: ...
def consume(
    table: SeriesTable,
    body: bytes,
    intake: Intake,
    resolution: Resolution,
    all_guesses: dict[Series, Guesses],
) -> None: ...
