"""The protobuf form of OpenAPI has what the JSON form has, read by a reader of its own."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from relay.apiserver.http.openapi import encoded_v2, encoded_v2_protobuf
from relay.apiserver.objects.kinds import action_kinds, served_kinds
from relay.apiserver.objects.openapi_protobuf import openapi_protobuf

# Numbers and types of fields by OpenAPIv2.proto of gnostic-models.
TEXTS = {1: "$ref", 2: "format", 3: "title", 4: "description", 13: "pattern"}
COUNTS = {11: "maxLength", 12: "minLength", 14: "maxItems", 15: "minItems"}
COUNTS |= {17: "maxProperties", 18: "minProperties"}
FLAGS = {8: "exclusiveMaximum", 10: "exclusiveMinimum", 16: "uniqueItems"}
NUMBERS = {6: "multipleOf", 7: "maximum", 9: "minimum"}


def fields(body: bytes) -> Iterator[tuple[int, Any]]:
    """Read fields of a message: numbers of varints and doubles, bytes of all others."""
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte = body[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    while at < len(body):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        elif key & 7 == 1:
            at += 8
            yield key >> 3, struct.unpack("<d", body[at - 8 : at])[0]
        else:
            assert key & 7 == 2
            size = varint()
            at += size
            yield key >> 3, body[at - size : at]


def one(body: bytes, number: int) -> Any:
    (found,) = (value for field, value in fields(body) if field == number)
    return found


def any_value(body: bytes) -> Any:
    return json.loads(one(body, 2))


def named(body: bytes) -> dict[str, Any]:
    return {
        one(item, 1).decode(): schema(one(item, 2)) for number, item in fields(body) if number == 1
    }


def schema(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, value in fields(body):
        if number in TEXTS:
            found[TEXTS[number]] = value.decode()
        elif number in COUNTS:
            found[COUNTS[number]] = value
        elif number in FLAGS:
            found[FLAGS[number]] = bool(value)
        elif number in NUMBERS:
            found[NUMBERS[number]] = value
        elif number == 5:
            found["default"] = any_value(value)
        elif number == 19:
            found.setdefault("required", []).append(value.decode())
        elif number == 20:
            found.setdefault("enum", []).append(any_value(value))
        elif number == 21:
            ((form, inner),) = fields(value)
            found["additionalProperties"] = schema(inner) if form == 1 else bool(inner)
        elif number == 22:
            found["type"] = one(value, 1).decode()
        elif number == 23:
            found["items"] = schema(one(value, 1))
        elif number == 25:
            found["properties"] = named(value)
        else:
            assert number == 31
            found[one(value, 1).decode()] = any_value(one(value, 2))
    return found


def test_definitions_are_those_of_the_json_form() -> None:
    kinds = (*served_kinds(), *action_kinds())
    document = json.loads(encoded_v2(kinds))
    body = encoded_v2_protobuf(kinds)
    assert one(body, 1) == b"2.0"
    assert one(one(body, 2), 1) == b"relay"
    found = named(one(body, 9))
    assert found == document["definitions"]
    assert "com.datumapis.telemetry.v1alpha1.ExporterPreview" in found


def test_every_field_has_its_number() -> None:
    node: dict[str, Any] = {
        "$ref": "r",
        "format": "f",
        "title": "t",
        "description": "d",
        "pattern": "p",
        "multipleOf": 0.5,
        "maximum": 3.0,
        "minimum": -1.0,
        "exclusiveMaximum": True,
        "exclusiveMinimum": False,
        "maxLength": 300,
        "minLength": 0,
        "maxItems": 1,
        "minItems": 2,
        "uniqueItems": True,
        "maxProperties": 3,
        "minProperties": 4,
        "default": {"a": [1]},
        "required": ["a", "b"],
        "enum": [1, "x"],
        "type": "object",
        "items": {"type": "string"},
        "properties": {"a": {"additionalProperties": True}},
        "additionalProperties": {"type": "integer"},
        "x-kubernetes-anything": [{"a": None}],
    }
    document = {
        "swagger": "2.0",
        "info": {"title": "t", "version": "v"},
        "definitions": {"n": node},
    }
    assert named(one(openapi_protobuf(document), 9)) == {"n": node}


def test_a_field_that_is_not_of_version_2_is_a_bug() -> None:
    document = {
        "swagger": "2.0",
        "info": {"title": "t", "version": "v"},
        "definitions": {"n": {"oneOf": []}},
    }
    with pytest.raises(AssertionError, match="oneOf is no field"):
        openapi_protobuf(document)
