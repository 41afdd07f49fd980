"""Encode remote write 1.0, as far as the demo's agents need it.

``prometheus.WriteRequest`` {1 timeseries, 3 metadata}, ``TimeSeries`` {1 labels, 2 samples},
``Label`` {1 name, 2 value}, ``Sample`` {1 double value, 2 int64 timestamp in ms},
``MetricMetadata`` {1 type, 2 metric_family_name, 4 help, 5 unit} (prometheus/prometheus,
``prompb/{remote,types}.proto``). Zeros are omitted, as in proto3.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from relay.codec.protobuf import field_bytes, varint

STALE = struct.pack("<Q", 0x7FF0000000000002)
"""Prometheus' stale marker (``model/value``): a NaN that ends a series."""

COUNTER, GAUGE, HISTOGRAM, SUMMARY = 1, 2, 3, 5
"""Values of prometheus.MetricMetadata.MetricType."""

_DOUBLE = struct.Struct("<d")
_ZERO = bytes(8)


@dataclass(frozen=True, slots=True)
class DemoFamily:
    """A metric family; ``type`` is one of this module's constants."""

    name: str
    type: int
    help: str
    unit: str = ""


def encode_labels(labels: Mapping[str, str]) -> bytes:
    """Encode the label fields of a TimeSeries, sorted by name as remote write demands."""
    return b"".join(
        field_bytes(
            b"\x0a", field_bytes(b"\x0a", name.encode()) + field_bytes(b"\x12", value.encode())
        )
        for name, value in sorted(labels.items())
    )


def encode_value(value: float) -> bytes:
    """Encode a value as eight bytes for :func:`encode_series`."""
    return _DOUBLE.pack(value)


def encode_series(labels: bytes, value8: bytes, time_ms: int) -> bytes:
    """Encode a ``timeseries`` field with one sample; ``time_ms`` must be positive."""
    sample = b"" if value8 == _ZERO else b"\x09" + value8
    return field_bytes(b"\x0a", labels + field_bytes(b"\x12", sample + b"\x10" + varint(time_ms)))


def encode_metadata(family: DemoFamily) -> bytes:
    """Encode a ``metadata`` field."""
    message = b"\x08" + varint(family.type) + field_bytes(b"\x12", family.name.encode())
    message += field_bytes(b"\x22", family.help.encode())
    if family.unit:
        message += field_bytes(b"\x2a", family.unit.encode())
    return field_bytes(b"\x1a", message)
