"""Sealed batches for tests: number points that are told apart by their values."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from relay.codec.otlp.batch import SealedBatch
from relay.codec.otlp.groups import MetricGroup, ResourceGroup, ScopeGroup
from relay.codec.otlp.metrics import VALUE_TAG, MetricIdentity, point_prefix
from relay.codec.otlp.point_buffer import PointBuffer
from relay.codec.remote_write.raw.buffer import RawPointBuffer
from relay.codec.remote_write.raw.label_table import LabelTable
from relay.codec.remote_write.v1 import label_key

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


class RawBatches:
    """Makes sealed batches for remote write, of samples of a few series, all of one table."""

    def __init__(self) -> None:
        self._table = LabelTable()
        self._group = self._table.group(0)

    def of(
        self,
        samples: Iterable[tuple[str, int, float]],
        *,
        position: int = 0,
        opened_at: float = 0.0,
    ) -> SealedBatch:
        """A batch of (label ``n``, time in ms, value) of the metric ``temperature``."""
        buffer = RawPointBuffer()
        for n, time_ms, value in samples:
            key = label_key([("__name__", "temperature"), ("n", n)])
            stamp = struct.pack("<Q", time_ms * 1_000_000) + VALUE_TAG
            buffer.add(self._table.place(key), stamp, struct.pack("<d", value))
        buffer.close_run(self._group)
        return SealedBatch(buffer, buffer.count, position, opened_at)


RAW_BATCHES = RawBatches()
START_MS = 1_700_000_000_000


def raw_sealed_batch(
    values: Iterable[float], *, position: int = 0, opened_at: float = 0.0, label: str = "x"
) -> SealedBatch:
    """The same as :func:`sealed_batch` for remote write: a sample a millisecond, of one series.

    ``position`` sets the time of the first, so that later batches have later times.
    """
    first_ms = START_MS + 1_000_000 * position
    samples = ((label, first_ms + at, value) for at, value in enumerate(values))
    return RAW_BATCHES.of(samples, position=position, opened_at=opened_at)
