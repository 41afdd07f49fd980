"""Sealed batches for tests: number points that are told apart by their values."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from relay.codec.otlp.batch import SealedBatch
from relay.codec.otlp.metrics import (
    VALUE_TAG,
    MetricGroup,
    MetricIdentity,
    ResourceGroup,
    ScopeGroup,
    point_prefix,
)
from relay.codec.otlp.point_buffer import PointBuffer

GROUP = MetricGroup(
    ScopeGroup(ResourceGroup([("service.name", "api")]), "relay"),
    MetricIdentity("temperature", "gauge"),
)


def sealed_batch(
    values: Iterable[float], *, position: int = 0, opened_at: float = 0.0, label: str = "x"
) -> SealedBatch:
    """One gauge with a point for each value; ``label`` is repeated in each and sets its size."""
    prefix = point_prefix([("label", label)])
    point_buffer = PointBuffer()
    for value in values:
        stamp = struct.pack("<Q", 1_700_000_000_000_000_000) + VALUE_TAG
        point_buffer.add(prefix, stamp, struct.pack("<d", value))
    point_buffer.close_run(GROUP)
    return SealedBatch(point_buffer, point_buffer.count, position, opened_at)
