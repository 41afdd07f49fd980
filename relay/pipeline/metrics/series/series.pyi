from collections.abc import Iterator

from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.groups import MetricGroup
from relay.pipeline.batching.emitter import SampleProcessor
from relay.pipeline.metrics.histograms.native import NativeRoute
from relay.pipeline.metrics.metadata.metric_types import Typing
from relay.pipeline.metrics.metadata.project_types import Declaration, ProjectTypes
from relay.pipeline.routing.match_set import MatchSet
from relay.pipeline.routing.route import Route, VersionedDependency
from relay.selector.inventory.info_series import InfoSeriesClaim

class Series:
    key: bytes
    predicted_next: Series | None
    generation: int
    resolved_version: int
    match_set: MatchSet
    routes: tuple[Route, ...]
    handlers: tuple[SampleProcessor, ...]
    metric_type: Typing | None
    types: ProjectTypes
    declared: Declaration | None
    dependencies: tuple[VersionedDependency, ...]
    dependency_version: int
    native: NativeRoute | None
    name: str
    fault: str
    info_claim: InfoSeriesClaim | None
    is_known: bool
    scope: int

    def __init__(self, key: bytes) -> None: ...
    def empty(self, key: bytes) -> None: ...

class SeriesQueue:
    def append(self, series: Series) -> None: ...
    def popleft(self) -> Series: ...
    def first(self) -> Series | None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Series]: ...

def new_series(key: bytes) -> Series: ...
def is_faulty(series: Series) -> bool: ...
def set_route(
    series: Series, batches: tuple[OpenBatch, ...], group: MetricGroup, prefix: bytes
) -> None: ...
