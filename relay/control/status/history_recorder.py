"""Note the counters of the sinks that have data, a few at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from relay.control.status.board import StatusBoard
from relay.control.status.sink_history import SinkHistories

_log: Final = logging.getLogger("relay.control.status")
ROUND_S: Final = 10.0
"""Interval of notes of few exporters; s."""
PER_EXPORTER_S: Final = 0.006
"""Time between the notes of two exporters of many: a note takes 30 µs, so 0.5 % of a core."""
_AT_ONCE: Final = 20
_FORGET_ROUNDS: Final = 30
"""Rounds after which exporters that are gone are forgotten."""


class HistoryRecorder:
    """Notes what sinks do; lives on the event loop. ``clock`` is the wall clock, s."""

    def __init__(
        self, board: StatusBoard, histories: SinkHistories, clock: Callable[[], float]
    ) -> None:
        self._board = board
        self._histories = histories
        self._clock = clock
        self._rounds = 0

    def __repr__(self) -> str:
        return f"<HistoryRecorder {self._histories!r}>"

    async def run(self) -> None:
        """Note, round after round, until cancelled. A bug is logged and costs one round."""
        while True:
            try:
                spent_s = await self.note_all()
            except Exception:
                _log.exception("bug in the relay: the history of sinks was not noted")
                spent_s = 0.0
            await asyncio.sleep(max(0.0, ROUND_S - spent_s))

    async def note_all(self) -> float:
        """Note every exporter that has had data of late; return the time it took, s."""
        keys = list(self._board.busy())
        pause_s = _AT_ONCE * PER_EXPORTER_S if len(keys) * PER_EXPORTER_S > ROUND_S else 0.0
        began = asyncio.get_running_loop().time()
        for start in range(0, len(keys), _AT_ONCE):
            if start:
                await asyncio.sleep(pause_s)
            for key in keys[start : start + _AT_ONCE]:
                exporter, reports = self._board.reports(key)
                self._histories.note(exporter, reports, self._clock())
        self._rounds += 1
        if not self._rounds % _FORGET_ROUNDS:
            self._histories.forget_all_but(key.id for key in self._board.objects())
        return asyncio.get_running_loop().time() - began
