from collections.abc import Sequence

from relay.codec.otlp.data_points import HistogramPoint, SummaryPoint

COUNT_MAX: float

class ClassicLayout:
    def __init__(
        self,
        bounds: tuple[float, ...],
        places: Sequence[int],
        top: int | None,
        count: int,
        total: int | None,
    ) -> None: ...
    def encode(self, slots: list[bytes | None], time_ns: int, start_ns: int) -> bytes | None: ...
    def point(
        self, slots: list[bytes | None], time_ns: int, start_ns: int
    ) -> HistogramPoint | None: ...

class SummaryLayout:
    def __init__(
        self, quantiles: tuple[float, ...], places: Sequence[int], count: int, total: int | None
    ) -> None: ...
    def encode(self, slots: list[bytes | None], time_ns: int, start_ns: int) -> bytes | None: ...
    def point(
        self, slots: list[bytes | None], time_ns: int, start_ns: int
    ) -> SummaryPoint | None: ...
