"""One point, log record or span as a tap shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TappedPoint:
    """One point; ``value`` is text. ``time_s`` is seconds since the epoch."""

    metric: str
    kind: str
    labels: dict[str, str]
    resource: dict[str, str]
    value: str
    time_s: float

    def document(self) -> dict[str, Any]:
        """Return the form in JSON."""
        return {
            "metric": self.metric,
            "kind": self.kind,
            "labels": self.labels,
            "resource": self.resource,
            "value": self.value,
            "time": round(self.time_s, 3),
        }
