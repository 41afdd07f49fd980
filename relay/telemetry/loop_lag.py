"""Measure how late the event loop runs: the sign that synchronous work takes too long."""

from __future__ import annotations

import asyncio
from collections import deque

from relay.telemetry.histogram import Durations
from relay.telemetry.snapshot import LagFigures

INTERVAL_S = 0.1
"""Interval between measurements; s. Short enough to see a stall of 0.1 s, at no measurable cost."""
WINDOW = 600
"""Measurements covered by :attr:`LoopLag.max_s`: one minute at :data:`INTERVAL_S`."""


class LoopLag:
    """Measure the event loop's lag while :meth:`run` runs."""

    def __init__(self, *, interval_s: float = INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._window: deque[float] = deque(maxlen=WINDOW)
        self._durations = Durations()

    async def run(self) -> None:
        """Measure until cancelled: by how much a sleep of the interval overruns."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._interval_s
            await asyncio.sleep(self._interval_s)
            self.observe(loop.time() - due)

    def observe(self, lag_s: float) -> None:
        """Record one measurement in seconds; a timer that fires a clock tick early counts as 0."""
        lag_s = max(0.0, lag_s)
        self._window.append(lag_s)
        self._durations.observe(lag_s)

    @property
    def last_s(self) -> float:
        """Return the last measurement in seconds, 0 before the first."""
        return self._window[-1] if self._window else 0.0

    @property
    def max_s(self) -> float:
        """Return the largest lag of the window in seconds."""
        return max(self._window, default=0.0)

    def statistics(self) -> LagFigures:
        """Return a snapshot."""
        return LagFigures(self.max_s, self._durations.statistics())

    def __repr__(self) -> str:
        return f"<LoopLag last {self.last_s:.3f} s, max {self.max_s:.3f} s>"
