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
from relay.codec.otlp.point_buffer import Arena

GROUP = MetricGroup(
    ScopeGroup(ResourceGroup([("service.name", "api")]), "relay"),
    MetricIdentity("temperature", "gauge"),
)


def sealed_batch(
    values: Iterable[float], *, position: int = 0, opened_at: float = 0.0, label: str = "x"
) -> SealedBatch:
    """One gauge with a point for each value; ``label`` is repeated in each and sets its size."""
    prefix = point_prefix([("label", label)])
    arena = Arena()
    for value in values:
        stamp = struct.pack("<Q", 1_700_000_000_000_000_000) + VALUE_TAG
        arena.add(prefix, stamp, struct.pack("<d", value))
    arena.close_run(GROUP)
    return SealedBatch(arena, arena.count, position, opened_at)
