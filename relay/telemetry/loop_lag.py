"""How late the event loop is: the one figure that says whether synchronous work takes too long."""

from __future__ import annotations

import asyncio
from collections import deque

from relay.telemetry.histogram import Durations
from relay.telemetry.snapshot import LagFigures

INTERVAL_S = 0.1
"""Ten looks a second catch whatever takes a tenth of one, and cost nothing that can be measured."""
WINDOW = 600
"""Measurements of which :attr:`LoopLag.max_s` is the worst; a minute's at the interval above."""


class LoopLag:
    """Measures while :meth:`run` runs."""

    def __init__(self, *, interval_s: float = INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._window: deque[float] = deque(maxlen=WINDOW)
        self._durations = Durations()

    async def run(self) -> None:
        """Measure until cancelled: by how much later than asked for do we wake up?"""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._interval_s
            await asyncio.sleep(self._interval_s)
            self.observe(loop.time() - due)

    def observe(self, lag_s: float) -> None:
        """Take one measurement in; timers may fire a clock tick early, which is no lag."""
        lag_s = max(0.0, lag_s)
        self._window.append(lag_s)
        self._durations.observe(lag_s)

    @property
    def last_s(self) -> float:
        """The last measurement, 0 before the first."""
        return self._window[-1] if self._window else 0.0

    @property
    def max_s(self) -> float:
        """The worst of the window."""
        return max(self._window, default=0.0)

    def statistics(self) -> LagFigures:
        """A snapshot."""
        return LagFigures(self.max_s, self._durations.statistics())

    def __repr__(self) -> str:
        return f"<LoopLag last {self.last_s:.3f} s, max {self.max_s:.3f} s>"
