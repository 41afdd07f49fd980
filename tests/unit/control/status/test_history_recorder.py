"""The recorder notes what has data, forgets what is gone, and survives a bug."""

from __future__ import annotations

import asyncio
import logging

import pytest

from relay.control.status.board import BUSY_S, StatusBoard
from relay.control.status.history_recorder import HistoryRecorder
from relay.control.status.sink_history import SinkHistories
from tests.kit.sink.running_sinks import ToldSinks, exporter, result
from tests.own_time import patience


class Bench:
    """A recorder of a board over told sinks; ``now`` is the time of all their clocks."""

    def __init__(self, *names: str) -> None:
        self.now = 1_795_950_000.0
        self.sinks = ToldSinks()
        self.board = StatusBoard(self.sinks, lambda: self.sinks.loaded, clock=lambda: self.now)
        self.histories = SinkHistories()
        self.recorder = HistoryRecorder(self.board, self.histories, lambda: self.now)
        self.run(*names)

    def run(self, *names: str) -> None:
        """Run these exporters, and no other."""
        ones = [exporter(name) for name in names]
        self.sinks.load(*map(result, ones))
        for one in ones:
            self.sinks.apply(one, self.now)

    async def round(self, *busy: str, points: int = 0) -> None:
        """Deliver to the busy ones, look, and note, ten seconds later."""
        self.now += 10
        for name in busy:
            self.sinks.workers[f"n/{name}", "out"].deliver(self.now, points)
        await self.board.look()
        await self.recorder.note_all()


async def test_only_what_has_data_is_noted() -> None:
    bench = Bench("busy", "idle")
    await bench.round("busy", points=10)
    await bench.round("busy", points=50)
    assert bench.histories.of("n/idle") == {}
    found = bench.histories.of("n/busy")["out"]
    assert found.points_per_s == 5.0
    assert found.oldest_s is None


async def test_what_is_gone_is_forgotten() -> None:
    bench = Bench("gone", "kept")
    await bench.round("gone", "kept", points=1)
    bench.run("kept")
    for _ in range(30):
        await bench.round("kept", points=1)
    assert bench.histories.of("n/gone") == {}
    assert bench.histories.of("n/kept") != {}
    bench.now += BUSY_S + 1
    assert list(bench.board.busy()) == []


async def test_a_bug_costs_one_round(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench("e")
    rounds, again = ["first"], asyncio.Event()

    async def note_all() -> float:
        if rounds:
            rounds.clear()
            raise ValueError("a bug")
        again.set()
        return 1.0

    monkeypatch.setattr(bench.recorder, "note_all", note_all)
    monkeypatch.setattr("relay.control.status.history_recorder.ROUND_S", 0.0)
    task = asyncio.create_task(bench.recorder.run())
    with caplog.at_level(logging.ERROR):
        async with patience(5):
            await again.wait()
    task.cancel()
    assert "the history of sinks was not noted" in caplog.text
