"""WriteRequest bodies written byte by byte, in every shape that protobuf allows and some others.

The official encoder writes one canonical form; senders and attackers are free to write others:
fields in any order, zeros left out or spelled out, unknown fields between, varints padded with
zeros. Shapes are given by arguments; :mod:`tests.kit.remote_write.any_writes` draws them. The
benchmark's generator writes its bodies with this, too, since it shares no codec with the relay.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

import cramjam
import zstandard

STALE = 0x7FF0000000000002
NAN = 0x7FF8000000000001
MINUS_ZERO = 1 << 63
T0_MS = 1_700_000_000_000

HEADERS = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
"""Of a request of version 1.0 whose body went through :func:`snappy`."""

Labels = Sequence[tuple[bytes, bytes]]


def varint(value: int, *, size: int = 0) -> bytes:
    """A varint, padded with zero groups to ``size`` bytes where that is more than it needs."""
    if not size and 0 <= value < 128:
        return bytes((value,))
    value %= 1 << 64
    groups = []
    while True:
        groups.append(value & 0x7F)
        value >>= 7
        if not value and len(groups) >= size:
            break
    return bytes(group | 0x80 for group in groups[:-1]) + bytes(groups[-1:])


def message(number: int, payload: bytes, *, tag_size: int = 0, length_size: int = 0) -> bytes:
    """A length-delimited field."""
    tag = varint(number << 3 | 2, size=tag_size)
    return tag + varint(len(payload), size=length_size) + payload


def number(field: int, value: int) -> bytes:
    """A varint field."""
    return varint(field << 3) + varint(value)


def label(name: bytes, value: bytes) -> bytes:
    """A Label field of a TimeSeries, as senders write it: empty strings are left out."""
    inner = (message(1, name) if name else b"") + (message(2, value) if value else b"")
    return message(1, inner)


def labels(pairs: Labels) -> bytes:
    """Label fields, one after the other: a series' key."""
    return b"".join(label(name, value) for name, value in pairs)


def sample(
    bits: int | None, timestamp_ms: int | None, *, time_size: int = 0, swapped: bool = False
) -> bytes:
    """A Sample field of a TimeSeries; None leaves a part out."""
    value = b"" if bits is None else b"\x09" + struct.pack("<Q", bits)
    time = b"" if timestamp_ms is None else b"\x10" + varint(timestamp_ms, size=time_size)
    return message(2, time + value if swapped else value + time)


def bits_of(value: float) -> int:
    """The bits of a double."""
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    assert isinstance(bits, int)
    return bits


def series(pairs: Labels, *samples: tuple[float, int]) -> bytes:
    """A series as vmagent writes it: labels, then samples, zeros left out."""
    written = [sample(bits_of(v) or None, t or None) for v, t in samples]
    return message(1, labels(pairs) + b"".join(written))


def text_series(pairs: Mapping[str, str], *samples: tuple[float, int]) -> bytes:
    """:func:`series` with labels as text, sorted by name as remote write demands."""
    return series(
        [(name.encode(), text.encode()) for name, text in sorted(pairs.items())], *samples
    )


def metadata(
    family: str,
    kind: int,
    help_text: str = "",
    unit: str = "",
    *,
    account: tuple[int, int] | None = None,
) -> bytes:
    """A MetricMetadata field of a WriteRequest; ``account`` is VictoriaMetrics' mark of it."""
    inner = number(1, kind) if kind else b""
    for at, text in ((2, family), (4, help_text), (5, unit)):
        if text:
            inner += message(at, text.encode())
    for at, value in zip((11, 12), account or (), strict=False):
        if value:
            inner += number(at, value)
    return message(3, inner)


def join(parts: Iterable[bytes]) -> bytes:
    """A body of these fields."""
    return b"".join(parts)


def snappy(body: bytes) -> bytes:
    """A snappy block."""
    return bytes(cramjam.snappy.compress_raw(body))


def zstd(body: bytes, *, level: int = 3) -> bytes:
    """A zstd frame that says its size."""
    return zstandard.ZstdCompressor(level=level).compress(body)
