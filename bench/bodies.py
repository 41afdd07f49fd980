"""Remote-write bodies, as vmagent (1.0) and Prometheus (2.0) encode them.

A series with one sample is three pieces: a *head* that depends on the labels alone, eight bytes of
value, and a *tail* with the time. Where the value is 0, senders leave it out: its head is another
one, and nothing stands between head and tail. So a body is a join, and a round costs little to
prepare. The harness checks the relay, so it shares its codec with the tests alone, which decode all
of it with protobuf's own runtime (:mod:`tests.kit.remote_write.prompb`).
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
"""From 1971 to 2039: times of six bytes, so that the size of a sample is fixed."""

_SAMPLE_HEAD = b"\x12\x10\x09"  # TimeSeries.samples (2), 16 bytes; Sample.value (1, fixed64)
_TIME_TAG = b"\x10"  # Sample.timestamp (2, varint)
_SAMPLE_BYTES = len(_SAMPLE_HEAD) + 8 + len(_TIME_TAG) + 6
_ZERO_SAMPLE_HEAD = b"\x12\x07"
_ZERO_SAMPLE_BYTES = len(_ZERO_SAMPLE_HEAD) + len(_TIME_TAG) + 6
_NO_METADATA = b"\x2a\x00"
"""TimeSeries.metadata (5), which Prometheus writes even where it is empty."""

Label = tuple[str, str]


def head1(labels: Iterable[Label]) -> bytes:
    """A 1.0 TimeSeries with its tag and length, up to the value of its one sample."""
    encoded = b"".join([_label(name, value) for name, value in labels])
    return b"\x0a" + varint(len(encoded) + _SAMPLE_BYTES) + encoded + _SAMPLE_HEAD


def zero_head1(labels: Iterable[Label]) -> bytes:
    """The same up to the time of its one sample, whose value is 0."""
    encoded = b"".join([_label(name, value) for name, value in labels])
    return b"\x0a" + varint(len(encoded) + _ZERO_SAMPLE_BYTES) + encoded + _ZERO_SAMPLE_HEAD


def heads2(series: Iterable[Iterable[Label]]) -> tuple[bytes, list[bytes]]:
    """The symbols of a 2.0 Request, interned in order of appearance, and the head of each
    TimeSeries."""
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
    """What follows the value."""
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
    """A body of one sample for each head; ``leaves_out_zeros``: heads are of either kind."""
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
    """As a sender would: zstd at vmagent's level."""
    if encoding == "zstd":
        return zstd(body, level=1)
    return snappy(body)


@lru_cache(maxsize=16384)
def _label(name: str, value: str) -> bytes:
    return label(name.encode(), value.encode())
