"""The slow path of remote write 2.0: series with anything but one common sample, and faulty ones.

Labels are written out as in remote write 1.0 and looked up. Rules:

* A series holds samples or histograms, never both (specification, "Protobuf Message"): where it
  does, it is refused, and the rest of the request is kept.
* Metadata travels with its series and holds for it; equal metadata is decoded once a request.
* A start time goes with its sample where it is not later than the sample itself. Senders before
  2.0-rc.4 give one for the whole series.
"""

from __future__ import annotations

from relay.codec.otlp.metrics import encode_time
from relay.codec.remote_write.raw_series import exemplar_v2
from relay.codec.remote_write.v1 import SAMPLES_MAX, SeriesFault
from relay.codec.remote_write.v2 import (
    Sample2,
    SeriesParts2,
    Symbols,
    parse_metadata,
    parse_series,
)
from relay.pipeline.batching.transaction import (
    NO_EXTRAS,
    TOO_FAR_IN_FUTURE,
    BatchTransaction,
    SampleExtras,
)
from relay.pipeline.metrics.hotpath.slow_path import (
    NO_EXEMPLARS,
    append_sample,
    count_expansion,
    count_slow_path_entry,
    extras_of,
    in_order,
    point_bytes,
    take_exemplars,
    take_histograms,
    take_lone_exemplars,
)
from relay.pipeline.metrics.series.lookup import SeriesLookup
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.pacing import ENTRIES

KEY_BYTES_MAX = 1024 * 1024
"""Labels of a series, encoded; beyond any limit that the settings may set for them."""


def take_series(
    body: bytes,
    start: int,
    stop: int,
    symbols: Symbols,
    transaction: BatchTransaction,
    lookup: SeriesLookup,
) -> None:
    """Take the TimeSeries message at ``body[start:stop]``; raises as the loop does."""
    count_slow_path_entry(transaction)
    parts = parse_series(
        body,
        start,
        stop,
        entries_max=SAMPLES_MAX if transaction.bounded else stop - start,
        pause=transaction.pace.pause,
    )
    exemplars = NO_EXEMPLARS
    if parts.exemplars:
        found = (symbols.exemplar(body, *span) for span in parts.exemplars)
        exemplars = take_exemplars(found, parts.exemplars, transaction)
    if not (parts.samples or parts.histograms or exemplars.otlp):
        return
    series = _find(body, start, parts, symbols, transaction, lookup)
    if series is None:
        transaction.exemplars_refused += len(exemplars.otlp)
        return
    extra = NO_EXTRAS
    if exemplars.otlp:
        extra = extras_of(exemplars, series, lambda span: exemplar_v2(body, *span, symbols))
    if parts.histograms:
        take_histograms(
            body,
            parts.histograms,
            series,
            extra,
            transaction,
            lookup,
            created_ms=parts.created_ms,
        )
    elif parts.samples:
        _take_samples(series, parts, extra, transaction)
    else:
        take_lone_exemplars(series, extra, transaction)


def _find(
    body: bytes,
    start: int,
    parts: SeriesParts2,
    symbols: Symbols,
    transaction: BatchTransaction,
    lookup: SeriesLookup,
) -> Series | None:
    """Return the series, with its metadata learned; None, and counted, if it is unusable."""
    reason = ""
    if parts.samples and parts.histograms:
        reason = "samples_and_histograms"
    else:
        try:
            key = symbols.key(parts.refs, bytes_max=KEY_BYTES_MAX)
        except SeriesFault as fault:
            reason = fault.reason
        else:
            count_expansion(len(key), transaction)
            declared = None
            if parts.metadata is not None and parts.metadata[0] < parts.metadata[1]:
                encoded = body[slice(*parts.metadata)]
                if encoded not in symbols.declared:
                    metadata = parse_metadata(body, *parts.metadata, symbols)
                    symbols.declared[encoded] = lookup.declaration(metadata)
                declared = symbols.declared[encoded]
            series = lookup.get(key, declared)
            if not series.fault:
                return series
            reason = series.fault
    count = len(parts.samples) + len(parts.histograms)
    if count:
        transaction.drop(reason, count, f"series at byte {start}")
    return None


def _take_samples(
    series: Series,
    parts: SeriesParts2,
    exemplars: SampleExtras,
    transaction: BatchTransaction,
) -> None:
    samples = parts.samples
    if len(samples) > 1:
        samples = _in_order(parts, series, transaction)
    good: list[tuple[bytes, bytes, SampleExtras | None]] = []
    for count, (value, timestamp_ms, start_ms) in enumerate(samples):
        if not count % ENTRIES:
            transaction.pace.pause()
        stamp = encode_time(timestamp_ms)
        if stamp is None:
            transaction.drop("timestamp", 1, f"{series.name} at {timestamp_ms} ms", series)
            continue
        if timestamp_ms * 1_000_000 > transaction.latest_ns:
            transaction.drop(TOO_FAR_IN_FUTURE, 1, series.name, series)
            continue
        start = start_ms or parts.created_ms
        extra = SampleExtras(start * 1_000_000) if 0 < start <= timestamp_ms else None
        good.append((stamp, value, extra))
    if not good:
        return
    if exemplars.exemplars:
        stamp, value, extra = good[-1]
        good[-1] = stamp, value, exemplars._replace(start_ns=extra.start_ns if extra else 0)
    count_expansion(len(good) * point_bytes(series, series.match_set), transaction)
    transaction.sample_counts.append((series.match_set, len(good)))
    for count, (stamp, value, extra) in enumerate(good):
        if not count % ENTRIES:
            transaction.pace.pause()
        append_sample(series, stamp, value, extra, transaction)


def _in_order(parts: SeriesParts2, series: Series, transaction: BatchTransaction) -> list[Sample2]:
    """Return the samples by time, one for each time."""
    samples = in_order(parts.samples, 1, transaction.pace.pause)
    if len(samples) < len(parts.samples):
        repeated = len(parts.samples) - len(samples)
        transaction.drop("duplicate_timestamp", repeated, series.name, series)
    return samples
