"""Deaths and stops at any moment, for sinks that get series as they came.

The machine of :mod:`tests.property.pipeline.test_deaths` with two more sinks: what they get is not
whole points but each sample that was sent, at least once over all deaths, once in a process, and
not again where a checkpoint says that they have it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from relay.codec.otlp.batch import SealedBatch
from tests.kit.engine_rig import RAW1, RAW2, RigSink
from tests.kit.examples import examples
from tests.kit.remote_write.as_sent import AsSent, Labels
from tests.property.pipeline.test_deaths import SINKS, Deaths

RAW_SINKS = ("raw1", "raw2")
RawKey = tuple[Labels, int]
"""A series and a time."""


class RawDeaths(Deaths):
    """A relay with sinks of both kinds, killed and started."""

    sinks = (*SINKS, *RAW_SINKS)

    def __init__(self) -> None:
        super().__init__()
        self.raw_sent: dict[RawKey, int] = {}
        self.raw_delivered: dict[str, set[RawKey]] = {name: set() for name in RAW_SINKS}
        self.raw_settled: dict[str, set[RawKey]] = {name: set() for name in RAW_SINKS}

    def _begin(self) -> None:
        super()._begin()
        self.raw_came: dict[str, Counter[RawKey]] = {name: Counter() for name in RAW_SINKS}

    def _make_sinks(self) -> list[RigSink]:
        return [
            *super()._make_sinks(),
            RigSink("raw1", limit=4, timeout_s=2.0, options=RAW1),
            RigSink("raw2", limit=60, timeout_s=3.0, options=RAW2),
        ]

    def _send(self, lines: list[str], at_ms: int) -> int:
        position = super()._send(lines, at_ms)
        sent = AsSent()
        sent.read_v1(self.journal[position])
        for labels, series in sent.series.items():
            for point in series.points:
                self.raw_sent[labels, point.time_ms] = position
        return position

    @rule(name=st.sampled_from(RAW_SINKS), count=st.integers(1, 5))
    def deliver_raw(self, name: str, count: int) -> None:
        self.deliver(name, count)

    @rule()
    def checkpoint(self) -> None:
        """Nothing that a sink has and that lies before its low position comes again."""
        super().checkpoint()
        if self.replay:
            return
        lows = self.saved[1]
        for name in RAW_SINKS:
            for key in self.raw_delivered[name]:
                if self.raw_sent[key] < lows[name]:
                    self.raw_settled[name].add(key)

    def _arrive(self, name: str, sealed: SealedBatch) -> None:
        if name not in RAW_SINKS:
            super()._arrive(name, sealed)
            return
        for key in keys_of(self.rig.sinks[self.sinks.index(name)], sealed):
            assert key in self.raw_sent
            assert key not in self.raw_settled[name], f"{name} gets {key} again"
            self.raw_delivered[name].add(key)
            self.raw_came[name][key] += 1
            assert self.raw_came[name][key] == 1, f"{name} gets {key} twice"
            self.came[name] += 1

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "rig"):
            for name in RAW_SINKS:
                missing = self.raw_sent.keys() - self.raw_delivered[name]
                assert not missing, f"{name} misses {missing}"


def keys_of(sink: RigSink, sealed: SealedBatch) -> list[RawKey]:
    """The samples of a batch."""
    kept, sink.sealed = sink.sealed, [sealed]
    arrived = sink.as_sent()
    sink.sealed = kept
    return [
        (labels, point.time_ms)
        for labels, series in arrived.series.items()
        for point in series.points
    ]


class RawDeathsAtFirstSight(RawDeaths):
    """The same, where families of no known type wait in other sinks."""

    first_sight_s = 1.5


_STEPS = examples(20, stateful_step_count=40)
TestRawDeaths: Any = RawDeaths.TestCase
TestRawDeaths.settings = _STEPS
TestRawDeathsAtFirstSight: Any = RawDeathsAtFirstSight.TestCase
TestRawDeathsAtFirstSight.settings = _STEPS
