"""The line of batches to be packed: at once where there is time, else in order and in slices."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from relay.codec.body import Body
from relay.codec.otlp.batch import SealedBatch
from relay.sink.encode_scheduler import (
    COMPRESS_BYTES_MIN,
    COMPRESSING_MAX,
    JOBS_MAX,
    SLICE_S,
    EncodeBacklog,
    EncodeScheduler,
)
from relay.sink.otlp_http import OTLP_HTTP
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.queue.payload import EncodedRequest
from relay.sink.steps import Now
from tests.kit.batches import sealed_batch
from tests.kit.ingest_server import eventually
from tests.kit.sink_harness import sink_config


class Shop:
    """A line whose jobs take as long as they are said to, by a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done: list[int] = []
        self.encode_scheduler = EncodeScheduler(lambda: self.now)

    def ask(self, number: int, seconds: float) -> None:
        def job() -> None:
            self.now += seconds
            self.done.append(number)

        self.encode_scheduler.submit(job)


async def test_what_a_turn_has_time_for_is_done_at_once() -> None:
    shop = Shop()
    for number in range(4):
        shop.ask(number, SLICE_S / 4)
    assert shop.done == [0, 1, 2, 3]
    shop.ask(4, SLICE_S / 4)
    assert shop.done == [0, 1, 2, 3], "this turn's time is over"
    await asyncio.sleep(0)
    assert shop.done == [0, 1, 2, 3, 4]


async def test_a_turn_does_a_slice_and_others_have_theirs_between() -> None:
    shop = Shop()
    for number in range(9):
        shop.ask(number, SLICE_S * 0.6)
    seen = [list(shop.done)]
    while shop.encode_scheduler.waiting:
        await asyncio.sleep(0)
        seen.append(list(shop.done))
    assert [len(done) for done in seen] == [2, 4, 6, 8, 9]
    assert seen[-1] == list(range(9)), "first come, first served"


async def test_nobody_overtakes_the_line() -> None:
    shop = Shop()
    shop.ask(0, 2 * SLICE_S)
    shop.ask(1, 0.0)
    shop.ask(2, 0.0)
    assert shop.done == [0]
    await asyncio.sleep(0)
    assert shop.done == [0, 1, 2]


async def test_time_that_was_used_up_comes_back_with_the_next_turn() -> None:
    shop = Shop()
    for number in range(3):
        shop.ask(number, 2 * SLICE_S)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert shop.done == list(range(number + 1))


async def test_a_job_that_finds_the_line_full_runs_the_first_ones() -> None:
    shop = Shop()
    shop.ask(0, 2 * SLICE_S)
    for number in range(1, JOBS_MAX + 1):
        shop.ask(number, 0.0)
    assert shop.done == [0]
    shop.ask(JOBS_MAX + 1, 0.0)
    shop.ask(JOBS_MAX + 2, 0.0)
    assert shop.done == [0, 1, 2]
    assert shop.encode_scheduler.waiting == JOBS_MAX


async def test_a_job_with_a_bug_does_not_end_the_line() -> None:
    shop = Shop()
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))

    def broken() -> None:
        raise ValueError("a bug")

    shop.ask(0, 2 * SLICE_S)
    shop.encode_scheduler.submit(broken)
    shop.ask(1, 0.0)
    for _ in range(3):
        await asyncio.sleep(0)
    assert shop.done == [0, 1]
    assert len(seen) == 1


class FakeSink:
    """Delivery and target in one. ``queued``: (position, shard) of each request."""

    def __init__(self) -> None:
        self.config = sink_config("http://127.0.0.1:1/v1/metrics")
        self.encoder = OTLP_HTTP.encoder
        self.queued: list[tuple[int, int]] = []
        self.told: list[tuple[int, bool]] = []
        self.failed: list[SealedBatch] = []

    def now(self) -> Now:
        return Now(0.0, 0.0)

    def enqueue(self, requests: Sequence[EncodedRequest], now: Now) -> bool:
        self.queued += [(request.position, request.shard) for request in requests]
        return now != self.now()

    def on_queued(self, shard: int, *, is_dropped: bool) -> None:
        self.told.append((shard, is_dropped))

    def on_encode_failed(self, sealed: SealedBatch) -> None:
        self.failed.append(sealed)


async def test_a_batch_that_cannot_be_encoded_does_not_stop_the_next() -> None:
    sink = FakeSink()
    encode_backlog = EncodeBacklog(EncodeScheduler(), BufferedBytes(), sink, sink)
    broken = SealedBatch(BrokenBuffer(), 1, 1, 0.0)  # type: ignore[arg-type]
    good = sealed_batch((2.0,), position=2)
    for sealed in (broken, good):
        encode_backlog.add(sealed, 0)
    encode_backlog.encode_all()
    assert sink.failed == [broken]
    assert sink.queued == [(2, 0)]
    assert sink.told == [(0, False)]


class BrokenBuffer:
    """A point buffer whose encoding raises."""

    def room(self) -> int:
        return 1

    def encode(self) -> bytes:
        raise ValueError("a bug")


