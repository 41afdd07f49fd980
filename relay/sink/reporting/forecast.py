"""What is to be feared of a sink: a queue that fills up, data that does not move. Pure.

Fed about once a second. The rate at which the queue grows is an average over the last
:data:`RATE_S` or so, so that a single batch is no alarm and an outage is one within a minute.
"""

from __future__ import annotations

import math

import msgspec

RATE_S = 60.0
STALLED_S = 300.0
"""Longer than the longest wait between two attempts, several times over."""
HORIZON_S = 30 * 24 * 3600.0
"""What is further away is not foreseen."""
FULL_SHARE = 0.98
"""A queue that drops what does not fit is never quite full."""


class Forecast(msgspec.Struct, frozen=True):
    """``full_in_s``: None where the queue does not grow. ``stalled_s``: for how long data has
    waited without any of it being delivered or refused."""

    full_in_s: float | None
    stalled_s: float

    @property
    def stalled(self) -> bool:
        """Whether the watchdog barks."""
        return self.stalled_s >= STALLED_S


NOTHING_AHEAD = Forecast(None, 0.0)


class Forecaster:
    """One sink. ``now`` is any monotonic clock, s."""

    __slots__ = ("_at", "_bytes", "_bytes_max", "_growth", "_moved", "_moved_at")

    def __init__(self) -> None:
        self._at: float | None = None
        self._bytes = 0
        self._bytes_max = 0
        self._growth = 0.0
        self._moved = 0
        self._moved_at = 0.0

    def observe(self, now: float, *, bytes_held: int, bytes_max: int, moved: int) -> None:
        """One look: what the queue holds, and how many points the endpoint has ever settled."""
        if self._at is None:
            self._at = self._moved_at = now
            self._bytes = bytes_held
        elif now > self._at:
            rate = (bytes_held - self._bytes) / (now - self._at)
            weight = 1.0 - math.exp((self._at - now) / RATE_S)
            self._growth += weight * (rate - self._growth)
            self._at = now
        if moved != self._moved or not bytes_held or not self._bytes:
            self._moved = moved
            self._moved_at = now
        self._bytes = bytes_held
        self._bytes_max = bytes_max

    def stalled_s(self, now: float) -> float:
        """For how long data has waited and nothing moved."""
        return max(0.0, now - self._moved_at) if self._bytes else 0.0

    def forecast(self, now: float) -> Forecast:
        """What the last looks say."""
        full_in_s = None
        left = max(0, self._bytes_max - self._bytes)
        if not self._bytes:
            pass  # an empty queue may not be looked at for long
        elif self._bytes > FULL_SHARE * self._bytes_max:
            full_in_s = 0.0  # it cannot grow any more
        elif self._growth * HORIZON_S > left:
            full_in_s = left / self._growth
        return Forecast(full_in_s, self.stalled_s(now))

    def __repr__(self) -> str:
        return f"<Forecaster {self._growth:+.0f} bytes a second>"
