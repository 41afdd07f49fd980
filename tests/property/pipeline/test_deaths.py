"""Deaths and stops at any moment, as a model sees them: nothing is lost, nothing is torn, and what
a sink had by the last checkpoint it does not get again."""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from relay.codec.otlp.batch import OpenBatch, SealedBatch
from relay.pipeline.batching import unfinished
from relay.pipeline.batching.unfinished import ReplayGate, WaitingEntry
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.examples import examples
from tests.kit.oracle.any_points import read_points
from tests.kit.remote_write.sample_writes import T0_MS, T0_NS, histogram, write

SINKS = ("quick", "slow", "at-once")
SECOND_NS = 1_000_000_000
LISTED_FEW = 2
Key = tuple[str, int]
"""A metric and the second of its point."""


class Deaths(RuleBasedStateMachine):
    """A relay's engine with its journal, its checkpoint and three sinks, killed and started."""

    first_sight_s = 0.0
    listed_max = unfinished.LISTED_MAX
    sinks: tuple[str, ...] = SINKS

    def __init__(self) -> None:
        super().__init__()
        self.listed = mock.patch.object(unfinished, "LISTED_MAX", self.listed_max)
        self.listed.start()
        self.tick = 0.0
        self.journal: dict[int, bytes] = {}
        self.delivered: dict[str, Counter[Key]] = {name: Counter() for name in SINKS}
        self.sent: dict[Key, int] = {}
        """Position of a point's last sample."""
        self.second = 0
        self.families = 0
        self.partial: dict[str, tuple[int, list[str]]] = {}
        """Members of the current set of a histogram that were not sent yet, and its second."""
        self.replay: list[int] = []
        self.saved: tuple[int, dict[str, int], list[WaitingEntry], int] = (0, {}, [], 0)
        self.knowledge = Rig().engine.export_metadata()
        self.settled: dict[str, set[Key]] = {name: set() for name in SINKS}
        """Points that a sink must not get again."""
        self.arrived: dict[str, dict[Key, int]] = {name: {} for name in SINKS}
        """The next position when a point arrived."""
        self.finished: dict[str, set[Key]] = {name: set() for name in SINKS}
        """Points that a sink must not get again, as of the last checkpoint."""

    @initialize()
    def start(self) -> None:
        self._begin()

    def _begin(self) -> None:
        """Start a process: see :class:`relay.control.durability.replay.Replay`."""
        self.rig = Rig(assembly_wait_s=10.0, first_sight_s=self.first_sight_s)
        self.rig.engine.import_metadata(self.knowledge)
        self.rig.export(*self._make_sinks())
        self.queues: dict[str, list[SealedBatch]] = {name: [] for name in self.sinks}
        self.came: Counter[str] = Counter()
        """Points of this process, by sink."""
        for name in SINKS:  # what arrived later than the checkpoint may come again
            sure = self.finished[name]
            self.arrived[name] = {k: at for k, at in self.arrived[name].items() if k in sure}
        following, lows, named, start = self.saved
        self.known = {name: lows.get(name, following) for name in self.sinks}
        end = max(self.journal, default=following - 1) + 1
        end = max(end, following)
        first = min([start, *self.known.values(), *(entry.first for entry in named)])
        self.replay = sorted(position for position in self.journal if position >= first)
        self.end = end
        self.rig.engine.offsets.advance(min(first, end))
        self.gate = ReplayGate(
            self._low,
            named,
            floor=min(self.known.values()),
            ceiling=max(following, *self.known.values()),
            unlisted=max(self.known.values()),
        )
        if self.replay:
            self.rig.engine.begin_replay(self.gate)
        else:
            self.rig.engine.offsets.advance(end)
            self.gate.crossed = True

    def _make_sinks(self) -> list[RigSink]:
        return [
            RigSink("quick", limit=3, timeout_s=1.0),
            RigSink("slow", limit=50, timeout_s=4.0),
            RigSink("at-once", limit=500, timeout_s=0.0),
        ]

    def _low(self, batch: OpenBatch) -> int:
        assert isinstance(batch.sink, RigSink)
        return self.known[batch.sink.name]

    @precondition(lambda self: self.replay)
    @rule(count=st.integers(1, 8))
    def replay_some(self, count: int) -> None:
        for position in self.replay[:count]:
            replayed = self.rig.engine.replay(
                self.journal[position], position=position, now=1e9, tick=self.tick
            )
            for batch, points in replayed.withheld:
                assert isinstance(batch.sink, RigSink)
                batch.sink.counter.points -= points
            self._collect(replayed.transaction.sealed)
        del self.replay[:count]
        if not self.replay:
            self.rig.engine.offsets.advance(self.end)
            self._collect(self.rig.engine.end_replay(self.tick))

    def _finish_replay(self) -> None:
        if self.replay:
            self.replay_some(len(self.replay))

    @rule(name=st.sampled_from("abcdefg"), metrics=st.integers(1, 4))
    def numbers(self, name: str, metrics: int) -> None:
        self._finish_replay()
        self.second += 1
        lines = [f"{name}_{n} {self.second}" for n in range(metrics)]
        position = self._send(lines, T0_MS + 1000 * self.second)
        for n in range(metrics):
            self.sent[f"{name}_{n}", self.second] = position

    @rule(new=st.booleans(), at=st.integers(0, 5))
    def begin_set(self, *, new: bool, at: int) -> None:
        if new or not self.families:
            self.families += 1
            at = self.families - 1
        name = f"h{at % self.families}"
        if name not in self.partial:
            self.second += 1
            members = histogram(name, "", (("1", 2), ("+Inf", 3)), 4.5, 3)
            self.partial[name] = (self.second, members)

    @precondition(lambda self: self.partial)
    @rule(data=st.data())
    def members(self, data: st.DataObject) -> None:
        """Send some members of some sets, in one request."""
        self._finish_replay()
        names = sorted(self.partial)
        lines, ended = [], []
        for name in data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True)):
            second, left = self.partial[name]
            for _ in range(data.draw(st.integers(1, len(left)))):
                member = left.pop(data.draw(st.integers(0, len(left) - 1)))
                lines.append(f"{member} @{T0_MS + 1000 * second}")
            if not left:
                ended.append((name, second))
                del self.partial[name]
        position = self._send(lines, 0)
        for key in ended:
            self.sent[key] = position

    def _send(self, lines: list[str], at_ms: int) -> int:
        # Of every third family nobody says that it is a histogram.
        said = 3 if self.first_sight_s else 1
        families = {f"h{n}": "histogram" for n in range(self.families) if n % said != 2}
        body = write(*lines, at_ms=at_ms, types=families)
        transaction = self.rig.feed(body, tick=self.tick)
        self.journal[transaction.request] = body
        self._collect([])
        return transaction.request

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0]))
    def later(self, seconds: float) -> None:
        """Time passes; sets are given the time that they need."""
        if not self.partial or (seconds <= 2.0 and not self.first_sight_s):
            self.tick += seconds
        self.rig.due(self.tick)
        self._collect([])

    @precondition(lambda self: not self.partial)
    @rule()
    def deadline(self) -> None:
        self._finish_replay()
        self.tick += 11.0
        self.rig.due(self.tick)
        self._collect([])

    @rule(name=st.sampled_from(SINKS), count=st.integers(1, 5))
    def deliver(self, name: str, count: int) -> None:
        for sealed in self.queues[name][:count]:
            self._arrive(name, sealed)
            self.rig.engine.offsets.release(sealed.oldest)
        del self.queues[name][:count]

    @rule()
    def checkpoint(self) -> None:
        """See :class:`relay.control.durability.checkpointer.Checkpointer`."""
        offsets = self.rig.engine.offsets
        named, rest = self.rig.engine.named()
        lows = {}
        for sink in self.rig.sinks:
            held = [batch.oldest_offset for batch in sink.batches if batch.count]
            held += [sealed.oldest for sealed in self.queues[sink.name]]
            low = min([offsets.following, *held, *([] if rest is None else [rest])])
            known = self.known[sink.name]
            lows[sink.name] = max(min(low, self.gate.low_max(known)), known)
        following = offsets.following
        if not self.gate.crossed:
            following = max(following, self.gate.ceiling)
        self.saved = (following, lows, named, offsets.reach)
        for position in [position for position in self.journal if position < offsets.reach]:
            del self.journal[position]
        self.knowledge = self.rig.engine.export_metadata()
        if self.replay:
            return
        for name in SINKS:
            low = lows[name]
            # What one sink lacked left once more at the end of the replay, at the latest.
            self.finished[name] = {
                key for key, at in self.arrived[name].items() if low >= max(at, self.end)
            }
            if not self.first_sight_s:
                self.settled[name] |= {
                    key
                    for key in self.delivered[name]
                    if self.sent[key] < low and not key[0].startswith("h")
                }
        everywhere = set.intersection(*self.finished.values())
        for name in SINKS:
            self.settled[name] |= everywhere

    @rule()
    def kill(self) -> None:
        self._begin()

    @rule()
    def stop(self) -> None:
        """In good order: what is in batches and queues is stored."""
        self.rig.flush()
        self._collect([])
        for name in self.sinks:
            self.deliver(name, len(self.queues[name]))
        self.checkpoint()
        self._begin()

    def _arrive(self, name: str, sealed: SealedBatch) -> None:
        for point in read_points(sealed.point_buffer.encode()):
            key = (point.name, (point.time_ns - T0_NS) // SECOND_NS)
            assert key in self.sent, f"{key} is not whole"
            if point.name.startswith("h"):
                assert point.data[0] == 3, point
                assert point.data[2:] == ((1.0,), (2, 1)), point
            gone = key in self.settled[name] or key in self.finished[name]
            if self.listed_max > LISTED_FEW:  # fewer hold back all sinks, and all comes again
                assert not gone, f"{name} gets {key} again"
            self.delivered[name][key] += 1
            self.arrived[name][key] = self.rig.engine.offsets.following
            self.came[name] += 1

    def _collect(self, sealed: Any) -> None:
        self.rig.hand_over(sealed)
        for sink in self.rig.sinks:
            self.queues[sink.name] += sink.sealed
            sink.sealed.clear()

    def teardown(self) -> None:
        try:
            if hasattr(self, "rig"):
                self._end()
        finally:
            self.listed.stop()

    def _end(self) -> None:
        self._finish_replay()
        while self.partial:
            name, (second, left) = self.partial.popitem()
            self.sent[name, second] = self._send(
                [f"{member} @{T0_MS + 1000 * second}" for member in left], 0
            )
        for _ in range(2):  # a family, and then its sets
            self.tick += 100.0
            self.rig.due(self.tick)
        self.rig.flush()
        self._collect([])
        for name in self.sinks:
            self.deliver(name, len(self.queues[name]))
        for name in SINKS:
            missing = [key for key in self.sent if key not in self.delivered[name]]
            assert not missing, f"{name} misses {missing}"
        offsets = self.rig.engine.offsets.statistics()
        assert offsets.holds == 0
        self.rig.engine.router.flush_counters()
        for sink in self.rig.sinks:
            assert sink.counter.points == self.came[sink.name]


class DeathsAtFirstSight(Deaths):
    """The same, where families of no known type wait."""

    first_sight_s = 1.5


class DeathsWithAShortList(DeathsAtFirstSight):
    """The same, where a checkpoint has room for few of those that wait."""

    listed_max = LISTED_FEW


_STEPS = examples(25, stateful_step_count=40)
TestDeaths: Any = Deaths.TestCase
TestDeaths.settings = _STEPS
TestDeathsAtFirstSight: Any = DeathsAtFirstSight.TestCase
TestDeathsAtFirstSight.settings = _STEPS
TestDeathsWithAShortList: Any = DeathsWithAShortList.TestCase
TestDeathsWithAShortList.settings = _STEPS