@pytest.mark.parametrize("out_of_turn", [False, True])
async def test_batches_of_a_sink_are_packed_once_in_order_and_count_as_memory(
    out_of_turn: bool,
) -> None:
    memory = BufferedBytes()
    shop = Shop()
    sink = FakeSink()
    encode_backlog = EncodeBacklog(shop.encode_scheduler, memory, sink, sink)
    shop.ask(0, 2 * SLICE_S)  # nothing is done at once after that
    batches = [(sealed_batch((float(n),), position=n), n % 2) for n in range(3)]
    for sealed, shard in batches:
        encode_backlog.add(sealed, shard)
    assert encode_backlog
    assert list(encode_backlog) == batches
    assert memory.used == sum(sealed.point_buffer.room() for sealed, _ in batches) > 0
    if out_of_turn:
        encode_backlog.encode_all()
        assert sink.queued == [(0, 0), (1, 1), (2, 0)]
    await asyncio.sleep(0)
    assert sink.queued == [(0, 0), (1, 1), (2, 0)]
    assert not encode_backlog
    assert not memory.used
    assert not shop.encode_scheduler.waiting


class SlowEncoder:
    """Bodies that are large, and that a thread compresses only once it may; the loop at once."""

    kind = "slow"

    def __init__(self) -> None:
        self.may_compress = threading.Event()
        self.compressed: list[tuple[bytes, bool]] = []
        self.broken: bytes | None = None

    def encode_plain(
        self, sealed: SealedBatch, _compression: str, _bytes_max: int
    ) -> tuple[Body, ...]:
        return (Body(b"%d" % sealed.oldest, sealed.count, COMPRESS_BYTES_MIN),)

    def compress(self, body: bytes, _compression: str) -> bytes:
        in_thread = threading.current_thread() is not threading.main_thread()
        if in_thread:
            assert self.may_compress.wait(10)
        self.compressed.append((body, in_thread))
        if body == self.broken:
            raise ValueError("a bug")
        return b"packed " + body


class SlowSink(FakeSink):
    """A sink with large bodies."""

    def __init__(self, encode_scheduler: EncodeScheduler, encoder: SlowEncoder) -> None:
        super().__init__()
        self.encoder = encoder  # type: ignore[assignment]
        self.memory = BufferedBytes()
        self.backlog = EncodeBacklog(encode_scheduler, self.memory, self, self)  # type: ignore[arg-type]

    def add(self, *positions: int) -> None:
        for position in positions:
            self.backlog.add(sealed_batch((float(position),), position=position), 0)

    async def emptied(self) -> None:
        await eventually(lambda: not self.backlog)


async def test_a_thread_compresses_large_bodies_and_they_stay_in_order() -> None:
    encoder = SlowEncoder()
    sink = SlowSink(EncodeScheduler(lambda: 0.0), encoder)
    many = range(COMPRESSING_MAX + 2)
    sink.add(*many)
    assert encoder.compressed == [(b"4", False), (b"5", False)], "the thread has enough to do"
    assert sink.queued == [], "none overtakes the first"
    assert [sealed.oldest for sealed, _ in sink.backlog] == list(many)
    assert sink.memory.used > len(many) * COMPRESS_BYTES_MIN
    encoder.may_compress.set()
    await sink.emptied()
    assert sink.queued == [(number, 0) for number in many]
    assert encoder.compressed[2:] == [(b"%d" % n, True) for n in range(COMPRESSING_MAX)]
    assert sink.memory.used == 0


async def test_all_is_queued_out_of_turn_without_waiting_for_the_thread() -> None:
    encoder = SlowEncoder()
    encode_scheduler = EncodeScheduler(lambda: 0.0)
    sink = SlowSink(encode_scheduler, encoder)
    sink.add(1, 2)
    assert encode_scheduler.compress_thread.waiting == 2
    sink.backlog.encode_all()
    assert sink.queued == [(1, 0), (2, 0)]
    sink.backlog.end()
    encoder.may_compress.set()
    await eventually(lambda: not encode_scheduler.compress_thread.waiting)
    assert sink.queued == [(1, 0), (2, 0)], "not once more"


async def test_sinks_with_the_same_points_wait_for_the_same_body() -> None:
    encoder = SlowEncoder()
    encode_scheduler = EncodeScheduler(lambda: 0.0)
    sinks = [SlowSink(encode_scheduler, encoder) for _ in range(COMPRESSING_MAX + 2)]
    sealed = sealed_batch((1.0,), position=1)
    for sink in sinks:
        sink.backlog.add(sealed, 0)
    encoder.may_compress.set()
    for sink in sinks:
        await sink.emptied()
        assert sink.queued == [(1, 0)]
    assert encoder.compressed == [(b"1", True)]


async def test_a_body_that_cannot_be_compressed_is_given_up_alone() -> None:
    encoder = SlowEncoder()
    encoder.broken = b"1"
    encoder.may_compress.set()
    sink = SlowSink(EncodeScheduler(lambda: 0.0), encoder)
    sink.add(1, 2)
    await sink.emptied()
    assert [sealed.oldest for sealed in sink.failed] == [1]
    assert sink.queued == [(2, 0)]
