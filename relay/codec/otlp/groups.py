"""The metrics, scopes and resources of OTLP requests, encoded once and shared by their points.

A point buffer reads a group for every row of its points, and scraped series have rows of fewer than
two: the module is compiled, so that this costs no look-up of attributes. Groups refer to encoded
bytes and upwards only, never back, so they need no garbage collection.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from zlib import crc32

from relay.codec.otlp.metrics import DATA_TAG, MetricIdentity, key_value, stale_prefix
from relay.codec.protobuf import field_bytes

_SHARED_MAX = 1_024
_SHARED_CHARS_MAX = 256
"""Number and length, in characters, of the resource attributes and scopes that are cached."""


@lru_cache(maxsize=_SHARED_MAX)
def _resource_attribute(key: str, value: str) -> bytes:
    """Encode one Resource.attributes (1)."""
    return field_bytes(b"\x0a", key_value(key, value))


@lru_cache(maxsize=_SHARED_MAX)
def _plain_scope(name: str, version: str) -> bytes:
    return _scope(name, version, (), "")


def _scope(
    name: str, version: str, attributes: Iterable[tuple[str, str]], schema_url: str
) -> bytes:
    """Encode ScopeMetrics.scope (1) and schema_url (3)."""
    body = field_bytes(b"\x0a", name.encode()) if name else b""
    if version:
        body += field_bytes(b"\x12", version.encode())
    body += b"".join([field_bytes(b"\x1a", key_value(key, value)) for key, value in attributes])
    encoded = field_bytes(b"\x0a", body)
    return encoded + field_bytes(b"\x1a", schema_url.encode()) if schema_url else encoded


_LASTING_ATTRIBUTES = frozenset({"service.name", "service.namespace", "service.instance.id"})
"""Resource attributes derived from the labels ``job`` and ``instance``; they never change."""


class Numbered:
    """An object that a request numbers by first appearance, without a table of its own."""

    __slots__ = ()


class ResourceGroup(Numbered):
    """One resource, encoded. Compared by identity: the caller must intern it by attributes."""

    __slots__ = ("__weakref__", "encoded", "shard_key")

    def __init__(self, attributes: Iterable[tuple[str, str]]) -> None:
        pairs = list(attributes)
        body = b"".join(
            [
                _resource_attribute(key, value)
                if len(key) + len(value) <= _SHARED_CHARS_MAX
                else _resource_attribute.__wrapped__(key, value)
                for key, value in pairs
            ]
        )
        self.shard_key = crc32(b"".join(v.encode() for k, v in pairs if k in _LASTING_ATTRIBUTES))
        self.encoded = field_bytes(b"\x0a", body)

    @classmethod
    def as_came(cls, head: bytes) -> ResourceGroup:
        """Return a resource whose ResourceMetrics message begins with these bytes."""
        made = cls.__new__(cls)
        made.shard_key = crc32(head)
        made.encoded = head
        return made


class ScopeGroup(Numbered):
    """One instrumentation scope of one resource, encoded. Compared by identity."""

    __slots__ = ("__weakref__", "encoded", "resource")

    def __init__(
        self,
        resource: ResourceGroup,
        name: str,
        version: str = "",
        attributes: Collection[tuple[str, str]] = (),
        schema_url: str = "",
    ) -> None:
        self.resource = resource
        if attributes or schema_url or len(name) + len(version) > _SHARED_CHARS_MAX:
            self.encoded = _scope(name, version, attributes, schema_url)
        else:
            self.encoded = _plain_scope(name, version)

    @classmethod
    def as_came(cls, resource: ResourceGroup, head: bytes) -> ScopeGroup:
        """Return a scope whose ScopeMetrics message begins with these bytes."""
        made = cls.__new__(cls)
        made.resource = resource
        made.encoded = head
        return made


class MetricGroup(Numbered):
    """One Metric of one scope, ready to wrap its points. Compared by identity.

    ``shard_key`` selects the shard of its points. It depends only on what never changes for a
    series (not on metadata or ``target_info``), so all points of a metric share one request.
    """

    __slots__ = ("__weakref__", "data_tag", "data_tail", "head", "identity", "scope", "shard_key")

    def __init__(self, scope: ScopeGroup, identity: MetricIdentity) -> None:
        self.scope = scope
        self.identity = identity
        self.head = identity.head
        self.shard_key = crc32(identity.name.encode(), scope.resource.shard_key)
        self.data_tag = DATA_TAG[identity.kind]
        self.data_tail = identity.data_tail

    @classmethod
    def as_came(
        cls, scope: ScopeGroup, identity: MetricIdentity, head: bytes, tail: bytes | None = None
    ) -> MetricGroup:
        """Return a metric whose message begins with ``head``, and its data ends with ``tail``.

        Without a tail the data ends as the identity says.
        """
        made = cls(scope, identity)
        made.head = head
        if tail is not None:
            made.data_tail = tail
        return made

    def stale_prefix(self, prefix: bytes) -> bytes:
        """Return the prefix of a point whose value is the stale marker."""
        return stale_prefix(prefix)

    def __repr__(self) -> str:
        return f"<MetricGroup {self.identity.name} {self.identity.kind}>"
