"""What state a sink is in, and when that is worth a line in the log. Pure: time comes in.

Rules:

* ``healthy``: the last answer took data; ``failing``: it took none; ``paused``: credentials are
  missing or refused. A sink begins healthy; ``behind`` is healthy and too slow, which
  :mod:`relay.sink.reporting.throughput` finds. *Losing* means that points were lost since the last
  answer that took everything.
* A change of either is said once, and at most one line leaves in :data:`LOG_INTERVAL_S_MIN`. What
  could not be said is said at the first observation after that, unless it is over by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

State = Literal["healthy", "behind", "failing", "paused"]
STATES: Final = get_args(State)

LOG_INTERVAL_S_MIN = 30.0


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line to log; ``good`` tells news from trouble."""

    text: str
    good: bool


class Health:
    """State machine of one sink. ``now`` is any monotonic clock, in s."""

    __slots__ = ("_said", "_said_at", "losing", "state")

    def __init__(self) -> None:
        self.state: State = "healthy"
        self.losing = False
        self._said: tuple[State, bool] = ("healthy", False)
        self._said_at = float("-inf")

    def delivered(self, now: float) -> LogLine | None:
        """An answer took everything."""
        self.losing = False
        return self._enter("healthy", "delivering", now)

    def delivered_in_part(self, why: str, now: float) -> LogLine | None:
        """An answer took data and refused some of it."""
        self.losing = True
        return self._enter("healthy", f"losing data: {why}", now)

    def failed(self, why: str, now: float) -> LogLine | None:
        """An attempt failed and its data is kept."""
        return self._enter("failing", f"not delivering: {why}", now)

    def paused(self, why: str, now: float) -> LogLine | None:
        """Credentials are missing or refused; data is kept."""
        return self._enter("paused", f"paused until its credentials are accepted: {why}", now)

    def rejected(self, why: str, now: float) -> LogLine | None:
        """An answer refused everything for good."""
        self.losing = True
        return self._enter("failing", f"losing data: {why}", now)

    def lost(self, why: str, now: float) -> LogLine | None:
        """Points were given up without an answer that refused them."""
        self.losing = True
        return self._enter(self.state, f"losing data: {why}", now)

    def _enter(self, state: State, text: str, now: float) -> LogLine | None:
        self.state = state
        news = (state, self.losing)
        if news == self._said or now - self._said_at < LOG_INTERVAL_S_MIN:
            return None
        self._said = news
        self._said_at = now
        return LogLine(text, good=news == ("healthy", False))

    def __repr__(self) -> str:
        return f"<Health {self.state}{', losing data' if self.losing else ''}>"
