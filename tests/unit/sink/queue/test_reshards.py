"""Order within a series while the number of shards of a sink changes, once and again."""

from __future__ import annotations

import msgspec

from relay.config.exporter.types import Queue
from relay.sink.queue.cursor import QueueCursor
from relay.sink.queue.disk_index import RecordPlace
from relay.sink.queue.payload import EncodedRequest
from relay.sink.queue.queue import RESHARDS_MAX, SinkQueue


def request(shard: int, created_at: float) -> EncodedRequest:
    """A request of one point."""
    return EncodedRequest(
        body=b"x",
        encoding="none",
        points=1,
        encoded_bytes=1,
        position=0,
        shard=shard,
        created_at=created_at,
        kind="otlp",
    )


def send(queue: SinkQueue) -> list[float]:
    """Settle all that may be sent, the highest shard first; return when it was created."""
    sent: list[float] = []
    while not queue.empty:
        ready = [
            shard
            for shard in reversed(queue.shards)
            if shard.peek() is not None and not queue.waits_for_reshard(shard.number)
        ]
        assert ready, "nothing waits for nothing"
        item = ready[0].take()
        assert isinstance(item, EncodedRequest)
        sent.append(item.created_at)
        ready[0].settle(item)
    return sent


def test_requests_wait_for_those_from_before_each_change() -> None:
    queue = SinkQueue(Queue(), shards=1)
    for number, shards in enumerate((2, 4, 1, 3)):
        queue.push(request(0, 10.0 * number))
        queue.push(request(len(queue.shards) - 1, 10.0 * number + 1))
        queue.reconfigure(Queue(), shards=shards, now=10.0 * number + 5)
    queue.push(request(2, 40.0))
    sent = send(queue)
    assert [created_at // 10 for created_at in sent] == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert not queue.waits_for_reshard(0)
    assert not queue.resharding


def test_what_is_in_flight_from_before_a_change_is_waited_for() -> None:
    queue = SinkQueue(Queue(), shards=1)
    old = request(0, 1.0)
    queue.push(old)
    assert queue.shards[0].take() is old
    queue.reconfigure(Queue(), shards=2, now=2.0)
    queue.push(request(1, 3.0))
    queue.reconfigure(Queue(), shards=3, now=4.0)
    queue.push(request(2, 5.0))
    assert queue.waits_for_reshard(1)
    assert queue.waits_for_reshard(2)
    queue.shards[0].settle(old)
    assert not queue.waits_for_reshard(1)
    assert queue.waits_for_reshard(2)


def test_changes_without_end_are_bounded() -> None:
    queue = SinkQueue(Queue(), shards=1)
    queue.push(request(0, 0.0))
    for number in range(3 * RESHARDS_MAX):
        queue.reconfigure(Queue(), shards=1 + number % 2 + 1, now=1.0 + number)
    assert len(queue._reshards) == RESHARDS_MAX
    queue.push(request(1, 1e6))
    assert send(queue) == [0.0, 1e6]


def test_changes_survive_a_restart_with_the_records_from_before_them() -> None:
    queue = SinkQueue(Queue(), shards=1)
    queue.push(request(0, 1.0))
    for number, shards in enumerate((2, 3)):
        queue.reconfigure(Queue(), shards=shards, now=2.0 + 2.0 * number)
        queue.push(request(shards - 1, 3.0 + 2.0 * number))
    cursor = msgspec.json.decode(
        msgspec.json.encode(QueueCursor(0, 0, reshards=queue.reshards)), type=QueueCursor
    )
    later = SinkQueue(Queue(), shards=3)
    for shard, created_at in ((0, 1.0), (1, 3.0), (2, 5.0)):
        later.push(request(shard, created_at))
    later.restore_reshards(cursor.reshards)
    assert send(later) == [1.0, 3.0, 5.0]


def test_a_cursor_without_changes_is_read() -> None:
    """Of an earlier revision."""
    cursor = msgspec.json.decode(b"[1,2,null,0.0,[[1,5]]]", type=QueueCursor)
    assert cursor == QueueCursor(1, 2, held=((1, 5),))


def test_queues_without_a_disk_share_an_index_until_one_stores() -> None:
    one, two = (SinkQueue(Queue(), shards=1) for _ in range(2))
    for queue in (one, two):
        queue.push(request(0, 1.0))
        queue.push(request(0, 2.0))
    assert one.shards[0].disk is two.shards[0].disk
    (shard,) = one.shards
    assert len(shard.begin_spill()) == 2
    shard.commit_spill([RecordPlace(1, 0, 10), RecordPlace(1, 10, 20)])
    assert (shard.disk.entries, shard.disk.shard, two.shards[0].disk.entries) == (2, 0, 0)
    assert send(two) == [1.0, 2.0]
