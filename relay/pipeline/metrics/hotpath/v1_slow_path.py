"""The slow path of remote write 1.0: uncommon or faulty series, and fields that are no series."""

from __future__ import annotations

from relay.codec.otlp.metrics import encode_time
from relay.codec.protobuf import read_length, read_varint, skip_field
from relay.codec.remote_write.exemplar import parse_exemplar
from relay.codec.remote_write.raw_series import exemplar_v1
from relay.codec.remote_write.v1 import (
    METADATA_FIELD,
    SAMPLES_MAX,
    SERIES_TAG,
    SeriesParts,
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
from relay.runtime.errors import DecodeError

DecodedSample = tuple[bytes, bytes, SampleExtras | None]
"""Time, value and what else there is, in the forms of
:data:`~relay.pipeline.batching.transaction.DeferredSample`."""


def decode_series(
    body: bytes,
    start: int,
    stop: int,
    last: Series,
    transaction: BatchTransaction,
    lookup: SeriesLookup,
) -> tuple[Series | None, list[DecodedSample]]:
    """Decode one TimeSeries; return its series and its points as (time, value, extra).

    None for the series where it has no good samples; histograms, exemplars and faults go to the
    transaction. ``last`` is the series before it. Raises DecodeError, and TooLargeError for more
    entries than a request may have.
    """
    count_slow_path_entry(transaction)
    parts = parse_series(
        body,
        start,
        stop,
        samples_max=SAMPLES_MAX if transaction.bounded else stop - start,
        pause=transaction.pace.pause,
    )
    exemplars = NO_EXEMPLARS
    if parts.exemplars:
        found = (parse_exemplar(body, *span) for span in parts.exemplars)
        exemplars = take_exemplars(found, parts.exemplars, transaction)
    if not (parts.samples or parts.histograms or exemplars.otlp):
        return None, []
    series = lookup.get(parts.key)
    if series.fault:
        count = len(parts.samples) + len(parts.histograms)
        transaction.exemplars_refused += len(exemplars.otlp)
        if count:
            transaction.drop(series.fault, count, f"series at byte {start}")
        return None, []
    extra = NO_EXTRAS
    if exemplars.otlp:
        extra = extras_of(exemplars, series, lambda span: exemplar_v1(body, *span))
    if not parts.samples and not parts.histograms:
        # Exemplars travel in series of their own, behind the sample that they belong to.
        take_lone_exemplars(series, extra, transaction)
        return None, []
    if last.generation >= 0:
        # An evicted series must not keep others alive.
        last.predicted_next = series
    points = _points(parts, series, extra, transaction)
    if not parts.histograms:
        return (series, points) if points else (None, [])
    if points:
        # Samples first, as receivers read a series.
        _append_all(series, points, transaction)
    given = NO_EXTRAS if parts.samples else extra
    take_histograms(body, parts.histograms, series, given, transaction, lookup)
    return None, []


def _points(
    parts: SeriesParts, series: Series, extra: SampleExtras, transaction: BatchTransaction
) -> list[DecodedSample]:
    """Return the good samples of a series; exemplars go with the last one."""
    points: list[DecodedSample] = []
    samples = parts.samples if len(parts.samples) < 2 else _in_order(parts, series, transaction)
    for count, (value, timestamp_ms) in enumerate(samples):
        if not count % ENTRIES:
            transaction.pace.pause()
        stamp = encode_time(timestamp_ms)
        if stamp is None:
            transaction.drop("timestamp", 1, f"{series.name} at {timestamp_ms} ms", series)
        elif timestamp_ms * 1_000_000 > transaction.latest_ns:
            transaction.drop(TOO_FAR_IN_FUTURE, 1, series.name, series)
        else:
            points.append((stamp, value, None))
    if points and extra.exemplars:
        stamp, value, _ = points[-1]
        points[-1] = (stamp, value, extra)
    return points


def _append_all(series: Series, points: list[DecodedSample], transaction: BatchTransaction) -> None:
    """Append samples as the loop does."""
    count_expansion(len(points) * point_bytes(series, series.match_set), transaction)
    transaction.sample_counts.append((series.match_set, len(points)))
    for count, (stamp, value, extra) in enumerate(points):
        if not count % ENTRIES:
            transaction.pace.pause()
        append_sample(series, stamp, value, extra, transaction)


def _in_order(
    parts: SeriesParts, series: Series, transaction: BatchTransaction
) -> list[tuple[bytes, int]]:
    """Return the samples by time, one for each time."""
    samples = in_order(parts.samples, 1, transaction.pace.pause)
    if len(samples) < len(parts.samples):
        repeated = len(parts.samples) - len(samples)
        transaction.drop("duplicate_timestamp", repeated, series.name, series)
    return samples


def other_field(body: bytes, pos: int, end: int, transaction: BatchTransaction) -> tuple[int, int]:
    """Step over a field that is not a series; return (-1, position behind it).

    A tag is a varint and may be longer than it needs to be: where it turns out to be a series after
    all, return (start, stop) of that. Metadata is noted, for the engine to read.
    """
    tag, after = read_varint(body, pos, end)
    number = tag >> 3
    if not 0 < number < 1 << 29:
        raise DecodeError(f"field number {number}", offset=pos)
    if tag == SERIES_TAG:
        return read_length(body, after, end)
    count_slow_path_entry(transaction)
    if number == METADATA_FIELD:
        transaction.has_metadata = True
    return -1, skip_field(body, tag & 7, after, end)
