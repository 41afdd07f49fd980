"""Messages of remote write out: of 1.0 and 2.0, one series or family each.

Rules:

* ``prometheus.WriteRequest`` {1 timeseries, 3 metadata} and ``io.prometheus.write.v2.Request`` {4
  symbols, 5 timeseries}; fields as in :mod:`relay.codec.remote_write.v1` and ``v2``. A zero is left
  out, as Prometheus and vmagent do; -0.0 is not a zero.
* 2.0 forbids samples and histograms in one TimeSeries (remote write 2.0, "Samples and Histogram
  Samples"), so a series with both becomes two. ``symbols[0]`` is "".
* 1.0 has no start of a sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from relay.codec.protobuf import field_bytes, varint
from relay.codec.remote_write.raw_series import (
    RawExemplar,
    RawSeries,
    label_fields,
)
from relay.codec.remote_write.v1 import Metadata, WriteProtocol
from relay.codec.remote_write.v2 import Metadata2, Sample2

_MASK64 = 0xFFFFFFFFFFFFFFFF
_ZERO = bytes(8)

_V1_SERIES_TAG, _V1_METADATA_TAG = b"\x0a", b"\x1a"
_V1_SAMPLE_TAG, _V1_EXEMPLAR_TAG, _V1_HISTOGRAM_TAG = b"\x12", b"\x1a", b"\x22"
_V2_SYMBOL_TAG, _V2_SERIES_TAG = b"\x22", b"\x2a"
_V2_REFS_TAG, _V2_SAMPLE_TAG, _V2_HISTOGRAM_TAG = b"\x0a", b"\x12", b"\x1a"
_V2_EXEMPLAR_TAG, _V2_METADATA_TAG = b"\x22", b"\x2a"


class Encoded(NamedTuple):
    """A request, uncompressed, and the number of its samples and histograms."""

    data: bytes
    points: int


def request_headers(protocol: WriteProtocol) -> dict[str, str]:
    """Return the headers of a request with a snappy body (remote write 1.0 and 2.0, "Protocol").

    1.0 names no ``proto`` parameter: receivers of its time compare Content-Type as a whole.
    """
    content_type, version = {
        "remote_write_v1": ("application/x-protobuf", "0.1.0"),
        "remote_write_v2": (
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            "2.0.0",
        ),
    }[protocol]
    return {
        "Content-Encoding": "snappy",
        "Content-Type": content_type,
        "X-Prometheus-Remote-Write-Version": version,
    }


def halves_of(series: RawSeries, protocol: WriteProtocol) -> tuple[RawSeries, RawSeries] | None:
    """Cut what is said of a series in two; None where there is one thing alone.

    Its points are divided, and exemplars likewise; those of one point stand alone behind it in 1.0,
    and stay with it in 2.0.
    """
    points = series.points
    exemplars = len(series.exemplars)
    if points < 2 and (protocol == "remote_write_v2" or exemplars + points < 2):
        return None
    cut = points // 2 if points > 1 else points
    samples = min(cut, len(series.samples))
    shown = exemplars // 2
    return (
        series._replace(
            samples=series.samples[:samples],
            histograms=series.histograms[: cut - samples],
            exemplars=series.exemplars[:shown],
        ),
        series._replace(
            samples=series.samples[samples:],
            histograms=series.histograms[cut - samples :],
            exemplars=series.exemplars[shown:],
        ),
    )


def encode_metadata(metadata: Metadata) -> bytes:
    """Encode a MetricMetadata message, without VictoriaMetrics' tenant."""
    out = _number(b"\x08", metadata.type)
    for tag, text in (
        (b"\x12", metadata.family),
        (b"\x22", metadata.help),
        (b"\x2a", metadata.unit),
    ):
        if text:
            out += field_bytes(tag, text.encode())
    return out


