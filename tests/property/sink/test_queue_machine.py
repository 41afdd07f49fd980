"""SinkQueue against a model: whatever the sequence, bytes, order and ledger are exact, and it makes
no difference what of it is in memory, on disk or on the way there."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.config.exporter.types import Overflow, Queue
from relay.sink.queue.disk_index import Entry, RecordPlace
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.queue.payload import STORED, EncodedRequest
from relay.sink.queue.queue import SinkQueue
from relay.sink.reporting.ledger import SinkLedger
from tests.kit.examples import examples

LANES = 2
AGE_MAX_S = 50.0
SEGMENT_BYTES = 150


@dataclass
class Model:
    """One lane: what waits, oldest first, what is in flight, and what a save is writing."""

    waiting: list[EncodedRequest] = field(default_factory=list)
    flying: EncodedRequest | None = None
    saving: list[EncodedRequest] = field(default_factory=list)
    segment: int = 0
    offset: int = 0


class QueueMachine(RuleBasedStateMachine):
    """A payload is told by its serial number, which it carries as ``encoded_bytes``."""

    @initialize(
        bytes_max=st.integers(1, 400),
        overflow=st.sampled_from(["dropOldest", "dropNewest", "block"]),
    )
    def start(self, bytes_max: int, overflow: Overflow) -> None:
        self.config = Queue(bytes_max=bytes_max, age_max_s=AGE_MAX_S, overflow=overflow)
        self.memory = BufferedBytes()
        self.queue = SinkQueue(self.config, shards=LANES, memory=self.memory)
        self.ledger = SinkLedger()
        self.shards = [Model() for _ in range(LANES)]
        self.disk: dict[tuple[int, int, int], EncodedRequest] = {}
        self.held: set[int] = set()
        self.now = 0.0
        self.serial = 0
        self.overshoot = 0

    def everything(self) -> list[EncodedRequest]:
        waiting = [payload for shard in self.shards for payload in shard.waiting]
        return waiting + [shard.flying for shard in self.shards if shard.flying is not None]

    def held_bytes(self) -> int:
        return sum(payload.body_bytes for payload in self.everything())

    def make(self, shard: int, size: int, points: int, created_at: float) -> EncodedRequest:
        self.serial += 1
        return EncodedRequest(
            bytes(size), "none", points, self.serial, self.serial, shard, created_at
        )

    def gone(self, item: EncodedRequest | Entry) -> EncodedRequest:
        """The model's payload that the queue says it has removed from the head."""
        if isinstance(item, Entry):
            payload = self.disk[item.shard, item.segment, item.offset]
            assert (item.points, item.body_bytes) == (payload.points, payload.body_bytes)
        else:
            payload = item
        found = self.shards[payload.shard].waiting.pop(0)
        assert found.encoded_bytes == payload.encoded_bytes, "not the oldest of its lane"
        self.held.discard(found.encoded_bytes)
        return found

    @rule(shard=st.integers(0, LANES - 1), size=st.integers(0, 120), points=st.integers(2, 9))
    def push(self, shard: int, size: int, points: int) -> None:
        payload = self.make(shard, size, points, self.now)
        before = self.held_bytes()
        fits = before + size <= self.config.bytes_max
        self.ledger.offer(points)
        dropped = self.queue.push(payload)
        for each in dropped:
            self.ledger.drop(each.points, "queue_full")
        if fits or self.config.overflow == "block":
            assert not dropped
        elif self.config.overflow == "dropNewest":
            assert dropped == [payload]
        elif dropped != [payload]:
            ages = [each.created_at for each in dropped]
            assert ages == sorted(ages)
            for each in dropped:
                self.gone(each)
            kept = [each.created_at for each in self.everything()]
            flying = [shard.flying.created_at for shard in self.shards if shard.flying is not None]
            assert all(age <= min(kept, default=self.now) for age in ages) or flying
            # No more than needed: without the last one dropped it would not have fitted.
            assert self.held_bytes() + dropped[-1].body_bytes + size > self.config.bytes_max
        if payload not in dropped:
            self.shards[shard].waiting.append(payload)
            self.held.add(payload.encoded_bytes)

    @rule(shard=st.integers(0, LANES - 1), readable=st.booleans(), damaged=st.booleans())
    def take(self, shard: int, readable: bool, damaged: bool) -> None:
        model = self.shards[shard]
        if model.flying is not None:
            return
        item = self.queue.shards[shard].take()
        if not model.waiting:
            assert item is None
            return
        expected = model.waiting[0]
        if isinstance(item, Entry):
            stored = self.disk[shard, item.segment, item.offset]
            assert stored.encoded_bytes == expected.encoded_bytes
            if not readable:
                self.queue.shards[shard].load_failed(lost=damaged)
                if damaged:
                    self.gone(item)
                    self.ledger.drop(item.points, "damaged")
                return
            item = EncodedRequest(
                stored.body,
                "none",
                stored.points,
                stored.encoded_bytes,
                STORED,
                shard,
                stored.created_at,
                stored.attempts,
            )
            self.queue.shards[item.shard].loaded(item)
        assert item is not None
        assert item.encoded_bytes == expected.encoded_bytes
        assert item.attempts == expected.attempts
        assert self.queue.shards[shard].in_flight is item
        model.flying = item
        model.waiting.pop(0)

    def flying(self, shard: int) -> EncodedRequest | None:
        return self.shards[shard].flying

    @rule(shard=st.integers(0, LANES - 1), tried=st.booleans())
    def give_back(self, shard: int, tried: bool) -> None:
        payload = self.flying(shard)
        if payload is not None:
            payload.attempts += tried
            self.queue.shards[payload.shard].give_back(payload)
            self.shards[shard].flying = None
            self.shards[shard].waiting.insert(0, payload)

    @rule(shard=st.integers(0, LANES - 1))
    def finish(self, shard: int) -> None:
        payload = self.flying(shard)
        if payload is not None:
            self.queue.shards[payload.shard].settle(payload)
            self.ledger.deliver(payload.points)
            self.shards[shard].flying = None
            self.held.discard(payload.encoded_bytes)

    @rule(shard=st.integers(0, LANES - 1))
    def split(self, shard: int) -> None:
        payload = self.flying(shard)
        if payload is None or payload.points < 2:
            return
        size = payload.body_bytes // 2 + 1
        pieces = [
            self.make(shard, size, points, payload.created_at) for points in (1, payload.points - 1)
        ]
        self.overshoot += 2
        self.held.discard(payload.encoded_bytes)
        for piece in pieces:
            piece.attempts = payload.attempts
            if payload.position == STORED:
                piece.position = STORED
            else:
                self.held.add(piece.encoded_bytes)
        self.queue.shards[payload.shard].replace(payload, pieces)
        self.shards[shard].flying = None
        self.shards[shard].waiting[:0] = pieces

    @rule(shard=st.integers(0, LANES - 1))
    def begin_save(self, shard: int) -> None:
        model = self.shards[shard]
        if model.saving:
            return
        model.saving = self.queue.shards[shard].begin_spill()
        ours = [payload for payload in (model.flying, *model.waiting) if payload is not None]
        unsaved = [p.encoded_bytes for p in ours if p.encoded_bytes in self.held]
        assert [payload.encoded_bytes for payload in model.saving] == unsaved

    @rule(shard=st.integers(0, LANES - 1))
    def commit_save(self, shard: int) -> None:
        model = self.shards[shard]
        if not model.saving:
            return
        places = []
        for payload in model.saving:
            if model.offset > SEGMENT_BYTES:
                model.segment += 1
                model.offset = 0
            place = RecordPlace(model.segment, model.offset, model.offset + 10 + payload.body_bytes)
            model.offset = place.end
            self.disk[shard, place.segment, place.offset] = payload
            places.append(place)
        ours = {p.encoded_bytes for p in self.everything() if p.shard == shard}
        saved = {payload.encoded_bytes for payload in model.saving}
        # Pieces of a payload that was split while it was saved are on disk with it.
        released = sorted(
            serial
            for serial in ours & self.held
            if serial in saved or serial > max(saved) or self.is_piece_of_saved(shard, serial)
        )
        offsets = sorted(self.queue.shards[shard].commit_spill(places))
        assert set(offsets) <= set(released)
        assert saved & ours <= set(offsets)
        self.held -= set(offsets)
        model.saving = []

    def is_piece_of_saved(self, shard: int, serial: int) -> bool:
        return any(p.encoded_bytes == serial for p in self.queue.shards[shard].in_memory())

    @rule(shard=st.integers(0, LANES - 1))
    def fail_save(self, shard: int) -> None:
        if self.shards[shard].saving:
            self.queue.shards[shard].fail_spill()
            self.shards[shard].saving = []

    @rule()
    def free(self) -> None:
        for shard, numbers in self.queue.free().items():
            for number in numbers:
                backed = {key for key in self.disk if key[:2] == (shard, number)}
                for key in backed:
                    del self.disk[key]
                if number == self.shards[shard].segment:
                    self.shards[shard].segment += 1
                    self.shards[shard].offset = 0

    @rule(seconds=st.floats(0, 60))
    def age(self, seconds: float) -> None:
        self.now += seconds
        for item in self.queue.expire(self.now):
            payload = self.gone(item)
            assert payload.created_at + AGE_MAX_S <= self.now
            self.ledger.expire(payload.points)
        for shard in self.shards:
            assert not shard.waiting or shard.waiting[0].created_at + AGE_MAX_S > self.now

    @precondition(lambda self: self.shards)
    @rule()
    def clear(self) -> None:
        for item in self.queue.clear():
            self.ledger.drop(self.gone(item).points, "shutdown")
        assert not any(shard.waiting for shard in self.shards)

    @invariant()
    def counts_are_exact(self) -> None:
        if not hasattr(self, "queue"):
            return
        held = self.everything()
        statistics = self.queue.statistics()
        assert statistics.payloads == len(held)
        assert statistics.in_flight == sum(shard.flying is not None for shard in self.shards)
        assert statistics.bytes == self.held_bytes()
        assert statistics.points == sum(payload.points for payload in held)
        assert self.ledger.statistics().queued == statistics.points
        assert self.queue.empty == (not held)
        if self.config.overflow == "block":
            assert self.queue.full == (statistics.bytes >= self.config.bytes_max)
        else:
            assert not self.queue.full
            assert statistics.bytes <= self.config.bytes_max + self.overshoot

    @invariant()
    def memory_is_counted(self) -> None:
        if not hasattr(self, "queue"):
            return
        bodies = [p.body_bytes for shard in self.queue.shards for p in shard.in_memory()]
        assert self.queue.memory_bytes == self.memory.used == sum(bodies)

    @invariant()
    def positions_are_held_by_what_is_in_memory_only(self) -> None:
        if not hasattr(self, "queue"):
            return
        for number, model in enumerate(self.shards):
            ours = [p for p in (model.flying, *model.waiting) if p is not None]
            held = [p.encoded_bytes for p in ours if p.encoded_bytes in self.held]
            # Pieces carry their own serial here, and so their own position.
            assert self.queue.shards[number].oldest_position() == min(held, default=None)

    @invariant()
    def oldest_is_the_oldest(self) -> None:
        if hasattr(self, "queue"):
            ages = [payload.created_at for payload in self.everything()]
            assert self.queue.oldest_created_at() == min(ages, default=None)

    @invariant()
    def nothing_needed_was_freed(self) -> None:
        if hasattr(self, "queue"):
            for shard in self.queue.shards:
                entry = shard.disk.peek()
                assert entry is None or (shard.number, entry.segment, entry.offset) in self.disk


QueueMachine.TestCase.settings = examples(80, stateful_step_count=50)
TestSinkQueue = QueueMachine.TestCase
