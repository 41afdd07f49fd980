"""OTLP metrics out: what depends on labels is encoded once, a batch is assembled from pieces.

A number point on the wire is ``prefix + time + 0x21 + value``: everything before the time (the tag
and length of the point, its attributes, its flags) depends on the series alone and is prepared once
as the *prefix*, which ends with the tag of ``time_unix_nano``.
:mod:`relay.codec.otlp.point_buffer` puts points together.

Field numbers: opentelemetry-proto, ``metrics/v1/metrics.proto`` and ``common/v1/common.proto``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal
from zlib import crc32

from relay.codec.protobuf import field_bytes, varint

Kind = Literal["gauge", "sum", "histogram", "exponential_histogram", "summary"]
"""The data that a Metric holds, by the name of its field."""

Temporality = Literal["cumulative", "delta"]

VALUE_TAG = b"\x21"  # NumberDataPoint.as_double (4, fixed64)
POINT_TAIL_BYTES = 8 + len(VALUE_TAG) + 8
"""Bytes of a point behind its prefix: time, tag, value."""

TIME_TAG = b"\x19"  # NumberDataPoint.time_unix_nano (3, fixed64)
_POINT_TAG = b"\x0a"  # data_points (1), in all five kinds
_ATTRIBUTE_TAG = b"\x3a"  # NumberDataPoint.attributes (7)
_NO_RECORDED_VALUE = (
    b"\x40\x01"  # NumberDataPoint.flags (8) = DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
)
_TEMPORALITY: dict[Temporality, bytes] = {"delta": b"\x10\x01", "cumulative": b"\x10\x02"}
"""aggregation_temporality (2) of sums and both histograms; gauges and summaries have none."""
_TEMPORAL: frozenset[Kind] = frozenset({"sum", "histogram", "exponential_histogram"})
_MONOTONIC = b"\x18\x01"  # Sum.is_monotonic (3)
_DATA_TAG: dict[Kind, bytes] = {
    "gauge": b"\x2a",  # Metric.gauge (5)
    "sum": b"\x3a",  # 7
    "histogram": b"\x4a",  # 9
    "exponential_histogram": b"\x52",  # 10
    "summary": b"\x5a",  # 11
}

_TIME_MS_MAX = (2**63 - 1) // 1_000_000
"""OTLP times are unsigned, but most readers keep nanoseconds in a signed 64-bit integer."""


def encode_time(timestamp_ms: int) -> bytes | None:
    """The OTLP time and the tag of the value behind it; None where OTLP cannot express the time.

    Zero means "unknown" in OTLP and consumers should refuse it; negative times do not exist there.
    """
    if 0 < timestamp_ms <= _TIME_MS_MAX:
        return (timestamp_ms * 1_000_000).to_bytes(8, "little") + VALUE_TAG
    return None


def key_value(key: str, value: str) -> bytes:
    """KeyValue{key, AnyValue{string_value}} without a tag of its own."""
    text = value.encode()
    return field_bytes(b"\x0a", key.encode()) + field_bytes(b"\x12", field_bytes(b"\x0a", text))


def point_prefix(attributes: Iterable[tuple[str, str]]) -> bytes:
    """Everything of a number point before its time; keys must be unique, order is kept."""
    return finish_prefix(
        b"".join([field_bytes(_ATTRIBUTE_TAG, key_value(key, value)) for key, value in attributes])
    )


def stale_prefix(prefix: bytes) -> bytes:
    """The prefix of the same point with the no-recorded-value flag set.

    The value that follows stays the stale marker itself: a point without a value field is invalid
    by the data model, and a reader that ignores the flag sees NaN, not a zero that nobody measured.
    """
    return finish_prefix(prefix_attributes(prefix) + _NO_RECORDED_VALUE)


def prefix_attributes(prefix: bytes) -> bytes:
    """What :func:`point_prefix` made of the attributes: their fields, encoded."""
    head = 1
    while prefix[head] > 127:
        head += 1
    return prefix[head + 1 : -1]


def finish_prefix(body: bytes) -> bytes:
    """The prefix of a number point whose attributes are these fields, one behind the other."""
    return b"".join((prefix_heads[len(body)], body, TIME_TAG))


class _PrefixHeads(dict[int, bytes]):
    """How a number point's prefix begins, by how many bytes its attributes take."""

    def __missing__(self, size: int) -> bytes:
        head = _POINT_TAG + varint(size + len(TIME_TAG) + POINT_TAIL_BYTES)
        if size < _PREFIX_HEADS_MAX:
            self[size] = head
        return head


