"""Messages of senders in the form that any receiver can read.

Readers generated for Go refuse a whole request for one field of another wire type than its own;
those that follow the protobuf specification pass over it, as the decoder here does. So it is left
out before the message goes out with those of others. Fields: both versions of remote write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from relay.codec.protobuf import BYTES, FIELDS_MAX, FIXED64, VARINT, field_bytes, iter_fields
from relay.codec.remote_write.native_histogram import PARTS_MAX

_VARINT, _DOUBLE = (VARINT,), (FIXED64,)
_VARINTS, _DOUBLES = (VARINT, BYTES), (FIXED64, BYTES)  # repeated, packed or not
_SPANS_TAGS: Final = {8: b"\x42", 11: b"\x5a"}  # negative and positive spans
_WIRE_TYPES: Final[Mapping[int, tuple[int, ...]]] = {
    1: _VARINT,  # count
    2: _DOUBLE,
    3: _DOUBLE,  # sum
    4: _VARINT,  # schema
    5: _DOUBLE,  # zero threshold
    6: _VARINT,  # zero count
    7: _DOUBLE,
    8: (BYTES,),
    9: _VARINTS,  # negative deltas and counts
    10: _DOUBLES,
    11: (BYTES,),
    12: _VARINTS,  # positive ones
    13: _DOUBLES,
    14: _VARINT,  # reset hint
    15: _VARINT,  # timestamp
    16: _DOUBLES,  # custom bounds
    17: _VARINT,  # start timestamp
}
_SPAN_WIRE_TYPES: Final = {1: _VARINT, 2: _VARINT}
_MESSAGE_FIELDS_MAX: Final = FIELDS_MAX + PARTS_MAX


def strict_histogram(message: bytes) -> bytes:
    """Return a Histogram message without fields of a wrong wire type; the same bytes mostly.

    Raises DecodeError for what is no protobuf.
    """
    parts: list[bytes] = []
    for number, wire_type, tag_at, start, stop in iter_fields(
        message, 0, len(message), fields_max=_MESSAGE_FIELDS_MAX
    ):
        if wire_type not in _WIRE_TYPES.get(number, (wire_type,)):
            continue
        field = message[tag_at:stop]
        if number in _SPANS_TAGS:
            inner = message[start:stop]
            span = _strict(inner, _SPAN_WIRE_TYPES)
            field = field if span == inner else field_bytes(_SPANS_TAGS[number], span)
        parts.append(field)
    return b"".join(parts)


def strict_label(label: bytes) -> bytes:
    """Return a Label message with its name and value alone. Raises DecodeError."""
    name = value = b""
    for number, wire_type, _, start, stop in iter_fields(
        label, 0, len(label), fields_max=FIELDS_MAX
    ):
        if wire_type == BYTES and number == 1:
            name = label[start:stop]
        elif wire_type == BYTES and number == 2:
            value = label[start:stop]
    return (field_bytes(b"\x0a", name) if name else b"") + (
        field_bytes(b"\x12", value) if value else b""
    )


def _strict(message: bytes, wire_types: Mapping[int, tuple[int, ...]]) -> bytes:
    return b"".join(
        message[tag_at:stop]
        for number, wire_type, tag_at, _, stop in iter_fields(
            message, 0, len(message), fields_max=FIELDS_MAX
        )
        if wire_type in wire_types.get(number, (wire_type,))
    )
