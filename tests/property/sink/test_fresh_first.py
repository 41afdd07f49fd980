"""With fresh payloads first, whatever happens: each is dealt with exactly once, and a
position is held by exactly what is only in memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.config.exporter.types import Queue
from relay.sink.queue.disk_index import Entry, RecordPlace
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.queue.payload import STORED, EncodedRequest
from relay.sink.queue.queue import SinkQueue
from tests.kit.examples import examples
from tests.kit.sink.changed_request import changed

STEPS = ("push", "take", "give_back", "finish", "split", "begin", "commit", "fail", "free", "drop")


class Rig:
    """A queue of one lane, its disk, and an account of every point. Points are told by numbers in
    the body; a piece has some of its whole's."""

    def __init__(self) -> None:
        self.memory = BufferedBytes()
        config = Queue(bytes_max=1 << 20, drain="freshFirst")
        self.queue = SinkQueue(config, shards=1, memory=self.memory)
        self.disk: dict[tuple[int, int], EncodedRequest] = {}
        self.flying: EncodedRequest | None = None
        self.saving: list[EncodedRequest] = []
        self.done: list[int] = []
        self.offered: list[int] = []
        self.place = 0

    def push(self) -> None:
        first = len(self.offered)
        self.offered += [first, first + 1, first + 2, first + 3]
        body = bytes(number % 251 for number in self.offered[first:])
        payload = EncodedRequest(body, "none", 4, first, first, 0, float(first))
        assert self.queue.push(payload) == []

    def numbers(self, item: EncodedRequest | Entry) -> list[int]:
        """The points of something, by the number of its first."""
        if isinstance(item, Entry):
            item = self.disk[item.segment, item.offset]
        return list(range(item.encoded_bytes, item.encoded_bytes + item.points))

    def take(self) -> None:
        if self.flying is not None:
            return
        item = self.queue.shards[0].take()
        if isinstance(item, Entry):
            item = changed(self.disk[item.segment, item.offset], position=STORED)
            self.queue.shards[item.shard].loaded(item)
        self.flying = item

    def give_back(self) -> None:
        if self.flying is not None:
            self.queue.shards[self.flying.shard].give_back(self.flying)
            self.flying = None

    def finish(self) -> None:
        if self.flying is not None:
            self.queue.shards[self.flying.shard].settle(self.flying)
            self.done += self.numbers(self.flying)
            self.flying = None

    def split(self) -> None:
        whole = self.flying
        if whole is None or whole.points < 2:
            return
        half = whole.points // 2
        pieces = [
            changed(whole, points=half, body=whole.body[:half]),
            changed(
                whole,
                points=whole.points - half,
                body=whole.body[half:],
                encoded_bytes=whole.encoded_bytes + half,
            ),
        ]
        self.queue.shards[whole.shard].replace(whole, pieces)
        self.flying = None

    def begin(self) -> None:
        if not self.saving:
            self.saving = self.queue.shards[0].begin_spill()

    def commit(self) -> None:
        if not self.saving:
            return
        places = []
        for payload in self.saving:
            segment, offset = divmod(self.place, 3)
            self.place += 1
            self.disk[segment, offset] = changed(payload)
            places.append(RecordPlace(segment, offset, offset + 1))
        self.queue.shards[0].commit_spill(places)
        self.saving = []

    def fail(self) -> None:
        if self.saving:
            self.queue.shards[0].fail_spill()
            self.saving = []

    def free(self) -> None:
        for number in self.queue.free().get(0, []):
            for key in [key for key in self.disk if key[0] == number]:
                del self.disk[key]
            if self.place // 3 == number:
                self.place = (number + 1) * 3

    def drop(self) -> None:
        for item in self.queue.drop_oldest(1):
            self.done += self.numbers(item)

    def check(self) -> None:
        (shard,) = self.queue.shards
        in_memory = list(shard.in_memory())
        assert self.queue.memory_bytes == sum(payload.body_bytes for payload in in_memory)
        assert self.memory.used == self.queue.memory_bytes
        held = [payload.position for payload in in_memory if payload.position != STORED]
        assert shard.oldest_position() == min(held, default=None)
        left = len(self.offered) - len(self.done)
        assert self.queue.statistics().points == left


@examples(300)
@given(steps=st.lists(st.sampled_from(STEPS), max_size=80))
def test_everything_is_dealt_with_once(steps: list[str]) -> None:
    rig = Rig()
    for step in steps:
        getattr(rig, step)()
        rig.check()
    rig.commit()
    rig.give_back()
    while not rig.queue.empty:
        rig.take()
        rig.finish()
        rig.check()
    assert sorted(rig.done) == rig.offered
    assert rig.memory.used == 0
    rig.free()
    assert rig.disk == {}
