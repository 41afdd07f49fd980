"""Attributes of OTLP as text.

A value's text is that of the OpenTelemetry Collector (``pdata/pcommon/value.go``, ``AsString``): a
text as it is, ``true`` and ``false``, decimal numbers, base64 of bytes, JSON of lists and mappings;
"" without a value, and of a value that cannot be read or has over :data:`VALUES_MAX` others in it.

Senders do write texts that are no UTF-8, and the Collector forwards them: what is not is replaced.
"""

from __future__ import annotations

import base64
import codecs
import json
import math
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from relay.codec.otlp.record_fields import attributes_in, has_more_values
from relay.codec.protobuf import read_length
from relay.codec.remote_write.v1 import no_pause
from relay.runtime.errors import DecodeError

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue

AttributeTexts = list[tuple[str, str]]
"""Key and text of each attribute, in their order."""

VALUES_MAX: Final = 10_000
"""Values in a list or mapping that has a text: 8 ms."""
STEP: Final = 128
"""Attributes of a microsecond or two between two pauses."""
LARGE_BYTES: Final = 1 << 12
"""Of larger values each is worth a pause."""
_DECODED_BYTES: Final = 1 << 18
"""Bytes that are no UTF-8 and are replaced between two pauses: 10 ms, where each of them is one."""
_DEEP_BYTES: Final = 100
"""Values up to this size cannot be over 100 levels deep."""
_CHARACTER_BYTES_MAX: Final = 4  # in UTF-8
_ANY_NUMBER: Final = 1 << 60

_STRING_TAG: Final = b"\x0a"  # of AnyValue
_BOOLS: Final = {b"\x10\x00": "false", b"\x10\x01": "true"}
_INT_TAG: Final = 0x18
_INT_BYTES_MAX: Final = 9
"""Numbers in a longer varint are read by the official class."""
_DOUBLE_TAG: Final = 0x21
_DOUBLE: Final = struct.Struct("<d")
_HEAD: Final = 1  # of ResourceLogs, ScopeLogs and the like: the Resource, the InstrumentationScope
_RESOURCE_ATTRIBUTES: Final = 1
_SCOPE_ATTRIBUTES: Final = 3


def resource_attributes(head: bytes, pause: Callable[[], None] = no_pause) -> AttributeTexts:
    """Return the attributes in the head of a resource of any signal. Raise DecodeError."""
    return _attributes_of(head, _RESOURCE_ATTRIBUTES, "a resource", pause)


def scope_attributes(head: bytes, pause: Callable[[], None] = no_pause) -> AttributeTexts:
    """Return the attributes in the head of a scope of any signal. Raise DecodeError."""
    return _attributes_of(head, _SCOPE_ATTRIBUTES, "a scope", pause)


def _attributes_of(head: bytes, field: int, what: str, pause: Callable[[], None]) -> AttributeTexts:
    """Return the attributes of a head, which no receiver takes where they are too deep."""
    pairs = attributes_in(head, field, _HEAD, pause)
    if pairs and len(head) > _DEEP_BYTES:
        for _, value in pairs:
            if len(value) > _DEEP_BYTES and has_more_values(value, _ANY_NUMBER):
                raise DecodeError(f"{what} has values over 100 levels deep")
    return texts_of(pairs, what, pause)


def texts_of(
    pairs: list[tuple[bytes, bytes]] | None, what: str, pause: Callable[[], None] = no_pause
) -> AttributeTexts:
    """Return encoded attributes as texts; raise DecodeError where there are None to be read."""
    if pairs is None:
        raise DecodeError(f"{what} cannot be read")
    found = []
    for number, (key, value) in enumerate(pairs):
        if not (number + 1) % STEP or len(key) + len(value) > LARGE_BYTES:
            pause()
        found.append((_decoded(key, pause), text_of(value, pause)))
    return found


def text_of(
    encoded: bytes, pause: Callable[[], None] = no_pause, *, chars_max: int | None = None
) -> str:
    """Return the text of an encoded AnyValue; "" where it cannot be read.

    ``chars_max``: only so many of its first characters.
    """
    return _text_of(encoded, pause, chars_max)[:chars_max]


def _text_of(encoded: bytes, pause: Callable[[], None], chars_max: int | None) -> str:
    """Return the text, of which more characters than asked for may be read."""
    try:
        if encoded.startswith(_STRING_TAG):
            start, stop = read_length(encoded, 1, len(encoded))
            if stop == len(encoded):
                if chars_max is not None:
                    stop = min(stop, start + chars_max * _CHARACTER_BYTES_MAX)
                return _decoded(encoded[start:stop], pause)
        number = _number_in(encoded)
        if number is not None:
            return number
        return "" if has_more_values(encoded, VALUES_MAX) else _any_text(encoded)
    except DecodeError:
        return ""


def _decoded(encoded: bytes, pause: Callable[[], None]) -> str:
    """Return bytes as text; what is no UTF-8 is replaced, which takes 40 times as long."""
    if len(encoded) <= _DECODED_BYTES:
        return encoded.decode(errors="replace")
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        parts = []
        for start in range(0, len(encoded), _DECODED_BYTES):
            pause()
            parts.append(decoder.decode(encoded[start : start + _DECODED_BYTES]))
        parts.append(decoder.decode(b"", final=True))
        return "".join(parts)


def _number_in(encoded: bytes) -> str | None:
    """Return the text of an AnyValue that is a number or truth value, and nothing else."""
    if encoded in _BOOLS:
        return _BOOLS[encoded]
    if len(encoded) == 1 + _DOUBLE.size and encoded[0] == _DOUBLE_TAG:
        return _number(_DOUBLE.unpack_from(encoded, 1)[0])
    if 2 <= len(encoded) <= _INT_BYTES_MAX and encoded[0] == _INT_TAG:
        *more, last = encoded[1:]
        if last < 0x80 and all(byte >= 0x80 for byte in more):
            return str(sum((byte & 0x7F) << 7 * at for at, byte in enumerate(encoded[1:])))
    return None


def _any_text(encoded: bytes) -> str:
    """Return the text of an AnyValue as the official class reads it; "" where it cannot."""
    # 4 MiB, which a relay does not need before it sees a list, a mapping or bytes.
    from google.protobuf.message import (
        DecodeError as ProtobufDecodeError,
    )
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue

    try:
        return value_text(AnyValue.FromString(encoded))
    except ProtobufDecodeError:
        return ""


def value_text(value: AnyValue) -> str:
    """Return the text of a value."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return value.string_value
    if kind == "int_value":
        return str(value.int_value)
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "double_value":
        return _number(value.double_value)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    if kind in ("array_value", "kvlist_value"):
        plain = _plain(value)
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return ""


def _plain(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(one) for one in value.array_value.values]
    if kind == "kvlist_value":
        return {one.key: _plain(one.value) for one in value.kvlist_value.values}
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    if kind == "double_value" and not math.isfinite(value.double_value):
        return str(value.double_value)
    return getattr(value, kind) if kind else None


def _number(value: float) -> str:
    """Return a number as JSON writes it in ECMAScript: 1, not 1.0; 1e-7, not 1e-07."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    text, mark, exponent = repr(value).partition("e")
    if not mark:
        return text
    if -7 < int(exponent) < 0:
        return format(Decimal(repr(value)), "f")
    return f"{text.removesuffix('.0')}e{int(exponent):+d}"
