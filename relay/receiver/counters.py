"""What the ingest listener counts, as plain integers."""

from __future__ import annotations

from relay.receiver.responses import Answer, Reason
from relay.telemetry.histogram import Durations
from relay.telemetry.registry import IngestFigures


class IngestCounters:
    """Counts answers and bytes. Every answer goes through :meth:`answered` exactly once."""

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

    def answered(self, answer: Answer) -> None:
        """Count one answer."""
        self.requests[answer.status] = self.requests.get(answer.status, 0) + 1
        if answer.refused is not None:
            self.refused[answer.refused] += 1
        self.partial += answer.partial

    def statistics(self) -> IngestFigures:
        """A snapshot."""
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
