"""Shared slow path of both versions of remote write: native histograms, exemplars, limits.

Everything is decoded, and refused where it must be, while the request can still be rolled back;
good histograms and exemplars wait in the transaction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from relay.codec.otlp.data_points import STALE, Exemplar
from relay.codec.remote_write.native_histogram import (
    OTLP_CANNOT_EXPRESS,
    HistogramFault,
    buckets_of,
    check_histogram,
    parse_histogram,
)
from relay.codec.remote_write.raw_series import RawExemplar, with_start
from relay.codec.remote_write.strict_messages import strict_histogram
from relay.pipeline.batching.emitter import append_number
from relay.pipeline.batching.transaction import (
    TOO_FAR_IN_FUTURE,
    BatchTransaction,
    IngestMark,
    SampleExtras,
)
from relay.pipeline.metrics.raw.points import (
    TakenHistogram,
    append_raw_exemplars,
    append_raw_histograms,
    append_raw_sample,
)
from relay.pipeline.metrics.series.lookup import SeriesLookup
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.pacing import Pace
from relay.pipeline.routing.match_set import MatchSet
from relay.runtime.errors import TooLargeError

SLOW_PATH_ENTRIES_MAX = 200_000
"""Slow-path entries of one request: twenty times vmagent's largest block. Each costs some ten
microseconds, and a body of 32 MiB has room for sixteen million empty ones."""

SLOW_PATH_PAUSE_EVERY = 16
"""Slow-path entries between two pauses."""

SAMPLES_STEP = 4_096
"""Samples of one series that are put in order between two pauses: a millisecond."""

EXPANSION_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of points and labels that a request may become beyond its own size.

Every point repeats its series' attributes: without a bound, one series with 16 KiB of labels and a
million samples in 10 MiB would become 16 GiB. vmagent's largest block, all of one series with 440
bytes of labels, becomes 5 MiB. In remote write 2.0 even a series' labels are but references."""

BUCKETS_MAX = 2_000_000
"""Buckets of all native histograms of a request, gaps included: 1,000 for each of the 2,000 that
Prometheus sends at once. A gap takes two bytes of body and up to 16,384 buckets of memory."""


S = TypeVar("S", bound=tuple[Any, ...])

Span = tuple[int, int]
"""(start, stop) of a message in the body."""


def count_slow_path_entry(transaction: BatchTransaction) -> None:
    """Count a slow-path entry, and pause now and then. Raise TooLargeError for too many."""
    entries = transaction.slow_path_entries = transaction.slow_path_entries + 1
    if entries < transaction.slow_path_check_at:
        return
    next_pause = entries - entries % SLOW_PATH_PAUSE_EVERY + SLOW_PATH_PAUSE_EVERY
    transaction.slow_path_check_at = min(next_pause, SLOW_PATH_ENTRIES_MAX + 1)
    if not entries % SLOW_PATH_PAUSE_EVERY:
        transaction.pace.pause()
    if entries > SLOW_PATH_ENTRIES_MAX and transaction.bounded:
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
    routes = series.routes
    if extra is not None and series.match_set.raw_outputs:
        routes = append_raw_sample(series, stamp, value, extra, transaction)
    for route in routes:
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


def in_order(samples: Sequence[S], time_at: int, pause: Callable[[], None]) -> list[S]:
    """Return samples by time, one for each: the last given. The time is their item ``time_at``.

    Backends refuse a point that is older than, or contradicts, one that they have, and some refuse
    the whole request with it (reference, vectors 34 and 35).
    """
    by_time: dict[int, S] = {}
    for first in range(0, len(samples), SAMPLES_STEP):
        if first:
            pause()
        by_time |= {one[time_at]: one for one in samples[first : first + SAMPLES_STEP]}
    return [by_time[time_ms] for time_ms in sorted(by_time)]


class FoundExemplars(NamedTuple):
    """Good exemplars of a series, and where they stand in the body."""

    otlp: tuple[Exemplar, ...] = ()
    spans: tuple[Span, ...] = ()


NO_EXEMPLARS: Final = FoundExemplars()


