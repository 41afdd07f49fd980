from relay.pipeline.batching.emitter import Handler
from relay.pipeline.metrics.histograms.native import NativeRoute
from relay.pipeline.metrics.metadata.metric_types import Typing
from relay.pipeline.metrics.metadata.project_types import Declaration, ProjectTypes
from relay.pipeline.routing.match_set import Plan
from relay.pipeline.routing.route import Fact, Route
from relay.selector.inventory.info_series import Claim

class Series:
    key: bytes
    next: Series | None
    generation: int
    resolved: int
    plan: Plan
    routes: tuple[Route, ...]
    handlers: tuple[Handler, ...]
    typing: Typing | None
    types: ProjectTypes
    declared: Declaration | None
    facts: tuple[Fact, ...]
    seen: int
    native: NativeRoute | None
    name: str
    fault: str
    claim: Claim | None
    is_known: bool
    shard: dict[bytes, Series] | None

    def __init__(self, key: bytes) -> None: ...
    def empty(self, key: bytes) -> None: ...
