"""Shared slow path of both versions of remote write: native histograms, exemplars, limits.

Everything is decoded, and refused where it must be, while the request can still be rolled back;
good histograms and exemplars wait in the transaction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from relay.codec.otlp.data_points import STALE, Exemplar
from relay.codec.remote_write.native_histogram import HistogramFault, buckets_of, parse_histogram
from relay.pipeline.batching.emitter import append_number
from relay.pipeline.batching.transaction import (
    TOO_FAR_IN_FUTURE,
    BatchTransaction,
    IngestMark,
    NativePoint,
    SampleExtras,
)
from relay.pipeline.metrics.series.lookup import SeriesLookup
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.routing.match_set import MatchSet
from relay.runtime.errors import TooLargeError

SLOW_PATH_ENTRIES_MAX = 200_000
"""Slow-path entries of one request: twenty times vmagent's largest block. Each costs some ten
microseconds, and a body of 32 MiB has room for sixteen million empty ones."""

SLOW_PATH_PAUSE_EVERY = 16
"""Slow-path entries between two pauses."""

EXPANSION_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of points and labels that a request may become beyond its own size.

Every point repeats its series' attributes: without a bound, one series with 16 KiB of labels and a
million samples in 10 MiB would become 16 GiB. vmagent's largest block, all of one series with 440
bytes of labels, becomes 5 MiB. In remote write 2.0 even a series' labels are but references."""

BUCKETS_MAX = 2_000_000
"""Buckets of all native histograms of a request, gaps included: 1,000 for each of the 2,000 that
Prometheus sends at once. A gap takes two bytes of body and up to 16,384 buckets of memory."""


Span = tuple[int, int]
"""(start, stop) of a message in the body."""


def count_slow_path_entry(transaction: BatchTransaction) -> None:
    """Count a slow-path entry; raises TooLargeError for too many."""
    transaction.slow_path_entries += 1
    if not transaction.slow_path_entries % SLOW_PATH_PAUSE_EVERY:
        transaction.pace.pause()
    if transaction.slow_path_entries > SLOW_PATH_ENTRIES_MAX and transaction.bounded:
        raise TooLargeError(
            f"over {SLOW_PATH_ENTRIES_MAX} entries beyond known series with one sample "
            "in one request"
        )


def count_expansion(size: int, transaction: BatchTransaction) -> None:
    """Count bytes of points beyond the request's own size; raises TooLargeError for too many."""
    transaction.expansion_bytes += size
    if transaction.expansion_bytes > EXPANSION_BYTES_MAX and transaction.bounded:
        raise TooLargeError(f"the request becomes over {EXPANSION_BYTES_MAX} bytes of points")


def point_bytes(series: Series, match_set: MatchSet) -> int:
    """Return about how many bytes a sample of the series becomes, in all sinks together.

    A point's attributes are as large as the labels that they were, within a tenth.
    """
    routed = sum(len(batches) for batches, _, _ in series.routes)
    return len(series.key) * (routed + len(match_set.handled_sinks))


def append_sample(
    series: Series,
    stamp: bytes,
    value: bytes,
    extra: SampleExtras | None,
    transaction: BatchTransaction,
) -> None:
    """Append one sample to its series' routes, and defer it for its processors."""
    if series.match_set.handled:
        transaction.deferred.append((series.handlers, stamp, value, extra))
    elif extra is not None and series.routes:
        # Where there are handlers, these count once for all.
        transaction.note_exemplars(len(extra.exemplars), is_sent=True)
    for route in series.routes:
        if extra is not None:
            append_number(
                route,
                stamp,
                value,
                extra,
                IngestMark(transaction.request, transaction.now),
                transaction,
            )
            continue
        batches, group, prefix = route
        head = prefix if value != STALE else group.stale_prefix(prefix)
        for batch in batches:
            transaction.append_sample(batch, group, head, stamp, value)


def take_histograms(
    body: bytes,
    spans: Sequence[Span],
    series: Series,
    exemplars: tuple[Exemplar, ...],
    transaction: BatchTransaction,
    lookup: SeriesLookup,
    *,
    created_ms: int = 0,
) -> None:
    """Decode the native histograms of a good series; exemplars go with the last good one.

    ``created_ms`` is the start of those that have none of their own, 0 for none.
    Raises DecodeError, and TooLargeError for more buckets than a request may have.
    """
    points: dict[int, NativePoint] = {}
    good = 0
    for start, stop in spans:
        count_slow_path_entry(transaction)
        transaction.pace.pause()
        try:
            point = parse_histogram(
                body, start, stop, created_ms=created_ms, pause=transaction.pace.pause
            )
        except HistogramFault as fault:
            transaction.drop(fault.reason, 1, f"{series.name}: {fault}", series)
            continue
        if point.time_ns > transaction.latest_ns:
            transaction.drop(TOO_FAR_IN_FUTURE, 1, series.name, series)
            continue
        transaction.buckets += buckets_of(point)
        if transaction.buckets > BUCKETS_MAX and transaction.bounded:
            raise TooLargeError(f"native histograms of over {BUCKETS_MAX} buckets in one request")
        points[point.time_ns] = point
        good += 1
    if not points:
        return
    if len(points) < good:
        transaction.drop("duplicate_timestamp", good - len(points), series.name, series)
    route = lookup.native(series)
    count_expansion(len(points) * point_bytes(series, route.match_set), transaction)
    transaction.sample_counts.append((route.match_set, len(points)))
    transaction.histograms += len(points)
    in_order = [points[time_ns] for time_ns in sorted(points)]
    if exemplars:
        in_order[-1] = dataclasses.replace(in_order[-1], exemplars=exemplars)
    transaction.native += [(route, point) for point in in_order]


def take_exemplars(
    found: Iterable[Exemplar | None], transaction: BatchTransaction
) -> tuple[Exemplar, ...]:
    """Count a series' exemplars and keep the good ones, the newest of too many."""
    good = []
    for exemplar in found:
        transaction.exemplars += 1
        transaction.pace.pause()
        if exemplar is None:
            transaction.exemplars_refused += 1
        else:
            good.append(exemplar)
    return tuple(good)
