"""Encode remote-write bodies as vmagent (1.0) and Prometheus (2.0) do.

A series with one sample has three pieces: a *head* that depends on the labels alone, eight bytes of
value, and a *tail* with the time. A value of 0 is omitted and has another head. So a body is a
join, and a round costs little to prepare. No codec is shared with the relay; tests decode all of it
with protobuf's own runtime (:mod:`tests.kit.remote_write.prompb`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal

from tests.kit.remote_write.raw import label, message, snappy, varint, zstd

Encoding = Literal["snappy", "zstd"]
Protocol = Literal["1.0", "2.0"]

TIME_MS_MIN, TIME_MS_MAX = 1 << 35, 1 << 41
"""Times from 1971 to 2039, in ms: their varints have six bytes, so a sample has a fixed size."""

_SAMPLE_HEAD = b"\x12\x10\x09"  # TimeSeries.samples (2), 16 bytes; Sample.value (1, fixed64)
_TIME_TAG = b"\x10"  # Sample.timestamp (2, varint)
_SAMPLE_BYTES = len(_SAMPLE_HEAD) + 8 + len(_TIME_TAG) + 6
_ZERO_SAMPLE_HEAD = b"\x12\x07"
_ZERO_SAMPLE_BYTES = len(_ZERO_SAMPLE_HEAD) + len(_TIME_TAG) + 6
_NO_METADATA = b"\x2a\x00"
"""Empty TimeSeries.metadata (5), which Prometheus writes."""

Label = tuple[str, str]


def head1(labels: Iterable[Label]) -> bytes:
    """Encode a 1.0 TimeSeries with tag and length, up to the value of its one sample."""
    return head1_of(b"".join([_label(name, value) for name, value in labels]))


def head1_of(encoded: bytes) -> bytes:
    """Encode the same of encoded labels."""
    return b"\x0a" + varint(len(encoded) + _SAMPLE_BYTES) + encoded + _SAMPLE_HEAD


def zero_head1(labels: Iterable[Label]) -> bytes:
    """Encode a 1.0 TimeSeries up to the time of its one sample, whose value is 0."""
    encoded = b"".join([_label(name, value) for name, value in labels])
    return b"\x0a" + varint(len(encoded) + _ZERO_SAMPLE_BYTES) + encoded + _ZERO_SAMPLE_HEAD


def heads2(series: Iterable[Iterable[Label]]) -> tuple[bytes, list[bytes]]:
    """Encode a 2.0 Request's symbols, in order of appearance, and the heads of its TimeSeries."""
    symbols = {"": 0}
    heads = []
    for labels in series:
        references = b"".join(
            [varint(symbols.setdefault(text, len(symbols))) for label in labels for text in label]
        )
        packed = b"\x0a" + varint(len(references)) + references
        size = len(packed) + _SAMPLE_BYTES + len(_NO_METADATA)
        heads.append(b"\x2a" + varint(size) + packed + _SAMPLE_HEAD)
    return b"".join([message(4, symbol.encode()) for symbol in symbols]), heads


def tail(time_ms: int, protocol: Protocol) -> bytes:
    """Encode the bytes after the value."""
    encoded = _TIME_TAG + varint(time_ms)
    assert len(encoded) == 7, "the size of a sample is fixed"
    return encoded + _NO_METADATA if protocol == "2.0" else encoded


def join(
    preamble: bytes,
    heads: Sequence[bytes],
    values: Sequence[float],
    tails: Sequence[bytes],
    *,
    leaves_out_zeros: bool = False,
) -> bytes:
    """Join a body of one sample per head; ``leaves_out_zeros``: heads match their values."""
    count = len(heads)
    packed = struct.pack(f"<{count}d", *values)
    pieces = [b""] * (3 * count)
    pieces[0::3] = heads
    pieces[1::3] = [packed[at : at + 8] for at in range(0, 8 * count, 8)]
    if leaves_out_zeros:
        for at, value in enumerate(values):
            if not value:
                pieces[3 * at + 1] = b""
    pieces[2::3] = tails
    return preamble + b"".join(pieces)


def compress(body: bytes, encoding: Encoding) -> bytes:
    """Compress as a sender does: zstd at vmagent's level."""
    if encoding == "zstd":
        return zstd(body, level=1)
    return snappy(body)


@lru_cache(maxsize=16384)
def _label(name: str, value: str) -> bytes:
    """Encode TimeSeries.labels (1): Label {1 name, 2 value}."""
    return label(name.encode(), value.encode())
