from relay.inventory.info_series import Claim
from relay.pipeline.metric_types import Typing
from relay.pipeline.native import NativeRoute
from relay.pipeline.plans import Plan
from relay.pipeline.project_types import Declaration, ProjectTypes
from relay.pipeline.route import Fact, Route
from relay.pipeline.streams import Handler

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