def time_series_v1(series: RawSeries) -> bytes:
    """Encode a TimeSeries message of 1.0; nothing is left out."""
    parts = [series.labels]
    parts += [
        field_bytes(_V1_SAMPLE_TAG, encode_sample(sample, False)) for sample in series.samples
    ]
    for exemplar in series.exemplars:
        message = exemplar.labels + encode_value_and_time(exemplar)
        parts.append(field_bytes(_V1_EXEMPLAR_TAG, message))
    parts += [field_bytes(_V1_HISTOGRAM_TAG, message) for message in series.histograms]
    return b"".join(parts)


def encode_series(series: RawSeries, protocol: WriteProtocol) -> Encoded:
    """Encode a request of one series. Raises DecodeError where its labels are no protobuf."""
    if protocol == "remote_write_v1":
        return Encoded(field_bytes(_V1_SERIES_TAG, time_series_v1(series)), series.points)
    symbols = SymbolNumbers()
    messages = symbols.time_series(series)
    return Encoded(b"".join((*symbols.fields(), *messages)), series.points)


class SymbolNumbers:
    """The symbols of a request of 2.0, numbered as they come; number 0 is ""."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {b"": 0}

    def number(self, symbol: bytes) -> int:
        """Return a symbol's number."""
        return self._numbers.setdefault(symbol, len(self._numbers))

    def fields(self) -> list[bytes]:
        """Return the fields of the request that hold the symbols."""
        return [field_bytes(_V2_SYMBOL_TAG, symbol) for symbol in self._numbers]

    def time_series(self, series: RawSeries) -> list[bytes]:
        """Encode a series that has points as one field of the request, or two."""
        head = field_bytes(_V2_REFS_TAG, self._refs(series.labels))
        samples = [
            field_bytes(_V2_SAMPLE_TAG, encode_sample(sample, True)) for sample in series.samples
        ]
        histograms = [field_bytes(_V2_HISTOGRAM_TAG, message) for message in series.histograms]
        exemplars = [self._exemplar(exemplar) for exemplar in series.exemplars]
        tail = b"" if series.metadata is None else encode_metadata2(series.metadata, self.number)
        groups = [group for group in (samples, histograms) if group]
        groups[0] = groups[0] + exemplars
        return [field_bytes(_V2_SERIES_TAG, b"".join((head, *group, tail))) for group in groups]

    def _exemplar(self, exemplar: RawExemplar) -> bytes:
        refs = self._refs(exemplar.labels)
        head = field_bytes(_V2_REFS_TAG, refs) if refs else b""
        return field_bytes(_V2_EXEMPLAR_TAG, head + encode_value_and_time(exemplar))

    def _refs(self, labels: bytes) -> bytes:
        return b"".join(
            varint(self.number(name)) + varint(self.number(value))
            for _, name, value in label_fields(labels)
        )

    def __repr__(self) -> str:
        return f"<SymbolNumbers {len(self._numbers)}>"


def encode_sample(sample: Sample2, has_start: bool) -> bytes:
    """Encode a Sample message; ``has_start``: the version has starts."""
    value, time_ms, start_ms = sample
    out = (b"" if value == _ZERO else b"\x09" + value) + _number(b"\x10", time_ms)
    return out + _number(b"\x18", start_ms) if has_start else out


def encode_value_and_time(exemplar: RawExemplar) -> bytes:
    """Encode an exemplar's fields behind its labels."""
    head = b"" if exemplar.value == _ZERO else b"\x11" + exemplar.value
    return head + _number(b"\x18", exemplar.time_ms)


def encode_metadata2(metadata: Metadata2, ref: Callable[[bytes], int]) -> bytes:
    """Encode TimeSeries.metadata of 2.0; ``ref`` gives a symbol's number."""
    out = _number(b"\x08", metadata.type)
    for tag, text in ((b"\x18", metadata.help), (b"\x20", metadata.unit)):
        if text:
            out += tag + varint(ref(text.encode()))
    return field_bytes(_V2_METADATA_TAG, out)


def _number(tag: bytes, value: int) -> bytes:
    """Return a varint field; b"" for zero."""
    return tag + varint(value & _MASK64) if value else b""
