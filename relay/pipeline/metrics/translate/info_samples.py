"""Takes samples that are exported as attributes of resources, and not as points."""

from __future__ import annotations

from typing import Protocol

from relay.pipeline.batching.emitter import Emitter
from relay.pipeline.batching.transaction import SampleExtras
from relay.pipeline.routing.match_set import SinkCounter


class OutcomeCounts(Protocol):
    """Counts samples by outcome."""

    def count(self, outcome: str, samples: int) -> None:
        """Add to an outcome."""
        ...


class Described:
    """Counts the samples of series that are exported as resource attributes of other series."""

    __slots__ = ("_outcome", "_outcomes", "_sinks")

    def __init__(
        self, outcomes: OutcomeCounts, outcome: str, sinks: tuple[SinkCounter, ...]
    ) -> None:
        self._outcomes = outcomes
        self._outcome = outcome
        self._sinks = sinks

    def take(
        self, stamp: bytes, value: bytes, extra: SampleExtras | None, emitter: Emitter
    ) -> None:
        """Count the sample as described."""
        del stamp, value, extra, emitter
        self._outcomes.count(self._outcome, 1)
        for sink in self._sinks:
            sink.exported += 1

    def __repr__(self) -> str:
        return f"<Described {self._outcome}>"
