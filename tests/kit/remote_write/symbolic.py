"""Remote write 2.0 requests from the official classes, with a table of symbols kept for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.kit.remote_write.prompb import RequestV2

T0_MS = 1_700_000_000_123

NATIVE = {
    "schema": 0,
    "spans": [(-2, 2), (2, 1), (1, 2)],
    "deltas": [3, 2, -4, 2, -1],
    "zero": 4,
    "count": 18,
}
"""Vector 17: buckets -2:3, -1:5, 2:1, 4:3, 5:2 by Prometheus' indices."""


class Request2:
    """A request that grows; ``body`` is what it is on the wire, before compression."""

    def __init__(self, *, symbols: list[str] | None = None) -> None:
        self.message = RequestV2()
        self.message.symbols.extend([""] if symbols is None else symbols)

    def ref(self, text: str) -> int:
        """The symbol's number; it is added where it is new."""
        symbols = self.message.symbols
        if text not in symbols:
            symbols.append(text)
        return list(symbols).index(text)

    def refs(self, labels: Mapping[str, str]) -> list[int]:
        """References to a set of labels, in the order given."""
        return [self.ref(part) for pair in labels.items() for part in pair]

    def series(
        self,
        labels: Mapping[str, str],
        *samples: tuple[float, int] | tuple[float, int, int],
        metadata: tuple[int, str, str] | None = None,
        created_ms: int = 0,
    ) -> Any:
        """Add a series: samples are (value, timestamp) or (value, timestamp, start)."""
        series = self.message.timeseries.add(labels_refs=self.refs(labels))
        for value, timestamp, *start in samples:
            series.samples.add(
                value=value, timestamp=timestamp, start_timestamp=start[0] if start else 0
            )
        if metadata is not None:
            kind, text, unit = metadata
            series.metadata.type = kind
            series.metadata.help_ref = self.ref(text)
            series.metadata.unit_ref = self.ref(unit)
        if created_ms:
            series.created_timestamp = created_ms
        return series

    def exemplar(
        self, series: Any, labels: Mapping[str, str], value: float, timestamp: int
    ) -> None:
        """Add an exemplar to a series."""
        series.exemplars.add(labels_refs=self.refs(labels), value=value, timestamp=timestamp)

    @property
    def body(self) -> bytes:
        """The encoded message."""
        encoded: bytes = self.message.SerializeToString()
        return encoded


def native(series: Any, timestamp: int = T0_MS, **given: Any) -> Any:
    """Add a native histogram to a series of either version: vector 17 but for what is given."""
    values = {**NATIVE, "sum": 42.5, **given}
    histogram = series.histograms.add(
        count_int=values["count"],
        sum=values["sum"],
        schema=values["schema"],
        zero_threshold=1e-128,
        zero_count_int=values["zero"],
        positive_deltas=values["deltas"],
        timestamp=timestamp,
    )
    for offset, length in values["spans"]:
        histogram.positive_spans.add(offset=offset, length=length)
    return histogram
