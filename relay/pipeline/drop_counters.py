"""Samples that a source matched and that became no point of a sink: how many, of what, and why.

What a sink does with its points is in the sink's ledger; this table names what never got there.
Rules:

* A row is one sink, metric family and reason, with the time of its first and its last sample. A
  sample counts once for every sink that it was matched for. :data:`REASONS` has all reasons.
* Bounded: ``rows_max`` are shared by the groups of sinks that have any, equally: by projects, or
  by exporters where there are none. A group beyond its share gives up the row that was touched
  longest ago; its samples go to the row of the same sink and reason whose family is ``""``, so that
  sums never fall.
* For every sink, ``samples = exported + dropped + waiting``: what its sources matched, what became
  points of its (:class:`~relay.pipeline.routing.match_set.SinkCounter`), the rows here but those of
  :data:`BEFORE_MATCHING`, and what still waits for metadata, or for the rest of a histogram.
* Counts are since the start of the process. ``now`` is the wall clock of the latest request, s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Final, get_args

from relay.codec.remote_write.native_histogram import HistogramReason
from relay.pipeline.routing.match_set import SinkCounter
from relay.telemetry.snapshot import Drop

ROWS_MAX: Final = 20_000
ROWS_PER_GROUP_MIN: Final = 20
FAMILY_CHARS_MAX: Final = 200

REASONS: Final[dict[str, str]] = {
    # Histograms and summaries, put together from their series.
    "no_count": "a histogram with neither _count nor a +Inf bucket, or a summary without _count",
    "not_whole": "a count that is no whole number",
    "not_monotone": "a bucket that holds less than the one below it",
    "contradiction": "buckets that do not add up to the count",
    "duplicate_bound": "a repeated bound, or overlapping ranges",
    "bad_bound": "a bound that is no number, or a quantile that is not between 0 and 1",
    "late": "arrived after the point of its time was sent; see translation.assemblyTimeout",
    "duplicate": "a duplicate of an earlier sample",
    "conflict": "another value for a time that has one",
    "too_many_members": "more buckets than a histogram may have",
    "taken_apart": "waited for its histogram, of which the source does not take every component",
    "source_changed": "waited for its type or a whole while its source was changed or removed",
    "classic_twin": "the same histogram came as a classic one, which is exported",
    # Types that OTLP or the endpoint has no form for.
    "gauge_histogram": "OTLP has no gauge histograms",
    "unsupported_kind": "the endpoint takes no histograms of this kind, by its profile",
    "histogram_gauge": "OTLP has no gauge histograms",
    "histogram_float": "OTLP has no histograms with fractional counts",
    "histogram_schema": "a schema of native histograms that OTLP cannot express",
    "histogram_invalid": "a native histogram that contradicts itself",
    "histogram_too_large": "a native histogram with too many buckets",
    "custom_buckets": "remote write 1.0 has no native histograms with custom buckets",
    "temporality": "a delta of OTLP, for a sink that takes cumulative values only",
    "scale": "an exponential histogram of a scale that Prometheus has no schema for",
    "unreadable": "no valid point of OTLP, or no valid record where it is to be redacted",
    # Sinks that want deltas.
    "delta_first": "the first value of a stream: the base of its first delta",
    "delta_duplicate": "a time for which the stream has a value",
    "delta_out_of_order": "older than the stream's last value; its increase is in a later one",
    "delta_stale": "a stale marker, which deltas cannot express",
    "delta_not_finite": "NaN or infinite, of which no difference is defined",
    "delta_layout": "buckets that cannot be compared with those before",
    "project_limit": "above what the operator allows the project, see limits.perProject",
    # Single samples.
    "timestamp": "a time that OTLP cannot express",
    "duplicate_timestamp": "a second sample of its series for one time in one request",
    "too_far_in_future": "a time further ahead of its arrival than ingest.maxFuture",
}
"""Description of each reason for a dropped sample."""

UNREADABLE: Final = "unreadable"
"""Reason for points and records that are no valid protobuf where they had to be read."""

TEMPORALITY: Final = "temporality"
"""Reason for delta points that a sink has no form for."""

BEFORE_MATCHING: Final = frozenset(
    (*get_args(HistogramReason), "duplicate_timestamp", "too_far_in_future")
)
"""Reasons of samples of matched series that were refused before they were counted as matched."""


class _Row:
    __slots__ = ("last", "samples", "since")

    def __init__(self, now: float) -> None:
        self.samples = 0
        self.since = self.last = now


_Key = tuple[str, str, str, str]
"""Exporter, sink, family, reason."""


class _Group:
    """The rows of one group, those touched longest ago first, and what was given up of them."""

    __slots__ = ("others", "rows")

    def __init__(self) -> None:
        self.rows: dict[_Key, _Row] = {}
        self.others: dict[_Key, _Row] = {}

    def give_up(self, limit: int) -> None:
        """Evict the rows touched longest ago until at most ``limit`` are left."""
        while len(self.rows) > limit:
            key = next(iter(self.rows))
            given_up = self.rows.pop(key)
            exporter, sink, _, reason = key
            rest = self.others.get((exporter, sink, "", reason))
            if rest is None:
                self.others[exporter, sink, "", reason] = given_up
                continue
            rest.samples += given_up.samples
            rest.since = min(rest.since, given_up.since)
            rest.last = max(rest.last, given_up.last)


class DropTable:
    """Counts dropped samples by sink, metric family and reason, in bounded memory."""

    def __init__(self, *, rows_max: int = ROWS_MAX) -> None:
        self.now = 0.0
        self._rows_max = rows_max
        self._groups: dict[str, _Group] = {}

    def count(self, family: str, reason: str, samples: int, sinks: Iterable[SinkCounter]) -> None:
        """Count samples of a family that were dropped, once for each of the sinks."""
        now = self.now
        family = family[:FAMILY_CHARS_MAX]
        for sink in sinks:
            if sink.retired:
                continue
            group = self._groups.get(sink.group)
            if group is None:
                group = self._groups[sink.group] = _Group()
            key = (sink.exporter, sink.sink, family, reason)
            row = group.rows.pop(key, None)
            if row is None:
                row = _Row(now)
                share = max(ROWS_PER_GROUP_MIN, self._rows_max // len(self._groups))
                group.give_up(share - 1)
            group.rows[key] = row
            row.samples += samples
            row.last = now

    def hand_waiting_over(
        self,
        family: str,
        waiting: int,
        before: Iterable[SinkCounter],
        after: Iterable[SinkCounter],
    ) -> None:
        """Account for samples that wait while the sinks that get their point change.

        A sink that does not get it any more has lost them; for one that gets it now they count as
        matched. A counter that stands there twice counts twice.
        """
        had, has = Counter(before), Counter(after)
        for counter, times in (had - has).items():
            self.count(family, "source_changed", waiting * times, (counter,))
        for counter, times in (has - had).items():
            counter.samples += waiting * times

    def forget(self, counter: SinkCounter) -> None:
        """Delete the rows of a removed sink; it gets no others."""
        counter.retired = True
        exporter, sink = counter.exporter, counter.sink
        for name, group in list(self._groups.items()):
            for table in (group.rows, group.others):
                for key in [key for key in table if key[:2] == (exporter, sink)]:
                    del table[key]
            if not group.rows and not group.others:
                del self._groups[name]

    def rows(self) -> tuple[Drop, ...]:
        """Return all rows, by group."""
        return tuple(
            drop
            for group in self._groups.values()
            for table in (group.rows, group.others)
            for drop in _drops(table)
        )

    def of(self, exporter: str, families: Collection[str]) -> list[Drop]:
        """Return an exporter's drops of these families, the most samples first."""
        found = [
            drop for drop in self.rows() if drop.exporter == exporter and drop.family in families
        ]
        return sorted(found, key=lambda drop: -drop.samples)

    def __repr__(self) -> str:
        return f"<DropTable {sum(len(one.rows) for one in self._groups.values())} rows>"


def _drops(table: dict[_Key, _Row]) -> Iterator[Drop]:
    for key, row in table.items():
        yield Drop(*key, row.samples, row.since, row.last)
