"""Batches that hold the same points are encoded and compressed once, and nothing else is shared."""

from __future__ import annotations

import asyncio
import gzip
import struct

import pytest

from relay.codec.otlp.batch import SealedBatch
from relay.codec.otlp.groups import MetricGroup
from relay.codec.otlp.metrics import VALUE_TAG, MetricIdentity, point_prefix
from relay.codec.otlp.point_buffer import PointBuffer
from relay.sink.encode_scheduler import SLICE_S, EncodeScheduler
from relay.sink.otlp_http import OTLP_HTTP
from relay.sink.queue.encoding import SharedBodyCache, encode_batch
from tests.kit.batches import GROUP, sealed_batch
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write.sample_writes import histogram, write

LARGE = 10**6
OTHER_GROUP = MetricGroup(GROUP.scope, MetricIdentity("pressure", "gauge"))
PREFIX = point_prefix([("label", "x")])
OTHER_PREFIX = point_prefix([("label", "y")])
STAMP = struct.pack("<Q", 1_700_000_000_000_000_000) + VALUE_TAG
OTHER_STAMP = struct.pack("<Q", 1_700_000_000_000_000_001) + VALUE_TAG
ONE, TWO = struct.pack("<d", 1.0), struct.pack("<d", 2.0)
FINISHED = b"\x0a\x02\x21\x00"

Piece = tuple[bytes, bytes, bytes] | bytes | MetricGroup
USUAL: tuple[Piece, ...] = ((PREFIX, STAMP, ONE), (PREFIX, STAMP, TWO), GROUP)


def arena_of(*pieces: Piece) -> PointBuffer:
    """Points, and groups that end the runs of those before them."""
    point_buffer = PointBuffer()
    for piece in pieces:
        if isinstance(piece, MetricGroup):
            point_buffer.close_run(piece)
        elif isinstance(piece, bytes):
            point_buffer.add_finished(piece)
        else:
            point_buffer.add(*piece)
    return point_buffer


@pytest.mark.parametrize(
    "other",
    [
        ((PREFIX, STAMP, ONE), GROUP),
        ((PREFIX, STAMP, TWO), (PREFIX, STAMP, ONE), GROUP),
        ((PREFIX, STAMP, ONE), (PREFIX, OTHER_STAMP, TWO), GROUP),
        ((PREFIX, STAMP, ONE), (OTHER_PREFIX, STAMP, TWO), GROUP),
        ((PREFIX, STAMP, ONE), FINISHED, GROUP),
        ((PREFIX, STAMP, ONE), (PREFIX, STAMP, TWO), OTHER_GROUP),
        ((PREFIX, STAMP, ONE), GROUP, (PREFIX, STAMP, TWO), OTHER_GROUP),
        ((PREFIX, STAMP, ONE), OTHER_GROUP, (PREFIX, STAMP, TWO), GROUP),
    ],
)
def test_what_differs_in_a_point_or_a_group_is_not_the_same(other: tuple[Piece, ...]) -> None:
    usual = arena_of(*USUAL)
    assert usual.equals(arena_of(*USUAL))
    assert not usual.equals(arena_of(*other))
    assert not arena_of(*other).equals(usual)
    assert arena_of(*other).encode() != usual.encode()