_PREFIX_HEADS_MAX = 4_096
prefix_heads = _PrefixHeads()
"""What stands before a number point's attributes, by their size."""


_SHARED_MAX = 1_024
_SHARED_CHARS_MAX = 256
"""Attributes of resources, and scopes, that many groups share, and of what length."""


@lru_cache(maxsize=_SHARED_MAX)
def _resource_attribute(key: str, value: str) -> bytes:
    """Resource.attributes (1)."""
    return field_bytes(b"\x0a", key_value(key, value))


@lru_cache(maxsize=_SHARED_MAX)
def _plain_scope(name: str, version: str) -> bytes:
    return _scope(name, version, (), "")


def _scope(
    name: str, version: str, attributes: Iterable[tuple[str, str]], schema_url: str
) -> bytes:
    """ScopeMetrics.scope (1) and schema_url (3)."""
    body = field_bytes(b"\x0a", name.encode()) if name else b""
    if version:
        body += field_bytes(b"\x12", version.encode())
    body += b"".join([field_bytes(b"\x1a", key_value(key, value)) for key, value in attributes])
    encoded = field_bytes(b"\x0a", body)
    return encoded + field_bytes(b"\x1a", schema_url.encode()) if schema_url else encoded


_LASTING_ATTRIBUTES = frozenset({"service.name", "service.namespace", "service.instance.id"})
"""Attributes of a resource that come from the labels ``job`` and ``instance``."""


class ResourceGroup:
    """One resource; compared by identity, so whoever makes them interns them by attributes."""

    __slots__ = ("__weakref__", "encoded", "lane_key")

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
        self.lane_key = crc32(b"".join(v.encode() for k, v in pairs if k in _LASTING_ATTRIBUTES))
        self.encoded = field_bytes(b"\x0a", body)


class ScopeGroup:
    """One instrumentation scope of one resource; compared by identity."""

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


@dataclass(frozen=True, slots=True)
class MetricIdentity:
    """What makes two points belong to one Metric, besides resource and scope."""

    name: str
    kind: Kind
    monotonic: bool = False
    unit: str = ""
    description: str = ""
    prometheus_type: str = ""
    """Value of ``prometheus.type`` in Metric.metadata; "" leaves it out (the type was inferred)."""
    temporality: Temporality = "cumulative"
    """Of sums and histograms; gauges and summaries have none."""
    head: bytes = field(init=False, repr=False, compare=False)
    """The Metric but for its data, shared by all groups of the identity."""
    data_tail: bytes = field(init=False, repr=False, compare=False)
    """What its data ends with, behind the points."""
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        head = field_bytes(b"\x0a", self.name.encode())
        if self.description:
            head += field_bytes(b"\x12", self.description.encode())
        if self.unit:
            head += field_bytes(b"\x1a", self.unit.encode())
        if self.prometheus_type:
            head += field_bytes(b"\x62", key_value("prometheus.type", self.prometheus_type))
        object.__setattr__(self, "head", head)
        tail = b""
        if self.kind in _TEMPORAL:
            tail = _TEMPORALITY[self.temporality]
        if self.kind == "sum" and self.monotonic:
            tail += _MONOTONIC
        object.__setattr__(self, "data_tail", tail)
        # Looked up for every new series.
        object.__setattr__(self, "_hash", hash((self.name, self.kind, self.temporality)))

    def __hash__(self) -> int:
        return self._hash


class MetricGroup:
    """One Metric of one scope, ready to wrap its points; compared by identity.

    ``lane_key`` chooses the lane of its points. All of a metric's go the same way, so that they
    stand together in one request, and it rests on nothing that a series may change in its life:
    not on metadata, not on what ``target_info`` says.
    """

    __slots__ = ("__weakref__", "data_tag", "data_tail", "head", "identity", "lane_key", "scope")

    def __init__(self, scope: ScopeGroup, identity: MetricIdentity) -> None:
        self.scope = scope
        self.identity = identity
        self.head = identity.head
        self.lane_key = crc32(identity.name.encode(), scope.resource.lane_key)
        self.data_tag = _DATA_TAG[identity.kind]
        self.data_tail = identity.data_tail

    def __repr__(self) -> str:
        return f"<MetricGroup {self.identity.name} {self.identity.kind}>"
