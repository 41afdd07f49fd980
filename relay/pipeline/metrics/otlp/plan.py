"""Plans of streams: the batches that get their points, and the form in which they do.

A plan depends on the metric and on the sources that matched. Streams share it where their points
leave as they came; where points are converted, the plan is the stream's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.data_points import Point
from relay.codec.otlp.groups import MetricGroup
from relay.pipeline.batching.emitter import Emitter
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.routing.match_set import MatchSet, SinkOutputSpec
from relay.pipeline.routing.route import Route

Way = tuple[MetricGroup, tuple[OpenBatch, ...]]
"""A metric, and the batches that take its points as they came."""


class Converts(Protocol):
    """Takes points in another form than they came in, once their request is known to be good."""

    def push(self, point: Point, emitter: Emitter) -> None:
        """Send a point."""
        ...


class Plan:
    """The ways of a stream's points.

    * ``match_set`` counts them. ``ways``: points leave as they came.
    * ``routes``: numbers leave as samples of a series; ``tells_start``: with their start times.
      ``raw`` are the series that they leave as (``name``, ``match_set`` and ``routes``).
    * ``converts`` gets each point read; ``omitted`` are (reason, sinks) that get none.
    """

    __slots__ = ("converts", "match_set", "name", "omitted", "routes", "tells_start", "ways")

    def __init__(
        self,
        name: str,
        match_set: MatchSet,
        ways: tuple[Way, ...] = (),
        *,
        routes: tuple[Route, ...] = (),
        tells_start: bool = False,
        converts: Converts | None = None,
        omitted: tuple[tuple[str, Sequence[SinkOutputSpec]], ...] = (),
    ) -> None:
        self.name = name
        self.match_set = match_set
        self.ways = ways
        self.routes = routes
        self.tells_start = tells_start
        self.converts = converts
        self.omitted = omitted

    @property
    def is_shared(self) -> bool:
        """True if nothing of it depends on the attributes of the stream."""
        return self.converts is None and not self.routes

    def __repr__(self) -> str:
        return f"<Plan of {self.name} {len(self.ways)} ways>"


class OtlpStream:
    """The points of one metric with the same attributes, and how they leave.

    ``plan`` is valid while ``generation`` is that of the series table, and of ``series``, which has
    the labels that selectors see. It was made for ``match_set``.
    """

    __slots__ = ("attributes", "generation", "match_set", "plan", "series")

    def __init__(self, attributes: bytes, series: Series) -> None:
        self.attributes = attributes
        self.series = series
        self.plan: Any = None
        self.generation = -1
        self.match_set: MatchSet | None = None

    def __repr__(self) -> str:
        return f"<OtlpStream of {self.series!r}>"
