"""What a request of remote write 2.0 must become, derived slowly: its series one by one as 1.0
would have them, with what 2.0 says besides (specification 2.0, "Protobuf Message").

Nothing of ``relay.pipeline`` or ``relay.codec`` may be imported here.
"""

from __future__ import annotations

from typing import Any

from tests.kit.oracle.slow_otlp import Derived, Said, SlowRelay
from tests.kit.remote_write.prompb import RawTimeSeries


def take_version2(oracle: SlowRelay, request: Any) -> Derived:
    """Derive what a ``prompb.RawRequestV2`` must become; the oracle remembers its metadata."""
    derived = Derived()
    symbols = list(request.symbols)
    for series in request.timeseries:
        _take(oracle, symbols, series, derived)
    derived.received = len(derived.points) + derived.histograms + derived.dropped.total()
    return derived


def _take(oracle: SlowRelay, symbols: list[bytes], series: Any, derived: Derived) -> None:
    count = len(series.samples) + len(series.histograms)
    if not count and not series.exemplars:
        return
    if series.samples and series.histograms:
        derived.exemplars += len(series.exemplars)
        derived.dropped["samples_and_histograms"] += count
        return
    refs = list(series.labels_refs)
    if len(refs) % 2 or any(ref >= len(symbols) for ref in refs):
        derived.exemplars += len(series.exemplars)
        if count:
            derived.dropped["symbol_refs"] += count
        return
    pairs = [(symbols[a], symbols[b]) for a, b in zip(refs[::2], refs[1::2], strict=True)]
    said = _said(symbols, series.metadata) if series.HasField("metadata") else None
    written = RawTimeSeries()
    for name, value in pairs:
        written.labels.add(name=name, value=value)
    for sample in series.samples:
        written.samples.add(value=sample.value, timestamp=sample.timestamp)
    written.histograms.extend(series.histograms)
    written.exemplars.extend(series.exemplars)
    starts = [sample.start_timestamp or series.created_timestamp for sample in series.samples]
    oracle.take_typed(written, derived, said=said, starts_ms=starts)


def _said(symbols: list[bytes], metadata: Any) -> Said:
    text, unit = (
        symbols[ref].decode(errors="replace") if 0 < ref < len(symbols) else ""
        for ref in (metadata.help_ref, metadata.unit_ref)
    )
    return metadata.type, text, unit
