"""Behaviours of the demo's endpoints. Pure: time is passed in as seconds since the demo began.

A behaviour is given the metrics of a request and returns the answer with the number of points kept,
which the audit compares with the relay's ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric


@dataclass(frozen=True, slots=True)
class Reply:
    """An endpoint's answer. ``kept`` and ``rejected`` are points; ``message`` is for the user."""

    kept: int = 0
    rejected: int = 0
    status: int = 200
    message: str = ""
    retry_after_s: int | None = None


Behaviour = Callable[[Sequence[Metric], float], Reply]
"""(metrics of a request, seconds since the demo began) -> answer."""


def take_all(metrics: Sequence[Metric], elapsed_s: float) -> Reply:
    """Accept all points: a healthy endpoint."""
    del elapsed_s
    return Reply(kept=sum(1 for _ in points_of(metrics)))


def reject_summaries(metrics: Sequence[Metric], elapsed_s: float) -> Reply:
    """Reject the points of summaries by partial success."""
    del elapsed_s
    rejected = sum(len(metric.summary.data_points) for metric in metrics)
    kept = sum(1 for _ in points_of(metrics)) - rejected
    return Reply(kept, rejected, message="summaries not in plan" if rejected else "")


class Outage:
    """Answer 503 during a part of every cycle of ``cycle_s`` seconds, until ended."""

    FROM, UNTIL = 0.2, 0.45
    """Parts of a cycle: long enough to see a queue grow, early enough to see it empty."""

    def __init__(self, cycle_s: float) -> None:
        assert cycle_s > 0
        self._cycle_s = cycle_s
        self._ended = False

    def __call__(self, metrics: Sequence[Metric], elapsed_s: float) -> Reply:
        """Answer according to the time."""
        if self.is_down(elapsed_s):
            return Reply(status=503, message="closed for maintenance", retry_after_s=1)
        return take_all(metrics, elapsed_s)

    def is_down(self, elapsed_s: float) -> bool:
        """Return whether the endpoint answers 503 at that time."""
        into_s = elapsed_s % self._cycle_s
        return not self._ended and (
            self.FROM * self._cycle_s <= into_s < self.UNTIL * self._cycle_s
        )

    def end(self) -> None:
        """Be up from now on."""
        self._ended = True

    def __repr__(self) -> str:
        return f"<Outage every {self._cycle_s:g} s{', ended' if self._ended else ''}>"


def points_of(metrics: Iterable[Metric]) -> Iterator[Any]:
    """Yield every data point of any kind."""
    for metric in metrics:
        kind = metric.WhichOneof("data")
        assert kind is not None, f"{metric.name} has no data"
        yield from getattr(metric, kind).data_points
