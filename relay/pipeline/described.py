"""Takes samples that are exported as attributes of resources, and not as points."""

from __future__ import annotations

from relay.pipeline.intake import Extra
from relay.pipeline.outcomes import Outcomes
from relay.pipeline.plans import SinkTally
from relay.pipeline.streams import Emission


class Described:
    """The handler of series that are exported as attributes of others' resource."""

    __slots__ = ("_outcome", "_outcomes", "_sinks")

    def __init__(self, outcomes: Outcomes, outcome: str, sinks: tuple[SinkTally, ...]) -> None:
        self._outcomes = outcomes
        self._outcome = outcome
        self._sinks = sinks

    def take(self, stamp: bytes, value: bytes, extra: Extra | None, emission: Emission) -> None:
        """See :class:`relay.pipeline.streams.Handler`."""
        del stamp, value, extra, emission
        self._outcomes.count(self._outcome, 1)
        for sink in self._sinks:
            sink.exported += 1

    def __repr__(self) -> str:
        return f"<Described {self._outcome}>"
