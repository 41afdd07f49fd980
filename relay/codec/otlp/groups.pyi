from collections.abc import Collection, Iterable

from relay.codec.otlp.metrics import MetricIdentity

class Numbered:
    shard_key: int

class ResourceGroup(Numbered):
    encoded: bytes

    def __init__(self, attributes: Iterable[tuple[str, str]]) -> None: ...
    @staticmethod
    def as_came(head: bytes) -> ResourceGroup: ...

class ScopeGroup(Numbered):
    encoded: bytes
    resource: ResourceGroup

    def __init__(
        self,
        resource: ResourceGroup,
        name: str,
        version: str = "",
        attributes: Collection[tuple[str, str]] = (),
        schema_url: str = "",
    ) -> None: ...
    @staticmethod
    def as_came(resource: ResourceGroup, head: bytes) -> ScopeGroup: ...

class MetricGroup(Numbered):
    scope: ScopeGroup
    head: bytes
    data_tag: bytes
    data_tail: bytes
    identity: MetricIdentity

    def __init__(self, scope: ScopeGroup, identity: MetricIdentity) -> None: ...
    @staticmethod
    def as_came(
        scope: ScopeGroup, identity: MetricIdentity, head: bytes, tail: bytes | None = None
    ) -> MetricGroup: ...
    def stale_prefix(self, prefix: bytes) -> bytes: ...
