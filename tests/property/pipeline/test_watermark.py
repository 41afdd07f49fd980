"""The oldest position in use, as a model sees it: it passes nothing that is still on its way."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from relay.codec.otlp.batch import SealedBatch
from relay.pipeline.batching.watermark import OffsetTracker
from relay.pipeline.limits import Limits
from relay.runtime.errors import DecodeError
from tests.kit.engine_rig import Rig, RigSink, named
from tests.kit.examples import examples
from tests.kit.oracle.number_points import Point, decode
from tests.kit.remote_write import raw

_STEPS = examples(30, stateful_step_count=30)


class PositionsModel(RuleBasedStateMachine):
    """Positions against a multiset of holds."""

    def __init__(self) -> None:
        super().__init__()
        self.held: Counter[int] = Counter()
        self.waiting: Counter[int] = Counter()
        """Holds of samples that wait; they are among the others, too."""

    @initialize(first=st.integers(0, 5))
    def start(self, first: int) -> None:
        self.offsets = OffsetTracker(first=first)
        self.next = first

    @rule()
    def begin(self) -> None:
        assert self.offsets.begin() == self.next
        self.held[self.next] += 1
        self.next += 1

    @rule(is_replayed=st.booleans())
    def begin_in_vain(self, is_replayed: bool) -> None:
        self.offsets.give_up(self.offsets.begin(), is_replayed=is_replayed)
        self.next += not is_replayed

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        position = data.draw(st.sampled_from(sorted(self.held)))
        self.offsets.hold(position)
        self.held[position] += 1

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def hold_later(self, data: st.DataObject) -> None:
        """Hold what nothing held any more, for a point that waited."""
        position = data.draw(st.integers(min(self.held), self.next - 1))
        self.offsets.hold(position)
        self.held[position] += 1

    @precondition(lambda self: self.held)
    @rule(data=st.data(), times=st.integers(1, 3))
    def hold_waiting(self, data: st.DataObject, times: int) -> None:
        position = data.draw(st.sampled_from(sorted(self.held)))
        self.offsets.hold_waiting(position, times)
        self.held[position] += times
        self.waiting[position] += times

    @precondition(lambda self: self.held - self.waiting)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        position = data.draw(st.sampled_from(sorted(self.held - self.waiting)))
        self.offsets.release(position)
        self.held[position] -= 1
        self.held = +self.held

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def release_waiting(self, data: st.DataObject) -> None:
        position = data.draw(st.sampled_from(sorted(self.waiting)))
        self.offsets.release_waiting(position)
        for holds in (self.held, self.waiting):
            holds[position] -= 1
        self.held, self.waiting = +self.held, +self.waiting

    @rule(count=st.integers(0, 3))
    def advance(self, count: int) -> None:
        self.next += count
        self.offsets.advance(self.next)

    @rule()
    def read(self) -> None:
        assert self.offsets.undelivered == min(self.held - self.waiting, default=self.next)

    @invariant()
    def low_is_the_oldest_held(self) -> None:
        assert self.offsets.low == min(self.held, default=self.next)
        statistics = self.offsets.statistics()
        assert statistics.next == self.next
        assert statistics.holds == self.held.total()
        # Nothing is kept for the released.
        assert set(self.offsets._held) == set(self.held)
        assert set(self.offsets._waiting) == set(self.waiting)


class EnginePositions(RuleBasedStateMachine):
    """An engine and its sinks: every point carries the number of the request that brought it."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(Limits(series_max=4))
        self.rig.export(
            RigSink("three", limit=3, timeout_s=2.0),
            RigSink("wide", limit=50, timeout_s=4.0),
            RigSink("at-once", limit=5, timeout_s=0.0),
        )
        self.rig.export(
            RigSink("lanes", limit=2, shards=2, timeout_s=3.0),
            exporter="y",
            sources={"a": named("a")},
        )
        self.tick = 0.0
        self.waiting: list[SealedBatch] = []
        self.fed: Counter[str] = Counter()
        self.came: Counter[str] = Counter()

    @rule(names=st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=7))
    def good(self, names: list[str]) -> None:
        """The value says which request it is from."""
        request = self.rig.engine.offsets.statistics().next
        pairs = [[(b"__name__", name.encode())] for name in names]
        body = b"".join(raw.series(pair, (float(request), raw.T0_MS)) for pair in pairs)
        transaction = self.rig.feed(body, tick=self.tick)
        assert transaction.request == request
        for sink in self.rig.sinks:
            self.fed[sink.name] += names.count("a") if sink.name == "lanes" else len(names)

    @rule(names=st.lists(st.sampled_from(["a", "b", "f"]), max_size=7))
    def refused(self, names: list[str]) -> None:
        pairs = [[(b"__name__", name.encode())] for name in names]
        body = b"".join(raw.series(pair, (-1.0, raw.T0_MS)) for pair in pairs)
        with pytest.raises(DecodeError):
            self.rig.feed(body + b"\x0a\x05", tick=self.tick)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5]))
    def later(self, seconds: float) -> None:
        self.tick += seconds
        self.rig.due(self.tick)

    @rule()
    def flush_one(self) -> None:
        self.rig.hand_over(self.rig.engine.flush(self.rig.sinks[0].batches))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        sealed = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        self.rig.engine.offsets.release(sealed.oldest)

    @invariant()
    def low_passes_nothing_that_is_on_its_way(self) -> None:
        self._collect()
        low = self.rig.engine.offsets.low
        for sealed in self.waiting:
            points = decode(sealed.point_buffer.encode())
            assert sealed.oldest == min(map(_request_of, points)) >= low
        for sink in self.rig.sinks:
            for point in sink.open_points():
                assert _request_of(point) >= low
            for batch in sink.batches:
                assert batch.count or batch.oldest_offset == -1
        holders = len(self.waiting) + sum(
            bool(batch.count) for sink in self.rig.sinks for batch in sink.batches
        )
        assert self.rig.engine.offsets.statistics().holds == holders

    @invariant()
    def ledger_balances(self) -> None:
        self._collect()
        self.rig.engine.statistics()
        for sink in self.rig.sinks:
            opened = sum(batch.count for batch in sink.batches)
            assert sink.counter.points == self.fed[sink.name] == self.came[sink.name] + opened

    def teardown(self) -> None:
        self.rig.flush()
        self._collect()
        for sealed in self.waiting:
            self.rig.engine.offsets.release(sealed.oldest)
        offsets = self.rig.engine.offsets.statistics()
        assert offsets.low == offsets.next
        assert offsets.holds == 0
        assert self.came == +self.fed

    def _collect(self) -> None:
        for sink in self.rig.sinks:
            for sealed in sink.sealed:
                self.came[sink.name] += sealed.count
                self.waiting.append(sealed)
            sink.sealed.clear()


def _request_of(point: Point) -> int:
    """The number that :meth:`EnginePositions.good` wrote as the value."""
    (value,) = struct.unpack("<d", point.value_bits.to_bytes(8, "little"))
    return int(value)


def _case(machine: Any) -> Any:
    machine.TestCase.settings = _STEPS
    return machine.TestCase


TestPositions = _case(PositionsModel)
TestEnginePositions = _case(EnginePositions)
