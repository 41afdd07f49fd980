"""The pause of a sink whose credentials are missing or refused. Pure."""

from __future__ import annotations

from relay.sink.retry.backoff import Randomness, next_delay_s


class CredentialPause:
    """The time of a sink's next attempt; ``reason`` is "" while it is not paused.

    Times are on any monotonic clock, s.
    """

    __slots__ = ("_count", "reason", "until")

    def __init__(self) -> None:
        self.reason = ""
        self.until = 0.0
        self._count = 0

    def begin(self, why: str, now: float, backoff_s: float, rng: Randomness) -> None:
        """Pause, for longer each time. One that is in effect stays: several shards may ask."""
        self.reason = why
        if now >= self.until:
            self._count += 1
            self.until = now + next_delay_s(self._count, backoff_s=backoff_s, rng=rng)

    def end(self) -> None:
        """Try at once, and begin with the shortest pause again."""
        self.reason = ""
        self.until = 0.0
        self._count = 0

    def __repr__(self) -> str:
        return f"<CredentialPause {self.reason or 'off'}>"
