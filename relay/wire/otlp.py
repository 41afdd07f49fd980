"""OTLP metrics out: what depends on labels is encoded once, a batch is assembled from pieces.

A number point on the wire is ``prefix + time + 0x21 + value``: everything before the time (the tag
and length of the point, its attributes, its flags) depends on the series alone and is prepared once
as the *prefix*, which ends with the tag of ``time_unix_nano``. :mod:`relay.wire.arena` puts points
together.

Field numbers: opentelemetry-proto, ``metrics/v1/metrics.proto`` and ``common/v1/common.proto``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from relay.wire.protobuf import field_bytes, varint

Kind = Literal["gauge", "sum", "histogram", "exponential_histogram", "summary"]
"""The data that a Metric holds, by the name of its field."""

Temporality = Literal["cumulative", "delta"]

VALUE_TAG = b"\x21"  # NumberDataPoint.as_double (4, fixed64)
POINT_TAIL_BYTES = 8 + len(VALUE_TAG) + 8
"""Bytes of a point behind its prefix: time, tag, value."""

_TIME_TAG = b"\x19"  # NumberDataPoint.time_unix_nano (3, fixed64)
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

_KNOWN_ATTRIBUTES_MAX = 32_768
_KNOWN_VALUE_CHARS_MAX = 256
"""How many encoded attributes are remembered, and of what length: some 30 MB at the worst."""


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
    return _finish_prefix(
        b"".join(
            [
                _attribute(key, value)
                if len(value) <= _KNOWN_VALUE_CHARS_MAX
                else _attribute.__wrapped__(key, value)
                for key, value in attributes
            ]
        )
    )


@lru_cache(maxsize=_KNOWN_ATTRIBUTES_MAX)
def _attribute(key: str, value: str) -> bytes:
    """One attribute of a point. Most series share all but one or two with another one."""
    return field_bytes(_ATTRIBUTE_TAG, key_value(key, value))


def stale_prefix(prefix: bytes) -> bytes:
    """The prefix of the same point with the no-recorded-value flag set.

    The value that follows stays the stale marker itself: a point without a value field is invalid
    by the data model, and a reader that ignores the flag sees NaN, not a zero that nobody measured.
    """
    return _finish_prefix(prefix_attributes(prefix) + _NO_RECORDED_VALUE)


def prefix_attributes(prefix: bytes) -> bytes:
    """What :func:`point_prefix` made of the attributes: their fields, encoded."""
    head = 1
    while prefix[head] > 127:
        head += 1
    return prefix[head + 1 : -1]


def _finish_prefix(body: bytes) -> bytes:
    size = len(body) + len(_TIME_TAG) + POINT_TAIL_BYTES
    return _POINT_TAG + varint(size) + body + _TIME_TAG


class ResourceGroup:
    """One resource; compared by identity, so whoever makes them interns them by attributes."""

    __slots__ = ("encoded",)

    def __init__(self, attributes: Iterable[tuple[str, str]]) -> None:
        body = b"".join(field_bytes(b"\x0a", key_value(k, v)) for k, v in attributes)
        self.encoded = field_bytes(b"\x0a", body)


class ScopeGroup:
    """One instrumentation scope of one resource; compared by identity."""

    __slots__ = ("encoded", "resource")

    def __init__(
        self,
        resource: ResourceGroup,
        name: str,
        version: str = "",
        attributes: Iterable[tuple[str, str]] = (),
        schema_url: str = "",
    ) -> None:
        self.resource = resource
        body = field_bytes(b"\x0a", name.encode()) if name else b""
        if version:
            body += field_bytes(b"\x12", version.encode())
        body += b"".join(field_bytes(b"\x1a", key_value(k, v)) for k, v in attributes)
        self.encoded = field_bytes(b"\x0a", body)
        if schema_url:
            self.encoded += field_bytes(b"\x1a", schema_url.encode())  # ScopeMetrics.schema_url (3)


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


class MetricGroup:
    """One Metric of one scope, ready to wrap its points; compared by identity."""

    __slots__ = ("data_tag", "data_tail", "head", "identity", "scope")

    def __init__(self, scope: ScopeGroup, identity: MetricIdentity) -> None:
        self.scope = scope
        self.identity = identity
        head = field_bytes(b"\x0a", identity.name.encode())
        if identity.description:
            head += field_bytes(b"\x12", identity.description.encode())
        if identity.unit:
            head += field_bytes(b"\x1a", identity.unit.encode())
        if identity.prometheus_type:
            head += field_bytes(b"\x62", key_value("prometheus.type", identity.prometheus_type))
        self.head = head
        self.data_tag = _DATA_TAG[identity.kind]
        tail = b""
        if identity.kind in _TEMPORAL:
            tail = _TEMPORALITY[identity.temporality]
        if identity.kind == "sum" and identity.monotonic:
            tail += _MONOTONIC
        self.data_tail = tail

    def __repr__(self) -> str:
        return f"<MetricGroup {self.identity.name} {self.identity.kind}>"