def take_histograms(
    body: bytes,
    spans: Sequence[Span],
    series: Series,
    extra: SampleExtras,
    transaction: BatchTransaction,
    lookup: SeriesLookup,
    *,
    created_ms: int = 0,
) -> None:
    """Decode the native histograms of a good series; exemplars go with the last good one.

    ``created_ms`` is the start of those that have none of their own, 0 for none.
    Raises DecodeError, and TooLargeError for more buckets than a request may have.
    """
    base = series.match_set.base
    taken: dict[int, TakenHistogram] = {}
    good = 0
    for span in spans:
        count_slow_path_entry(transaction)
        transaction.pace.pause()
        try:
            found = _read_histogram(body, span, base, created_ms, transaction.pace)
        except HistogramFault as fault:
            transaction.drop(fault.reason, 1, f"{series.name}: {fault}", series)
            continue
        if found.time_ns > transaction.latest_ns:
            transaction.drop(TOO_FAR_IN_FUTURE, 1, series.name, series)
            continue
        if found.point is not None:
            transaction.buckets += buckets_of(found.point)
        if transaction.buckets > BUCKETS_MAX and transaction.bounded:
            raise TooLargeError(f"native histograms of over {BUCKETS_MAX} buckets in one request")
        taken[found.time_ns] = found
        good += 1
    if not taken:
        return
    if len(taken) < good:
        transaction.drop("duplicate_timestamp", good - len(taken), series.name, series)
    route = lookup.native(series)
    count_expansion(len(taken) * point_bytes(series, route.match_set), transaction)
    transaction.histograms += len(taken)
    in_order = [taken[time_ns] for time_ns in sorted(taken)]
    if base.raw_outputs:
        append_raw_histograms(series, in_order, extra.raw, transaction)
    else:
        transaction.sample_counts.append((route.match_set, len(taken)))
    points = [one.point for one in in_order if one.point is not None]
    if extra.exemplars and points:
        points[-1] = dataclasses.replace(points[-1], exemplars=extra.exemplars)
    elif extra.exemplars:
        transaction.note_exemplars(len(extra.exemplars), is_sent=True)
    transaction.native += [(route, point) for point in points]


def _read_histogram(
    body: bytes, span: Span, base: MatchSet, created_ms: int, pace: Pace
) -> TakenHistogram:
    """Read a native histogram in the forms that the sinks of its series take.

    Without sinks it is checked as for OTLP. Raises DecodeError, TooLargeError and HistogramFault.
    """
    if not base.raw_outputs:
        point = parse_histogram(body, *span, created_ms=created_ms, pause=pace.pause)
        return TakenHistogram(b"", point.time_ns, point)
    message = with_start(strict_histogram(body[slice(*span)]), created_ms)
    reason = ""
    if base.typed:
        try:
            point = parse_histogram(body, *span, created_ms=created_ms, pause=pace.pause)
            return TakenHistogram(message, point.time_ns, point)
        except HistogramFault as fault:
            if fault.reason not in OTLP_CANNOT_EXPRESS:
                raise
            reason = fault.reason
    time_ns = check_histogram(body, *span, pause=pace.pause)
    return TakenHistogram(message, time_ns, reason=reason)


def take_exemplars(
    found: Iterable[Exemplar | None], spans: Iterable[Span], transaction: BatchTransaction
) -> FoundExemplars:
    """Count a series' exemplars and keep the good ones."""
    good: list[tuple[Exemplar, Span]] = []
    for exemplar, span in zip(found, spans, strict=True):
        transaction.exemplars += 1
        transaction.pace.pause()
        if exemplar is None:
            transaction.exemplars_refused += 1
        else:
            good.append((exemplar, span))
    return FoundExemplars(*zip(*good, strict=True)) if good else NO_EXEMPLARS


def extras_of(
    exemplars: FoundExemplars, series: Series, read: Callable[[Span], RawExemplar]
) -> SampleExtras:
    """Return a series' exemplars in the forms that its sinks take; ``read`` reads the raw form."""
    raw = map(read, exemplars.spans) if series.match_set.raw_outputs else ()
    return SampleExtras(exemplars=exemplars.otlp, raw=tuple(raw))


def take_lone_exemplars(series: Series, extra: SampleExtras, transaction: BatchTransaction) -> None:
    """Take exemplars that came without a sample, behind the sample that they belong to."""
    is_sent = bool(extra.raw) and append_raw_exemplars(series, extra.raw, transaction)
    if extra.raw and not series.match_set.base.typed:
        transaction.note_exemplars(len(extra.raw), is_sent)
    else:
        # Where there are typed sinks, these count once for all.
        transaction.orphan_exemplars.append((series, extra.exemplars))
