"""Encode the definitions of an OpenAPI document of version 2 as protobuf.

kubectl reads no other form: it checks an object by it where an operation has no server-side
validation, as that of a kind that can only be created. Field numbers are those of gnostic-models,
``openapiv2/OpenAPIv2.proto``. Paths are left out: kubectl reads them from version 3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

MEDIA_TYPE: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
ACCEPTED: Final = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""The name by which clients ask for it."""

_TEXTS: Final = {"$ref": 1, "format": 2, "title": 3, "description": 4, "pattern": 13}
_NUMBERS: Final = {"multipleOf": 6, "maximum": 7, "minimum": 9}
_COUNTS: Final = {
    "exclusiveMaximum": 8,
    "exclusiveMinimum": 10,
    "maxLength": 11,
    "minLength": 12,
    "maxItems": 14,
    "minItems": 15,
    "uniqueItems": 16,
    "maxProperties": 17,
    "minProperties": 18,
}
_DEFAULT, _REQUIRED, _ENUM, _ADDITIONAL, _TYPE = 5, 19, 20, 21, 22
_ITEMS, _PROPERTIES, _EXTENSION = 23, 25, 31
_VARINT, _DOUBLE, _BYTES = 0, 1, 2


def openapi_protobuf(document: Mapping[str, Any]) -> bytes:
    """Return a Document message with the title and definitions of an OpenAPI document."""
    info = document["info"]
    return b"".join(
        (
            _text(1, document["swagger"]),
            _message(2, _text(1, info["title"]) + _text(2, info["version"])),
            _message(9, _named(document["definitions"])),
        )
    )


def _named(schemas: Mapping[str, Any]) -> bytes:
    return b"".join(
        _message(1, _text(1, name) + _message(2, _schema(node))) for name, node in schemas.items()
    )


def _schema(node: Mapping[str, Any]) -> bytes:
    return b"".join(_fields(node))


def _fields(node: Mapping[str, Any]) -> Iterator[bytes]:
    for key, value in node.items():
        if key in _TEXTS:
            yield _text(_TEXTS[key], value)
        elif key in _NUMBERS:
            yield _key(_NUMBERS[key], _DOUBLE) + struct.pack("<d", value)
        elif key in _COUNTS:
            yield _key(_COUNTS[key], _VARINT) + _varint(int(value))
        elif key == "default":
            yield _message(_DEFAULT, _any(value))
        elif key == "required":
            yield from (_text(_REQUIRED, name) for name in value)
        elif key == "enum":
            yield from (_message(_ENUM, _any(one)) for one in value)
        elif key == "type":
            yield _message(_TYPE, _text(1, value))
        elif key == "items":
            yield _message(_ITEMS, _message(1, _schema(value)))
        elif key == "properties":
            yield _message(_PROPERTIES, _named(value))
        elif key == "additionalProperties":
            yield _message(_ADDITIONAL, _additional(value))
        else:
            assert key.startswith("x-"), f"{key} is no field of a schema of version 2"
            yield _message(_EXTENSION, _text(1, key) + _message(2, _any(value)))


def _additional(value: Any) -> bytes:
    if isinstance(value, bool):
        return _key(2, _VARINT) + _varint(int(value))
    return _message(1, _schema(value))


def _any(value: Any) -> bytes:
    """Return a value as YAML, of which JSON is a part."""
    return _text(2, msgspec.json.encode(value).decode())


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _message(field: int, body: bytes) -> bytes:
    return _key(field, _BYTES) + _varint(len(body)) + body


def _key(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
