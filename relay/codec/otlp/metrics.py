"""Encode the parts of OTLP metrics that depend on labels, once per series, metric or resource.

A number point is ``prefix + time + 0x21 + value``. The *prefix* (tag and length of the point,
attributes, flags, tag of ``time_unix_nano``) depends on the series alone.
:mod:`relay.codec.otlp.point_buffer` assembles requests from these pieces.

Field numbers: opentelemetry-proto, ``metrics/v1/metrics.proto`` and ``common/v1/common.proto``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from relay.codec.protobuf import field_bytes, varint

Kind = Literal["gauge", "sum", "histogram", "exponential_histogram", "summary"]
"""Kind of a Metric's data, by its protobuf field name."""

Temporality = Literal["cumulative", "delta"]

VALUE_TAG = b"\x21"  # NumberDataPoint.as_double (4, fixed64)
POINT_TAIL_BYTES = 8 + len(VALUE_TAG) + 8
"""Bytes of a point after its prefix: time, tag, value."""

TIME_TAG = b"\x19"  # NumberDataPoint.time_unix_nano (3, fixed64)
_POINT_TAG = b"\x0a"  # data_points (1), in all five kinds
_ATTRIBUTE_TAG = b"\x3a"  # NumberDataPoint.attributes (7)
_NO_RECORDED_VALUE = (
    b"\x40\x01"  # NumberDataPoint.flags (8) = DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
)
_TEMPORALITY: dict[Temporality, bytes] = {"delta": b"\x10\x01", "cumulative": b"\x10\x02"}
"""Encoded aggregation_temporality (2) of sums and histograms; gauges and summaries have none."""
_TEMPORAL: frozenset[Kind] = frozenset({"sum", "histogram", "exponential_histogram"})
_MONOTONIC = b"\x18\x01"  # Sum.is_monotonic (3)
DATA_TAG: dict[Kind, bytes] = {
    "gauge": b"\x2a",  # Metric.gauge (5)
    "sum": b"\x3a",  # 7
    "histogram": b"\x4a",  # 9
    "exponential_histogram": b"\x52",  # 10
    "summary": b"\x5a",  # 11
}

_TIME_MS_MAX = (2**63 - 1) // 1_000_000
"""Latest time in ms: most readers keep OTLP's unsigned nanoseconds in a signed 64-bit integer."""


def encode_time(timestamp_ms: int) -> bytes | None:
    """Encode a time in ms as OTLP time plus the tag of the value; None if out of OTLP's range.

    OTLP reserves zero for "unknown" and has no negative times.
    """
    if 0 < timestamp_ms <= _TIME_MS_MAX:
        return (timestamp_ms * 1_000_000).to_bytes(8, "little") + VALUE_TAG
    return None


def key_value(key: str, value: str) -> bytes:
    """Encode KeyValue{key, AnyValue{string_value}} without its own tag."""
    text = value.encode()
    return field_bytes(b"\x0a", key.encode()) + field_bytes(b"\x12", field_bytes(b"\x0a", text))


def point_prefix(attributes: Iterable[tuple[str, str]]) -> bytes:
    """Encode a number point up to its time; keys must be unique, order is kept."""
    return finish_prefix(
        b"".join([field_bytes(_ATTRIBUTE_TAG, key_value(key, value)) for key, value in attributes])
    )


def stale_prefix(prefix: bytes) -> bytes:
    """Return the prefix with the no-recorded-value flag set.

    The value must stay the stale marker: a point without a value is invalid, and a reader that
    ignores the flag sees NaN instead of a false zero.
    """
    return finish_prefix(prefix_attributes(prefix) + _NO_RECORDED_VALUE)


def prefix_attributes(prefix: bytes) -> bytes:
    """Return the encoded attribute fields of a prefix made by :func:`point_prefix`."""
    head = 1
    while prefix[head] > 127:
        head += 1
    return prefix[head + 1 : -1]


def finish_prefix(body: bytes) -> bytes:
    """Return the prefix of a number point with these encoded attribute fields."""
    return b"".join((prefix_heads[len(body)], body, TIME_TAG))


class _PrefixHeads(dict[int, bytes]):
    """Cache the first bytes of a number point's prefix, by the size of its attributes."""

    def __missing__(self, size: int) -> bytes:
        head = _POINT_TAG + varint(size + len(TIME_TAG) + POINT_TAIL_BYTES)
        if size < _PREFIX_HEADS_MAX:
            self[size] = head
        return head


_PREFIX_HEADS_MAX = 4_096
prefix_heads = _PrefixHeads()
"""First bytes of a number point's prefix, by the size of its attributes in bytes."""


@dataclass(frozen=True, slots=True)
class MetricIdentity:
    """Identity of a Metric within its resource and scope."""

    name: str
    kind: Kind
    monotonic: bool = False
    unit: str = ""
    description: str = ""
    prometheus_type: str = ""
    """Value of ``prometheus.type`` in Metric.metadata; "" omits it (the type was inferred)."""
    temporality: Temporality = "cumulative"
    """Only sums and histograms have a temporality."""
    head: bytes = field(init=False, repr=False, compare=False)
    """Encoded Metric without its data; shared by all groups of the identity."""
    data_tail: bytes = field(init=False, repr=False, compare=False)
    """Encoded end of its data, after the points."""
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
        # The hash is needed for every new series.
        object.__setattr__(self, "_hash", hash((self.name, self.kind, self.temporality)))

    def __hash__(self) -> int:
        return self._hash
