"""Where a series' native histograms go.

Native histograms arrive as samples of an ordinary series, ``foo`` and not ``foo_bucket``, and only
the sample tells. Rules:

* A schema from -4 to 8 becomes an exponential histogram, -53 an explicit one: two metrics in OTLP,
  made when the first point of either comes.
* A stale marker has no buckets to tell which of the two it ends. It ends the one that the series
  had last, and is an exponential one where there was none since we started.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from relay.pipeline.intake import NativePoint
from relay.pipeline.plans import Plan
from relay.pipeline.streams import Emission, Stream
from relay.wire.otlp import Kind
from relay.wire.otlp_points import Exemplar, ExponentialPoint, HistogramPoint

MakeStreams = Callable[[Kind], tuple[Stream, ...]]


class NativeRoute:
    """One series' native histograms; ``plan`` counts them. Without ``make`` nobody wants them."""

    __slots__ = ("_kind", "_make", "_streams", "exemplars", "plan")

    def __init__(self, plan: Plan, make: MakeStreams | None) -> None:
        self.plan = plan
        self.exemplars: tuple[Exemplar, ...] = ()
        """Exemplars that came without a sample and go with the next point."""
        self._make = make
        self._kind: Kind = "exponential_histogram"
        self._streams: dict[Kind, tuple[Stream, ...]] = {}

    @property
    def wanted(self) -> bool:
        """Whether any sink takes them."""
        return self._make is not None

    def push(self, point: NativePoint, emission: Emission) -> None:
        """Send one point to every sink that wants it."""
        if self._make is None:
            return
        if not point.stale:
            self._kind = _kind(point)
        elif self._kind == "histogram":
            point = HistogramPoint(point.time_ns, 0, None, (), (), stale=True)
        if self.exemplars:
            point = dataclasses.replace(point, exemplars=point.exemplars + self.exemplars)
            self.exemplars = ()
        streams = self._streams.get(self._kind)
        if streams is None:
            streams = self._streams[self._kind] = self._make(self._kind)
        for stream in streams:
            stream.push(point, emission.origin, emission)

    def __repr__(self) -> str:
        return f"<NativeRoute {self._kind} {self._streams!r}>"


def _kind(point: NativePoint) -> Kind:
    return "exponential_histogram" if isinstance(point, ExponentialPoint) else "histogram"
