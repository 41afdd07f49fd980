"""Protobuf primitives that the hand-written codecs share.

Wire types: 0 varint, 1 fixed64, 2 length-delimited, 5 fixed32 (protobuf.dev, "Encoding"). A varint
has at most ten bytes; groups (3, 4) are refused, as proto3 never writes them.
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.runtime.errors import DecodeError, TooLargeError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

FIELDS_MAX = 64
"""Most fields accepted in a small message: a sample, a label, a span."""

_TAG_MAX = 0xFFFFFFFF  # a field number has at most 29 bits (protobuf.dev, "Message Structure")

_SMALL = tuple(bytes((n,)) for n in range(128))
_SHORT_MAX = 1 << 11
"""Longer lengths and larger counts are rare; all 16,384 of two bytes would take 0.7 MiB."""
_SHORT = tuple(bytes((n & 0x7F | 0x80, n >> 7)) for n in range(_SHORT_MAX))


def varint(value: int) -> bytes:
    """Encode a non-negative integer below 2**64."""
    if value < 128:
        return _SMALL[value]
    if value < _SHORT_MAX:
        return _SHORT[value]
    if value < 1 << 14:
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value > 127:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field_bytes(tag: bytes, payload: bytes) -> bytes:
    """Encode a length-delimited field: encoded ``tag``, length, payload."""
    return tag + varint(len(payload)) + payload


def read_varint(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """Return (value modulo 2**64, position behind it). Raise DecodeError."""
    result = 0
    shift = 0
    start = pos
    while pos < end:
        byte = data[pos]
        pos += 1
        result |= (byte & 0x7F) << shift
        if byte < 128:
            return result & 0xFFFFFFFFFFFFFFFF, pos
        shift += 7
        if shift >= 70:
            raise DecodeError("varint longer than ten bytes", offset=start)
    raise DecodeError("truncated varint", offset=start)


def read_length(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """Read a length prefix; return (start, stop) of the payload.

    Raise DecodeError if the payload runs past ``end``.
    """
    size, start = read_varint(data, pos, end)
    if size > end - start:
        raise DecodeError(f"length {size} runs past the end of its message", offset=pos)
    return start, start + size


def skip_field(data: bytes, wire_type: int, pos: int, end: int) -> int:
    """Return the position behind a field whose tag was just read. Raise DecodeError."""
    if wire_type == VARINT:
        return read_varint(data, pos, end)[1]
    if wire_type == BYTES:
        return read_length(data, pos, end)[1]
    if wire_type in (FIXED64, FIXED32):
        stop = pos + (8 if wire_type == FIXED64 else 4)
        if stop > end:
            raise DecodeError("truncated fixed-size field", offset=pos)
        return stop
    raise DecodeError(f"wire type {wire_type} is not used by proto3", offset=pos)


def signed64(value: int) -> int:
    """Interpret a 64-bit varint as int64 (two's complement, not sint64)."""
    return value - (1 << 64) if value >= 1 << 63 else value


def zigzag64(value: int) -> int:
    """Interpret a 64-bit varint as sint64."""
    return value >> 1 if not value & 1 else -(value >> 1) - 1


def zigzag32(value: int) -> int:
    """Interpret the low 32 bits of a varint as sint32."""
    return zigzag64(value & 0xFFFFFFFF)


def iter_fields(
    data: bytes, start: int, stop: int, *, fields_max: int = -1
) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (field number, wire type, tag offset, payload start, payload stop) of a message.

    A length-delimited payload excludes its length. Raise DecodeError, with offsets into ``data``,
    and TooLargeError for more than ``fields_max`` fields unless that is negative.
    """
    pos = start
    left = fields_max
    while pos < stop:
        if not left:
            raise TooLargeError(f"over {fields_max} fields in one message, at byte {start}")
        left -= 1
        tag_at = pos
        tag = data[pos]
        pos += 1
        if tag > 127:
            tag, pos = read_varint(data, tag_at, stop)
            if tag > _TAG_MAX or pos - tag_at > 5:
                raise DecodeError("field tag over 32 bits", offset=tag_at)
        number = tag >> 3
        if not number:
            raise DecodeError("field number 0", offset=tag_at)
        wire_type = tag & 7
        if wire_type == BYTES:
            payload, pos = read_length(data, pos, stop)
        else:
            payload = pos
            pos = skip_field(data, wire_type, pos, stop)
        yield number, wire_type, tag_at, payload, pos
