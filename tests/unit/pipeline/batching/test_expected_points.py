"""A batch after a full one makes room for as many points at once."""

from __future__ import annotations

import struct

import pytest

from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.metrics import VALUE_TAG, point_prefix
from tests.kit.batches import GROUP

LIMIT = 1_000
POINT_BYTES = 24
PREFIX = point_prefix([("label", "x")])
STAMP = struct.pack("<Q", 1_700_000_000_000_000_000) + VALUE_TAG


def fill(batch: OpenBatch, points: int) -> None:
    """Append so many points, each in a run of its own."""
    for _ in range(points):
        if batch.group is not None:
            batch.point_buffer.close_run(GROUP)
        batch.point_buffer.add(PREFIX, STAMP, struct.pack("<d", batch.count))
        batch.group = GROUP
        batch.count += 1


@pytest.mark.parametrize(("points", "is_full"), [(LIMIT, True), (LIMIT - 1, False)])
def test_only_after_a_full_batch_the_next_has_room_for_as_many(points: int, is_full: bool) -> None:
    batch = OpenBatch(None, limit=LIMIT)
    fill(batch, points)
    first = batch.seal()
    assert first is not None
    assert batch.point_buffer.room() == 0, "it takes nothing before its first point"
    fill(batch, 2)
    assert (batch.point_buffer.room() > LIMIT * 2 * POINT_BYTES) == is_full
    fill(batch, points - 2)
    second = batch.seal()
    assert second is not None
    assert second.point_buffer.encode() == first.point_buffer.encode()
