"""Predicts queue exhaustion and stalls of one sink. Pure.

:meth:`Forecaster.observe` is called about once a second. Growth is an exponential average over
:data:`RATE_S`: a single batch raises no alarm, an outage does within a minute.
"""

from __future__ import annotations

import math

import msgspec

RATE_S = 60.0
STALLED_S = 300.0
"""Several times the longest wait between two attempts."""
HORIZON_S = 30 * 24 * 3600.0
"""Longest forecast."""
FULL_SHARE = 0.98
"""From this share on a queue counts as full: one that drops what does not fit never is quite."""


class Forecast(msgspec.Struct, frozen=True):
    """Forecast of a queue.

    ``full_in_s``: seconds until the queue is full, None if it does not grow. ``stalled_s``: time
    that data has waited without any of it being delivered or refused.
    """

    full_in_s: float | None
    stalled_s: float

    @property
    def stalled(self) -> bool:
        """True if data has waited for :data:`STALLED_S` without progress."""
        return self.stalled_s >= STALLED_S


NOTHING_AHEAD = Forecast(None, 0.0)


class Forecaster:
    """The forecast of one sink. ``now`` is any monotonic clock, s."""

    __slots__ = ("_at", "_bytes", "_bytes_max", "_growth", "_moved", "_moved_at")

    def __init__(self) -> None:
        self._at: float | None = None
        self._bytes = 0
        self._bytes_max = 0
        self._growth = 0.0
        self._moved = 0
        self._moved_at = 0.0

    def observe(self, now: float, *, bytes_held: int, bytes_max: int, moved: int) -> None:
        """Note what the queue holds now, and how many points the endpoint has settled so far."""
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

    def excuse(self, now: float) -> None:
        """Count no time until now as a stall: nothing was to be sent."""
        self._moved_at = now

    def stalled_s(self, now: float) -> float:
        """Return for how long data has waited without progress."""
        return max(0.0, now - self._moved_at) if self._bytes else 0.0

    def forecast(self, now: float) -> Forecast:
        """Return the forecast from the last observations."""
        full_in_s = None
        left = max(0, self._bytes_max - self._bytes)
        if not self._bytes:
            pass  # an empty queue is not observed: its growth is stale
        elif self._bytes > FULL_SHARE * self._bytes_max:
            full_in_s = 0.0  # it cannot grow any more
        elif self._growth * HORIZON_S > left:
            full_in_s = left / self._growth
        return Forecast(full_in_s, self.stalled_s(now))

    def __repr__(self) -> str:
        return f"<Forecaster {self._growth:+.0f} bytes a second>"
