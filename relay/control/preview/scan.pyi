from collections.abc import Callable, Iterator

from relay.pipeline.metrics.metadata.project_types import ProjectTypes
from relay.pipeline.metrics.series.series import Series

ANSWERS_MAX: int
"""Cached answers of all names; at the limit all are forgotten."""
NAMES_MAX: int
"""Metric names that are counted one by one."""
FIRST_MAX: int
"""Series that are listed of each selection."""
SAMPLED_MAX: int
"""Series of each selection whose arrivals can be measured."""

class NamePlan:
    decided: int
    labels: tuple[bytes, ...]
    cached: bool
    counts: dict[int, int]

    def __init__(
        self,
        decided: int,
        labels: tuple[bytes, ...] = (),
        answer: Callable[[tuple[bytes | None, ...] | None, bytes], int] | None = None,
        *,
        cached: bool = True,
    ) -> None: ...
    def total(self) -> dict[int, int]: ...

class SelectedSeries:
    count: int
    sampled: list[Series]

    def __init__(self, seed: int) -> None: ...
    @property
    def first(self) -> tuple[tuple[str, bytes], ...]: ...

class SeriesScan:
    seen: int
    unnamed: int
    others: NamePlan
    selected: tuple[SelectedSeries, ...]

    def __init__(
        self,
        types: ProjectTypes,
        plan: Callable[[str], NamePlan],
        read: Callable[[bytes, tuple[bytes, ...]], tuple[bytes | None, ...]],
        lists: tuple[tuple[int, int], ...],
        *,
        seed: int,
        names_max: int,
    ) -> None: ...
    def run(self, series: list[Series], start: int, seconds: float) -> int: ...
    def by_name(self) -> Iterator[tuple[str, dict[int, int]]]: ...
