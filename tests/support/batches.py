"""Sealed batches for tests: number points that are told apart by their values."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from relay.wire.batch import SealedBatch
from relay.wire.otlp import (
    VALUE_TAG,
    MetricGroup,
    MetricIdentity,
    ResourceGroup,
    ScopeGroup,
    point_prefix,
)

GROUP = MetricGroup(
    ScopeGroup(ResourceGroup([("service.name", "api")]), "relay"),
    MetricIdentity("temperature", "gauge"),
)


def sealed_batch(
    values: Iterable[float], *, position: int = 0, opened_at: float = 0.0, label: str = "x"
) -> SealedBatch:
    """One gauge with a point for each value; ``label`` is repeated in each and sets its size."""
    prefix = point_prefix([("label", label)])
    arena = bytearray()
    count = 0
    for value in values:
        arena += prefix + struct.pack("<Q", 1_700_000_000_000_000_000) + VALUE_TAG
        arena += struct.pack("<d", value)
        count += 1
    return SealedBatch(arena, [(GROUP, len(arena))], count, position, opened_at)