def test_empty_ones_are_the_same() -> None:
    assert PointBuffer().equals(PointBuffer())
    assert not PointBuffer().equals(arena_of(*USUAL))


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "none"])
def test_sinks_of_the_same_points_share_bytes_and_nothing_else(encoding: str) -> None:
    rig = Rig()
    rig.export(*(RigSink(f"sink-{n}", limit=100) for n in range(3)))
    buckets = histogram("latency_seconds", 'job="api"', ((".1", 2), ("1", 5), ("+Inf", 7)), 9.5, 7)
    for at_ms in (1_790_000_000_000, 1_790_000_015_000):
        rig.feed(write('up{job="api"} 1', 'up{job="web"} 0', *buckets, at_ms=at_ms))
    rig.hand_over(rig.engine.finish(100.0))  # histograms that wait for late members
    rig.flush()
    bodies = SharedBodyCache()
    payloads = [
        encode_batch(
            sealed,
            OTLP_HTTP.encoder,
            shard=0,
            compression=encoding,  # type: ignore[arg-type]
            bytes_max=LARGE,
            bodies=bodies,
        )
        for sink in rig.sinks
        for sealed in sink.sealed
    ]
    assert (bodies.made, bodies.shared) == (1, 2)
    (first,), (second,), (third,) = payloads
    assert first.body is second.body is third.body
    first.attempts += 1
    assert not second.attempts
    alone = encode_batch(
        rig.sinks[0].sealed[0],
        OTLP_HTTP.encoder,
        shard=0,
        compression=encoding,  # type: ignore[arg-type]
        bytes_max=LARGE,
        bodies=SharedBodyCache(),
    )
    assert [one.body for one in alone] == [first.body]
    assert first.points == 6


def batch(*values: float) -> SealedBatch:
    """A batch whose points have their prefix in common with those of all others."""
    pieces = [(PREFIX, STAMP, struct.pack("<d", value)) for value in values]
    return SealedBatch(arena_of(*pieces, GROUP), len(values), 0, 0.0)


def test_another_batch_or_encoding_has_a_body_of_its_own() -> None:
    bodies = SharedBodyCache()
    (first,) = bodies.bodies_of(batch(1.0, 2.0), OTLP_HTTP.encoder, "gzip", LARGE)
    (second,) = bodies.bodies_of(batch(1.0, 3.0), OTLP_HTTP.encoder, "gzip", LARGE)
    (third,) = bodies.bodies_of(batch(1.0, 3.0), OTLP_HTTP.encoder, "none", LARGE)
    assert (bodies.made, bodies.shared) == (3, 0)
    assert gzip.decompress(first.data) == batch(1.0, 2.0).point_buffer.encode()
    assert gzip.decompress(second.data) == batch(1.0, 3.0).point_buffer.encode()
    assert third.data == batch(1.0, 3.0).point_buffer.encode()


def test_a_smaller_bound_is_kept() -> None:
    size = len(batch(1.0, 2.0).point_buffer.encode())
    bodies = SharedBodyCache()
    (whole,) = bodies.bodies_of(batch(1.0, 2.0), OTLP_HTTP.encoder, "none", size)
    assert bodies.bodies_of(batch(1.0, 2.0), OTLP_HTTP.encoder, "none", LARGE) == (whole,)
    assert bodies.shared == 1
    halves = bodies.bodies_of(batch(1.0, 2.0), OTLP_HTTP.encoder, "none", size - 1)
    assert [half.points for half in halves] == [1, 1]
    assert bodies.bodies_of(batch(1.0, 2.0), OTLP_HTTP.encoder, "none", size) == (whole,), (
        "not the halves"
    )
    assert (bodies.made, bodies.shared) == (3, 1)


async def test_nothing_is_remembered_when_the_line_is_done() -> None:
    now = 0.0
    encode_scheduler = EncodeScheduler(lambda: now)
    seen: list[int] = []

    def pack() -> None:
        nonlocal now
        now += SLICE_S
        encode_scheduler.bodies.bodies_of(batch(1.0), OTLP_HTTP.encoder, "gzip", LARGE)
        seen.append(encode_scheduler.bodies.shared)

    for _ in range(3):
        encode_scheduler.submit(pack)
    for _ in range(3):
        await asyncio.sleep(0)
    assert seen == [0, 1, 2], "also from one turn to the next"
    await asyncio.sleep(0)
    encode_scheduler.submit(pack)
    assert seen == [0, 1, 2, 2]


def test_what_was_forgotten_is_made_again() -> None:
    bodies = SharedBodyCache()
    first = bodies.bodies_of(sealed_batch((1.0,)), OTLP_HTTP.encoder, "gzip", LARGE)
    bodies.forget()
    assert bodies.bodies_of(sealed_batch((1.0,)), OTLP_HTTP.encoder, "gzip", LARGE) == first
    assert (bodies.made, bodies.shared) == (2, 0)
