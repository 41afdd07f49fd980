"""SinkQueue against a model: whatever the sequence, bytes, order and ledger are exact."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.exporter.model import Overflow, Queue
from relay.sink.ledger import SinkLedger
from relay.sink.payload import Payload
from relay.sink.queue import SinkQueue

LANES = 3
AGE_MAX_S = 50.0


class QueueMachine(RuleBasedStateMachine):
    """The model: a plain list per lane, and a set of what is in flight."""

    @initialize(
        bytes_max=st.integers(1, 300),
        overflow=st.sampled_from(["dropOldest", "dropNewest", "block"]),
    )
    def start(self, bytes_max: int, overflow: Overflow) -> None:
        self.config = Queue(bytes_max=bytes_max, age_max_s=AGE_MAX_S, overflow=overflow)
        self.queue = SinkQueue(self.config, lanes=LANES)
        self.ledger = SinkLedger()
        self.lanes: list[list[Payload]] = [[] for _ in range(LANES)]
        self.in_flight: list[Payload] = []
        self.now = 0.0
        self.serial = 0
        self.overshoot = 0

    def held(self) -> list[Payload]:
        return [payload for lane in self.lanes for payload in lane] + self.in_flight

    def held_bytes(self) -> int:
        return sum(len(payload.body) for payload in self.held())

    def make(self, lane: int, size: int, points: int, created_at: float) -> Payload:
        self.serial += 1
        return Payload(bytes(size), "none", points, size, self.serial, lane, created_at)

    @rule(lane=st.integers(0, LANES - 1), size=st.integers(0, 120), points=st.integers(2, 9))
    def push(self, lane: int, size: int, points: int) -> None:
        payload = self.make(lane, size, points, self.now)
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
                assert self.lanes[each.lane].pop(0) is each
            kept = [each.created_at for waiting in self.lanes for each in waiting]
            assert all(age <= min(kept, default=self.now) for age in ages)
            # No more than needed: without the last one dropped it would not have fitted.
            assert self.held_bytes() + len(dropped[-1].body) + size > self.config.bytes_max
        if payload not in dropped:
            self.lanes[lane].append(payload)

    @rule(lane=st.integers(0, LANES - 1))
    def take(self, lane: int) -> None:
        payload = self.queue.take(lane)
        if not self.lanes[lane]:
            assert payload is None
            return
        assert payload is self.lanes[lane].pop(0)
        assert self.queue.is_in_flight(payload)
        self.in_flight.append(payload)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        payload = self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))
        self.queue.give_back(payload)
        self.lanes[payload.lane].insert(0, payload)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        payload = self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))
        self.queue.finish(payload)
        self.ledger.deliver(payload.points)

    @precondition(lambda self: any(payload.points > 1 for payload in self.in_flight))
    @rule()
    def split(self) -> None:
        payload = next(each for each in self.in_flight if each.points > 1)
        self.in_flight.remove(payload)
        size = len(payload.body) // 2 + 1
        pieces = [
            self.make(payload.lane, size, points, payload.created_at)
            for points in (1, payload.points - 1)
        ]
        self.overshoot += 2
        self.queue.replace(payload, pieces)
        self.lanes[payload.lane][:0] = pieces

    @rule(seconds=st.floats(0, 60))
    def age(self, seconds: float) -> None:
        self.now += seconds
        for payload in self.queue.expire(self.now):
            assert payload.created_at + AGE_MAX_S <= self.now
            assert self.lanes[payload.lane].pop(0) is payload
            self.ledger.expire(payload.points)
        for lane in self.lanes:
            assert not lane or lane[0].created_at + AGE_MAX_S > self.now

    @rule()
    def clear(self) -> None:
        removed = self.queue.clear()
        assert removed == [payload for lane in self.lanes for payload in lane]
        for payload in removed:
            self.ledger.drop(payload.points, "shutdown")
        self.lanes = [[] for _ in range(LANES)]

    @invariant()
    def counts_are_exact(self) -> None:
        if not hasattr(self, "queue"):
            return
        held = self.held()
        statistics = self.queue.statistics()
        assert statistics.payloads == len(held)
        assert statistics.in_flight == len(self.in_flight)
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
    def oldest_is_the_oldest(self) -> None:
        if hasattr(self, "queue"):
            ages = [payload.created_at for payload in self.held()]
            assert self.queue.oldest_created_at() == min(ages, default=None)


QueueMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSinkQueue = QueueMachine.TestCase
