"""The state of a sink, and which changes of it are logged. Pure: time is an argument.

Rules:

* ``healthy``: the last answer accepted data; ``failing``: it accepted none; ``paused``: credentials
  are missing or refused. A sink begins healthy; ``behind`` is healthy and too slow, which
  :mod:`relay.sink.reporting.throughput` finds. *Losing* means that points were lost since the last
  answer that accepted everything.
* A change of either is logged once, at most one line per :data:`LOG_INTERVAL_S_MIN`. A change
  within that time is logged at the first observation after it, unless it is over by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

State = Literal["healthy", "behind", "failing", "paused"]
STATES: Final = get_args(State)

LOG_INTERVAL_S_MIN = 30.0

_AT_FIRST: tuple[State, bool] = ("healthy", False)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line to log; ``good``: an improvement, not trouble."""

    text: str
    good: bool


class Health:
    """The state of one sink. ``now`` is any monotonic clock, in s."""

    __slots__ = ("_logged", "_logged_at", "losing", "state")

    def __init__(self) -> None:
        self.state: State = "healthy"
        self.losing = False
        self._logged = _AT_FIRST
        self._logged_at = float("-inf")

    def delivered(self, now: float) -> LogLine | None:
        """Note an answer that accepted everything."""
        if self._logged is _AT_FIRST and self.state == "healthy" and not self.losing:
            return None
        self.losing = False
        return self._enter("healthy", "delivering", now)

    def delivered_in_part(self, why: str, now: float) -> LogLine | None:
        """Note an answer that accepted data and refused some of it."""
        self.losing = True
        return self._enter("healthy", f"losing data: {why}", now)

    def failed(self, why: str, now: float) -> LogLine | None:
        """Note a failed attempt; its data is kept."""
        return self._enter("failing", f"not delivering: {why}", now)

    def paused(self, why: str, now: float) -> LogLine | None:
        """Note missing or refused credentials; data is kept."""
        return self._enter("paused", f"paused until its credentials are accepted: {why}", now)

    def rejected(self, why: str, now: float) -> LogLine | None:
        """Note an answer that refused everything for good."""
        self.losing = True
        return self._enter("failing", f"losing data: {why}", now)

    def lost(self, why: str, now: float) -> LogLine | None:
        """Note points that were lost without an answer that refused them."""
        self.losing = True
        return self._enter(self.state, f"losing data: {why}", now)

    def _enter(self, state: State, text: str, now: float) -> LogLine | None:
        self.state = state
        change = (state, self.losing)
        if change == self._logged or now - self._logged_at < LOG_INTERVAL_S_MIN:
            return None
        self._logged = change
        self._logged_at = now
        return LogLine(text, good=change == ("healthy", False))

    def __repr__(self) -> str:
        return f"<Health {self.state}{', losing data' if self.losing else ''}>"
