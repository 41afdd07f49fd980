"""Appends what a known series brings besides plain samples to its raw batches.

Rules:

* Everything is appended while the request is decoded, so that samples and histograms of a series
  keep their order; a refused request is rolled back with its batches.
* A sample with a start time or exemplars, and each native histogram, is one entry of a batch, made
  once for all batches of a route. 1.0 has no starts: a sample with nothing but a start is plain.
* Exemplars that came alone go to 1.0 as they came. 2.0 must not have them alone: they leave with
  the series' next point in the batch, or are counted.
* 1.0 has no form for custom buckets: such a histogram is counted as a drop of its sinks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple
from typing import Protocol as TypingProtocol

from relay.codec.otlp.batch import OpenBatch
from relay.codec.remote_write.raw.buffer import RawEntry
from relay.codec.remote_write.raw.entries import exemplars_rider, histogram_entry, sample_entry
from relay.codec.remote_write.raw.label_table import RawGroup
from relay.codec.remote_write.raw_series import RawExemplar
from relay.codec.remote_write.v1 import WriteProtocol
from relay.pipeline.batching.transaction import (
    BatchTransaction,
    IngestMark,
    NativePoint,
    SampleExtras,
)
from relay.pipeline.routing.match_set import MatchSet, Protocol, RawOutput, SinkOutputSpec
from relay.pipeline.routing.route import Route

PROTOCOLS: Final[dict[Protocol, WriteProtocol]] = {
    "remoteWrite1": "remote_write_v1",
    "remoteWrite2": "remote_write_v2",
}
NS_PER_MS: Final = 1_000_000
CUSTOM_BUCKETS: Final = "custom_buckets"
"""Reason for native histograms that the version of a sink cannot express."""

Batches = tuple[OpenBatch, ...]


class RawRouted(TypingProtocol):
    """The parts of a series that are needed here."""

    @property
    def name(self) -> str:
        """The metric's name."""
        ...

    @property
    def match_set(self) -> MatchSet:
        """The sources that take it."""
        ...

    @property
    def routes(self) -> tuple[Route, ...]:
        """Its routes, the raw ones first."""
        ...


class TakenHistogram(NamedTuple):
    """A good native histogram: its Histogram message with 2.0's fields, and its time, ns.

    ``point`` is its OTLP form; None if no sink wants that, or OTLP has none (``reason``).
    """

    message: bytes
    time_ns: int
    point: NativePoint | None = None
    reason: str = ""


def append_raw_sample(
    series: RawRouted,
    stamp: bytes,
    value: bytes,
    extra: SampleExtras,
    transaction: BatchTransaction,
) -> tuple[Route, ...]:
    """Append a sample with a start time or exemplars to raw routes; return the other routes."""
    outputs = series.match_set.raw_outputs
    time_ms = int.from_bytes(stamp[:8], "little") // NS_PER_MS
    start_ms = extra.start_ns // NS_PER_MS
    mark = IngestMark(transaction.request, transaction.now)
    for output, (batches, group, prefix) in _raw_routes(series):
        protocol = PROTOCOLS[output.options.protocol]
        if not extra.raw and protocol == "remote_write_v1":
            for batch in batches:
                transaction.append_sample(batch, group, prefix, stamp, value)
            continue
        entry = sample_entry(
            protocol, prefix, value, time_ms, start_ms=start_ms, exemplars=extra.raw
        )
        for batch in batches:
            transaction.append_point(batch, group, entry, mark)
    return series.routes[len(outputs) :]


def append_raw_histograms(
    series: RawRouted,
    histograms: Sequence[TakenHistogram],
    exemplars: tuple[RawExemplar, ...],
    transaction: BatchTransaction,
) -> None:
    """Append native histograms to raw routes, and count them for all sinks of the series.

    ``exemplars`` go with the last one that a sink gets. The caller sends ``point`` to typed sinks.
    """
    base = series.match_set.base
    mark = IngestMark(transaction.request, transaction.now)
    refused: list[list[SinkOutputSpec]] = [[] for _ in histograms]
    for output, (batches, group, prefix) in _raw_routes(series):
        protocol = PROTOCOLS[output.options.protocol]
        left = exemplars
        entries: list[RawEntry] = []
        # The last first: exemplars go with the last one that the version has a form for.
        for one, without in zip(reversed(histograms), reversed(refused), strict=True):
            time_ms = one.time_ns // NS_PER_MS
            entry = histogram_entry(protocol, prefix, one.message, time_ms, exemplars=left)
            if entry is None:
                without.extend(output.targets)
            else:
                entries.append(entry)
                left = ()
            transaction.pace.pause()
        for batch in batches:
            for entry in reversed(entries):
                transaction.append_point(batch, group, entry, mark)
            if left:
                transaction.append_rider(batch, group, exemplars_rider(protocol, prefix, left))
    for one, without in zip(histograms, refused, strict=True):
        typed = base.typed if one.point is not None else ()
        direct = [target for target in base.raw if target not in without] if without else base.raw
        transaction.sample_counts.append((base.variant(direct, (*typed, *without)), 1))
        if without:
            transaction.omit(series.name, CUSTOM_BUCKETS, without)
        if one.reason and base.typed:
            transaction.omit(series.name, one.reason, base.typed)


def append_raw_exemplars(
    series: RawRouted, exemplars: tuple[RawExemplar, ...], transaction: BatchTransaction
) -> bool:
    """Append exemplars that came alone to raw routes; return False if no batch takes them."""
    is_sent = False
    for output, (batches, group, prefix) in _raw_routes(series):
        rider = exemplars_rider(PROTOCOLS[output.options.protocol], prefix, exemplars)
        for batch in batches:
            is_sent |= transaction.append_rider(batch, group, rider)
    return is_sent


def _raw_routes(series: RawRouted) -> Iterator[tuple[RawOutput, tuple[Batches, RawGroup, bytes]]]:
    """Yield a series' raw routes, each with the output that it belongs to."""
    for output, (batches, group, prefix) in zip(
        series.match_set.raw_outputs, series.routes, strict=False
    ):
        assert isinstance(group, RawGroup), "raw routes come first"
        yield output, (batches, group, prefix)
