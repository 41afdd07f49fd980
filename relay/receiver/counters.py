"""Count the ingest listener's responses, and log refusals at a bounded rate.

A refusal is logged once for each address and reason in :data:`LOG_INTERVAL_S` seconds; the next
line has the number of those suppressed since. At most :data:`LOG_PAIRS_MAX` pairs of address and
reason are logged in that time.
"""

from __future__ import annotations

import logging
from typing import Final

from relay.receiver.responses import Answer, Reason
from relay.telemetry.histogram import Durations
from relay.telemetry.registry import IngestFigures

LOG_INTERVAL_S: Final = 60.0
AGENT_CHARS_MAX: Final = 100
PATH_CHARS_MAX: Final = 200
LOG_PAIRS_MAX: Final = 50
_UNSAID: Final = frozenset((Reason.INTERNAL, Reason.STOPPING))
"""Logged elsewhere: an internal error with its traceback, a stop with lines of its own."""


class RefusalLog:
    """Log refused requests, limited by address and reason."""

    __slots__ = ("_log", "_logged")

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._logged: dict[tuple[str, Reason], tuple[float, int]] = {}
        """Time of the last line, the oldest first, and refusals suppressed since."""

    def log(self, answer: Answer, *, sender: str, agent: str, path: str, now: float) -> None:
        """Log the refusal ``answer`` unless over the rate; ``now`` is any monotonic clock, s."""
        reason = answer.refused
        if reason is None or reason in _UNSAID:
            return
        key = sender, reason
        said_at, unsaid = self._logged.get(key, (float("-inf"), 0))
        if now < said_at + LOG_INTERVAL_S:
            self._logged[key] = said_at, unsaid + 1
            return
        while len(self._logged) >= LOG_PAIRS_MAX and key not in self._logged:
            oldest, (oldest_at, _) = next(iter(self._logged.items()))
            if now < oldest_at + LOG_INTERVAL_S:
                return
            del self._logged[oldest]
        self._logged.pop(key, None)
        self._logged[key] = now, 0
        self._log.warning(
            "refused a request: %s",
            answer.text,
            extra={
                "sender": sender,
                "agent": agent[:AGENT_CHARS_MAX],
                "path": path[:PATH_CHARS_MAX],
                "status": answer.status,
                "reason": str(reason),
                "unsaid": unsaid,
            },
        )

    def __repr__(self) -> str:
        return f"<RefusalLog {len(self._logged)} said lately>"


class IngestCounters:
    """Count responses and bytes. Call :meth:`count` exactly once per response."""

    __slots__ = (
        "compressed_bytes",
        "decoded_bytes",
        "durations",
        "in_flight",
        "partial",
        "refused",
        "requests",
    )

    def __init__(self) -> None:
        self.requests: dict[int, int] = {}
        self.refused: dict[str, int] = dict.fromkeys(Reason, 0)
        self.partial = 0
        self.compressed_bytes = 0
        self.decoded_bytes = 0
        self.in_flight = 0
        self.durations = Durations()

    def count(self, answer: Answer) -> None:
        """Count one response."""
        self.requests[answer.status] = self.requests.get(answer.status, 0) + 1
        if answer.refused is not None:
            self.refused[answer.refused] += 1
        self.partial += answer.partial

    def statistics(self) -> IngestFigures:
        """Return a snapshot."""
        return IngestFigures(
            requests=dict(self.requests),
            refused={str(reason): count for reason, count in self.refused.items()},
            partial=self.partial,
            compressed_bytes=self.compressed_bytes,
            decoded_bytes=self.decoded_bytes,
            in_flight=self.in_flight,
            durations=self.durations.statistics(),
        )

    def __repr__(self) -> str:
        return (
            f"<IngestCounters {sum(self.requests.values())} answered, {self.in_flight} in flight>"
        )
