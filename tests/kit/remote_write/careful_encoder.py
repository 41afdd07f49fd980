"""Requests of remote write, encoded carefully: the oracle of the encoders of batches.

Rules:

* Series keep their order, and so do samples, histograms and exemplars of a series. A series that
  says nothing is left out.
* 2.0 also forbids a TimeSeries without samples and histograms (Cortex refuses a whole request for
  one). So exemplars without a point wait for the next one of their series within the call, and
  those left are counted in :attr:`Written.lone_exemplars`.
* 1.0 has no custom buckets (schema -53): such a histogram is left out, and counted in
  :attr:`Written.unexpressed`.
* 1.0 has metadata by family, 2.0 by series. Metadata beside series becomes that of their families
  once in each call; families' metadata is given to 2.0 beside the series, by the caller.
* No request exceeds ``bytes_max`` encoded bytes, unless with a single point or piece of metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from relay.codec.protobuf import field_bytes, varint
from relay.codec.remote_write.cut import Request2, scan_v1
from relay.codec.remote_write.encode import (
    Encoded,
    encode_metadata,
    encode_metadata2,
    encode_sample,
    encode_value_and_time,
    halves_of,
    time_series_v1,
)
from relay.codec.remote_write.external_labels import NO_EXTERNAL_LABELS, ExternalLabels
from relay.codec.remote_write.raw_series import (
    RawExemplar,
    RawSeries,
    histogram_for_v1,
    label_fields,
)
from relay.codec.remote_write.split import split_in_two
from relay.codec.remote_write.v1 import Metadata, WriteProtocol
from relay.codec.remote_write.v2 import Metadata2

_NAME = b"__name__"
_V1_SERIES_TAG, _V1_METADATA_TAG = b"\x0a", b"\x1a"
_V2_SYMBOL_TAG, _V2_SERIES_TAG = b"\x22", b"\x2a"
_V2_REFS_TAG, _V2_SAMPLE_TAG, _V2_HISTOGRAM_TAG = b"\x0a", b"\x12", b"\x1a"
_V2_EXEMPLAR_TAG = b"\x22"

_FAMILY_SUFFIXES = {
    3: (b"_bucket", b"_count", b"_sum"),  # histogram
    4: (b"_bucket", b"_gcount", b"_gsum"),  # gauge histogram
    5: (b"_count", b"_sum"),  # summary
}
"""By type: what a series' name has behind its family's (OpenMetrics, "Metric Types")."""


class Written(NamedTuple):
    """A request, uncompressed; one without ``data`` only says what was lost.

    ``points``: its samples and histograms. ``unexpressed``: histograms that were to be in it, and
    ``lone_exemplars``: exemplars, that its version has no form for.
    """

    data: bytes
    points: int
    unexpressed: int = 0
    lone_exemplars: int = 0


def encode_requests(
    series: Iterable[RawSeries],
    metadata: Iterable[Metadata] = (),
    *,
    protocol: WriteProtocol,
    bytes_max: int,
    external_labels: ExternalLabels = NO_EXTERNAL_LABELS,
) -> list[Written]:
    """Encode series, and behind them metadata, into as few requests as ``bytes_max`` allows.

    Raises DecodeError where labels or a histogram are no protobuf.
    """
    if protocol == "remote_write_v2":
        assert not list(metadata), "2.0 has metadata beside its series only"
        return list(_requests_v2(series, bytes_max, external_labels))
    return list(_requests_v1(series, metadata, bytes_max, external_labels))


def family_of(labels: bytes, metric_type: int) -> bytes:
    """Return the name of the metric family of a series of this type; b"" without a name."""
    name = next((value for _, label, value in label_fields(labels) if label == _NAME), b"")
    for suffix in _FAMILY_SUFFIXES.get(metric_type, ()):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def _requests_v1(
    series: Iterable[RawSeries],
    metadata: Iterable[Metadata],
    bytes_max: int,
    external_labels: ExternalLabels,
) -> Iterator[Written]:
    families: dict[str, Metadata] = {}
    body: list[bytes] = []
    size = points = unexpressed = 0

    def fields() -> Iterator[tuple[bytes, int, int]]:
        for whole in series:
            labels = external_labels.added_to(whole.labels)
            _collect(families, labels, whole.metadata)
            if not whole.is_empty:
                yield from _fields_v1(whole._replace(labels=labels), bytes_max)
        for one in (*families.values(), *metadata):
            yield field_bytes(_V1_METADATA_TAG, encode_metadata(one)), 0, 0

    for field, held, lost in fields():
        if body and size + len(field) > bytes_max:
            yield Written(b"".join(body), points, unexpressed)
            body, size, points, unexpressed = [], 0, 0, 0
        body += [field] if field else []
        size += len(field)
        points += held
        unexpressed += lost
    if body or unexpressed:
        yield Written(b"".join(body), points, unexpressed)


def _collect(families: dict[str, Metadata], labels: bytes, metadata: Metadata2 | None) -> None:
    """Remember what a series says of its family; the last word stands."""
    if metadata is None or metadata == (0, "", ""):
        return
    family = family_of(labels, metadata.type).decode(errors="replace")
    if family:
        families[family] = Metadata(metadata.type, family, metadata.help, metadata.unit)


def _fields_v1(series: RawSeries, bytes_max: int) -> Iterator[tuple[bytes, int, int]]:
    """(WriteRequest.timeseries field, its points, histograms left out), in pieces if too large."""
    kept = [histogram_for_v1(message) for message in series.histograms]
    lost = kept.count(None)
    left = [series._replace(histograms=[message for message in kept if message is not None])]
    if left[0].is_empty:
        yield b"", 0, lost
        return
    while left:
        piece = left.pop()
        field = field_bytes(_V1_SERIES_TAG, time_series_v1(piece))
        halves = halves_of(piece, "remote_write_v1") if len(field) > bytes_max else None
        if halves is None:
            yield field, piece.points, lost
            lost = 0
        else:
            left += reversed(halves)


def _requests_v2(
    series: Iterable[RawSeries], bytes_max: int, external_labels: ExternalLabels
) -> Iterator[Written]:
    waiting: dict[bytes, list[RawExemplar]] = {}
    request = _RequestV2()
    for whole in series:
        labels = external_labels.added_to(whole.labels)
        if not whole.points:
            if whole.exemplars:
                waiting.setdefault(labels, []).extend(whole.exemplars)
            continue
        exemplars = (*waiting.pop(labels, ()), *whole.exemplars)
        left = [whole._replace(labels=labels, exemplars=exemplars)]
        while left:
            piece = left.pop()
            if request.try_add(piece, bytes_max):
                continue
            if request.holds_series:
                yield request.finish()
                request = _RequestV2()
                left.append(piece)
                continue
            halves = halves_of(piece, "remote_write_v2")
            if halves is None:
                request.must_add(piece)
            else:
                left += reversed(halves)
    if request.holds_series:
        yield request.finish()
    if waiting:
        yield Written(b"", 0, lone_exemplars=sum(map(len, waiting.values())))


class _RequestV2:
    """A request of 2.0 while it grows, and its symbols."""

    __slots__ = (
        "_label_refs",
        "_messages",
        "_messages_bytes",
        "_points",
        "_refs",
        "_symbols_bytes",
    )

    def __init__(self) -> None:
        self._refs: dict[bytes, int] = {b"": 0}
        self._symbols_bytes = 2  # of the empty one
        self._label_refs: dict[bytes, bytes] = {}
        self._messages: list[bytes] = []
        self._messages_bytes = 0
        self._points = 0

    @property
    def holds_series(self) -> bool:
        """True if it has a series."""
        return bool(self._messages)

    def try_add(self, series: RawSeries, bytes_max: int) -> bool:
        """Add a series where the request then has at most ``bytes_max`` bytes."""
        symbols, symbols_bytes = len(self._refs), self._symbols_bytes
        fields = self._encode(series)
        size = sum(map(len, fields))
        if self._symbols_bytes + self._messages_bytes + size > bytes_max:
            while len(self._refs) > symbols:
                self._refs.popitem()
            self._symbols_bytes = symbols_bytes
            self._label_refs.clear()  # some of them name symbols that are gone
            return False
        self._take(fields, size, series.points)
        return True

    def must_add(self, series: RawSeries) -> None:
        """Add a series, however large."""
        fields = self._encode(series)
        self._take(fields, sum(map(len, fields)), series.points)

    def finish(self) -> Written:
        """Return the request."""
        symbols = [field_bytes(_V2_SYMBOL_TAG, symbol) for symbol in self._refs]
        return Written(b"".join((*symbols, *self._messages)), self._points)

    def _take(self, fields: list[bytes], size: int, points: int) -> None:
        self._messages += fields
        self._messages_bytes += size
        self._points += points

    def _encode(self, series: RawSeries) -> list[bytes]:
        head = field_bytes(_V2_REFS_TAG, self._refs_of(series.labels))
        parts = [
            field_bytes(_V2_SAMPLE_TAG, encode_sample(sample, True)) for sample in series.samples
        ]
        histograms = [field_bytes(_V2_HISTOGRAM_TAG, message) for message in series.histograms]
        exemplars = [self._exemplar(exemplar) for exemplar in series.exemplars]
        tail = self._metadata(series.metadata)
        groups: list[list[bytes]] = (
            [parts, histograms] if parts and histograms else [parts or histograms]
        )
        groups[0] = groups[0] + exemplars
        return [field_bytes(_V2_SERIES_TAG, b"".join((head, *group, tail))) for group in groups]

    def _exemplar(self, exemplar: RawExemplar) -> bytes:
        refs = self._refs_of(exemplar.labels)
        head = field_bytes(_V2_REFS_TAG, refs) if refs else b""
        return field_bytes(_V2_EXEMPLAR_TAG, head + encode_value_and_time(exemplar))

    def _metadata(self, metadata: Metadata2 | None) -> bytes:
        return b"" if metadata is None else encode_metadata2(metadata, self._ref)

    def _refs_of(self, labels: bytes) -> bytes:
        out = []
        for field, name, value in label_fields(labels):
            refs = self._label_refs.get(field)
            if refs is None:
                refs = varint(self._ref(name)) + varint(self._ref(value))
                self._label_refs[field] = refs
            out.append(refs)
        return b"".join(out)

    def _ref(self, symbol: bytes) -> int:
        ref = self._refs.get(symbol)
        if ref is None:
            ref = self._refs[symbol] = len(self._refs)
            self._symbols_bytes += 1 + len(varint(len(symbol))) + len(symbol)
        return ref


def count_points(data: bytes, protocol: WriteProtocol) -> int:
    """Count the samples and histograms of a request. Raises DecodeError."""
    if protocol == "remote_write_v1":
        return (scan_v1(data)[1] or [0])[-1]
    request = Request2(data)
    return request.part(range(len(request.ends)))[1]


def split_below(data: bytes, protocol: WriteProtocol, bytes_max: int) -> list[Encoded]:
    """Cut a request until no piece exceeds ``bytes_max`` encoded bytes or can be cut; keep order.

    Raises DecodeError.
    """
    done: list[Encoded] = []
    left = [Encoded(data, count_points(data, protocol))]
    while left:
        piece = left.pop()
        halves = split_in_two(piece.data, protocol) if len(piece.data) > bytes_max else None
        if halves is None:
            done.append(piece)
        else:
            left += reversed(halves)
    return done
