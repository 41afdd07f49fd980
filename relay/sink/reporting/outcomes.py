"""The last outcomes of a sink's attempts, for status. Pure: time is an argument (wall clock, s)."""

from __future__ import annotations

from typing import NamedTuple

from relay.sink.retry.circuit_breaker import NO_ANSWER
from relay.sink.steps import FailureKind, LastEvent


class DeliveryOutcomes:
    """Last success, failure and warning of one sink.

    ``failing_since`` is the time of the first failure since the last success, None if there is
    none; a refused part of data of which the rest was accepted is no such failure.
    """

    __slots__ = ("failing_since", "last_error", "last_success_at", "last_warning")

    def __init__(self) -> None:
        self.last_success_at: float | None = None
        self.last_error: LastEvent | None = None
        self.last_warning: LastEvent | None = None
        self.failing_since: float | None = None

    @property
    def error(self) -> str:
        """The last failure in the endpoint's words; "" if there was none."""
        return self.last_error.text if self.last_error else ""

    def succeeded(self, at: float) -> None:
        """Note an answer that accepted data."""
        self.last_success_at = at
        self.failing_since = None

    def failed(self, text: str, at: float, kind: FailureKind = "retried") -> None:
        """Note a failure in the endpoint's words, and what becomes of the data."""
        self.last_error = LastEvent(text, at, kind)
        if self.failing_since is None and kind != "partial":
            self.failing_since = at

    def retried(self, text: str, at: float, reason: str, *, is_kept: bool) -> None:
        """Note data to send again, for a verdict's reason; it is lost unless ``is_kept``."""
        kind: FailureKind = "given up"
        if is_kept:
            mute: FailureKind = "unreachable" if reason in NO_ANSWER else "retried"
            kind = "forbidden" if reason == "forbidden_address" else mute
        self.failed(text, at, kind)

    def rejected(self, text: str, at: float, *, in_part: bool) -> None:
        """Note data that was refused for good; ``in_part``: the rest of it was accepted."""
        self.failed(text, at, "partial" if in_part else "rejected")

    def warned(self, text: str, at: float) -> None:
        """Note an answer that cost no data and needs somebody's attention."""
        self.last_warning = LastEvent(text, at)

    def forget_failing(self) -> None:
        """Begin anew: another configuration is in use."""
        self.failing_since = None

    def __repr__(self) -> str:
        return f"<DeliveryOutcomes: success {self.last_success_at}, {self.last_error}>"


class DeliveryReading(NamedTuple):
    """The facts that the delivery of a sink is judged by.

    ``matched`` points since the start, those that wait in the queue or an open batch, the reason
    why nothing is sent (credentials), and the one why the sink is behind; "" for none.
    """

    outcomes: DeliveryOutcomes
    matched: int
    waiting: int
    held: str
    behind: str
