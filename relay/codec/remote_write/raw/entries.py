"""Build the entries of a raw batch that are more than a value and a time. Pure.

An entry is made once for all sinks of one version that have the same external labels.
"""

from __future__ import annotations

from relay.codec.protobuf import field_bytes
from relay.codec.remote_write.encode import encode_metadata, encode_sample, time_series_v1
from relay.codec.remote_write.external_labels import NO_EXTERNAL_LABELS, ExternalLabels
from relay.codec.remote_write.raw.buffer import RawEntry
from relay.codec.remote_write.raw.label_table import LabelTable
from relay.codec.remote_write.raw_series import RawExemplar, RawSeries, histogram_for_v1
from relay.codec.remote_write.v1 import Metadata, WriteProtocol

_NS_PER_MS = 1_000_000
_TIME_MS_MAX = (2**63 - 1) // _NS_PER_MS
_METADATA_TAG = b"\x1a"  # WriteRequest.metadata
_SAMPLE_TAG, _HISTOGRAM_TAG = b"\x12", b"\x1a"  # TimeSeries of 2.0


def prefix_of(
    table: LabelTable,
    key: bytes,
    external_labels: ExternalLabels = NO_EXTERNAL_LABELS,
    declaration: tuple[int, str, str] | None = None,
) -> bytes:
    """Return the prefix of a series; ``key``: its label fields as 1.0 writes them.

    ``declaration``: (type, help, unit), which only 2.0 writes. Raises DecodeError.
    """
    return table.place(external_labels.added_to(key), declaration)


def sample_entry(
    protocol: WriteProtocol,
    prefix: bytes,
    value: bytes,
    time_ms: int,
    *,
    start_ms: int = 0,
    exemplars: tuple[RawExemplar, ...] = (),
) -> RawEntry:
    """Return a sample with a start time or exemplars; ``value``: the eight bytes of a double.

    1.0 has no start times.
    """
    series = RawSeries(b"", [(value, time_ms, start_ms)], exemplars=exemplars)
    if protocol == "remote_write_v1":
        return RawEntry(prefix, time_series_v1(series), time_ms * _NS_PER_MS)
    fields = field_bytes(_SAMPLE_TAG, encode_sample((value, time_ms, start_ms), True))
    return RawEntry(prefix, fields, time_ms * _NS_PER_MS, exemplars=exemplars)


def histogram_entry(
    protocol: WriteProtocol,
    prefix: bytes,
    message: bytes,
    time_ms: int,
    *,
    exemplars: tuple[RawExemplar, ...] = (),
) -> RawEntry | None:
    """Return a native histogram; None if it has custom buckets and the version no form for them.

    ``message``: the Histogram with 2.0's fields, see :mod:`relay.codec.remote_write.raw_series`.
    Raises DecodeError.
    """
    time_ns = time_ms * _NS_PER_MS
    if protocol == "remote_write_v2":
        return RawEntry(prefix, field_bytes(_HISTOGRAM_TAG, message), time_ns, exemplars=exemplars)
    expressed = histogram_for_v1(message)
    if expressed is None:
        return None
    series = RawSeries(b"", histograms=[expressed], exemplars=exemplars)
    return RawEntry(prefix, time_series_v1(series), time_ns)


def exemplars_rider(
    protocol: WriteProtocol, prefix: bytes, exemplars: tuple[RawExemplar, ...]
) -> RawEntry:
    """Return exemplars that came without a point.

    1.0 sends them as they are, 2.0 with a point of the same series in the batch: without one they
    are lost.
    """
    time_ns = min(max(0, exemplars[0].time_ms), _TIME_MS_MAX) * _NS_PER_MS
    if protocol == "remote_write_v1":
        fields = time_series_v1(RawSeries(b"", exemplars=exemplars))
        return RawEntry(prefix, fields, time_ns, False)
    return RawEntry(prefix, b"", time_ns, False, exemplars)


def metadata_rider(metadata: Metadata) -> bytes:
    """Return a family's metadata for 1.0, which has it beside series."""
    return field_bytes(_METADATA_TAG, encode_metadata(metadata))
