"""What remote write requests say of each series, read with the official classes.

The same reader is used for what was sent and for what arrived. Values are bits, histograms are
official messages, so that nothing is lost or made equal on the way. Nothing of ``relay.codec`` or
``relay.pipeline`` may be imported here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.kit.remote_write.prompb import (
    Exemplar,
    ExemplarV2,
    HistogramV2,
    RawRequestV2,
    RawWriteRequest,
)

Labels = tuple[tuple[str, str], ...]
"""In the order in which they stand."""


class SentPoint(NamedTuple):
    """A sample (the bits of its value) or a native histogram (its deterministic encoding)."""

    time_ms: int
    content: int | bytes
    start_ms: int = 0


class SentExemplar(NamedTuple):
    """An exemplar of a series."""

    labels: Labels
    value: float
    time_ms: int


@dataclass
class SentSeries:
    """All that was said of a series, in order; ``metadata`` as 2.0 says it beside points."""

    points: list[SentPoint] = field(default_factory=list)
    exemplars: list[SentExemplar] = field(default_factory=list)
    metadata: list[tuple[int, str, str]] = field(default_factory=list)


@dataclass
class AsSent:
    """Series by their labels, metadata by family (type, help, unit), and TimeSeries messages."""

    series: dict[Labels, SentSeries] = field(default_factory=dict)
    families: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    messages: int = 0
    bare: int = 0
    """Messages with exemplars and no point."""

    def read_v1(self, body: bytes) -> None:
        """Add a body of 1.0."""
        request = RawWriteRequest.FromString(body)
        for series in request.timeseries:
            labels = tuple((one.name.decode(), one.value.decode()) for one in series.labels)
            found = self._of(labels, series)
            for sample in series.samples:
                found.points.append(SentPoint(sample.timestamp, sample.value))
            for message in series.histograms:
                found.points.append(_histogram(message))
            for message in series.exemplars:
                exemplar = Exemplar.FromString(message)
                pairs = tuple((one.name, one.value) for one in exemplar.labels)
                found.exemplars.append(SentExemplar(pairs, exemplar.value, exemplar.timestamp))
        for one in request.metadata:
            family = one.metric_family_name.decode()
            self.families[family] = (one.type, one.help.decode(), one.unit.decode())

    def read_v2(self, body: bytes) -> None:
        """Add a body of 2.0."""
        request = RawRequestV2.FromString(body)
        symbols = [symbol.decode() for symbol in request.symbols]
        for series in request.timeseries:
            found = self._of(_pairs(symbols, series.labels_refs), series)
            created = series.created_timestamp
            for sample in series.samples:
                start = sample.start_timestamp or created
                found.points.append(SentPoint(sample.timestamp, sample.value, start))
            for message in series.histograms:
                found.points.append(_histogram(message, created))
            for message in series.exemplars:
                exemplar = ExemplarV2.FromString(message)
                pairs = _pairs(symbols, exemplar.labels_refs)
                found.exemplars.append(SentExemplar(pairs, exemplar.value, exemplar.timestamp))
            if series.HasField("metadata"):
                told = series.metadata
                texts = symbols[told.help_ref], symbols[told.unit_ref]
                found.metadata.append((told.type, *texts))

    def points(self) -> int:
        """How many points there are."""
        return sum(len(series.points) for series in self.series.values())

    def _of(self, labels: Labels, message: Any) -> SentSeries:
        self.messages += 1
        self.bare += not message.samples and not message.histograms
        return self.series.setdefault(labels, SentSeries())


def _pairs(symbols: list[str], refs: Iterable[int]) -> Labels:
    texts = [symbols[ref] for ref in refs]
    return tuple(zip(texts[::2], texts[1::2], strict=True))


def _histogram(encoded: bytes, created_ms: int = 0) -> SentPoint:
    histogram = HistogramV2.FromString(encoded)
    start = histogram.start_timestamp or created_ms
    histogram.start_timestamp = 0
    content: bytes = histogram.SerializeToString(deterministic=True)
    return SentPoint(histogram.timestamp, content, start)
