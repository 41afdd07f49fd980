"""Records of OTLP requests as bytes: written with fields in odd places, read without a decoder.

The official classes put unknown fields behind all others, so that they cannot tell whether bytes
changed. Nothing of ``relay.codec`` may be imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

RESOURCE, CHILDREN = 1, 2
_FIXED_BYTES = {1: 8, 5: 4}


class RawRecord(NamedTuple):
    """A record and all fields of its resource and scope but the nested ones, as on the wire."""

    resource: bytes
    scope: bytes
    record: bytes


def varint(number: int) -> bytes:
    """Return a number as protobuf writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def nested(number: int, payload: bytes) -> bytes:
    """Return a field with a message, a text or bytes."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def written(resource: bytes, scopes: Iterable[tuple[bytes, Iterable[bytes]]]) -> bytes:
    """Return a request's one resource; each head stands in front of what is nested in it."""
    children = b""
    for scope, records in scopes:
        own = b"".join(nested(CHILDREN, record) for record in records)
        children += nested(CHILDREN, scope + own)
    return nested(RESOURCE, resource + children)


def raw_records(body: bytes) -> Iterator[RawRecord]:
    """Yield every record of a decompressed request of logs or traces, in order."""
    for number, resource, _ in _fields(body):
        if number != RESOURCE:
            continue
        head, scopes = _split(resource)
        for scope in scopes:
            scope_head, records = _split(scope)
            for record in records:
                yield RawRecord(head, scope_head, record)


def _split(message: bytes) -> tuple[bytes, list[bytes]]:
    """Return the fields of a resource or a scope but the nested ones, and those."""
    head, children = b"", []
    for number, payload, whole in _fields(message):
        if number == CHILDREN:
            children.append(payload)
        else:
            head += whole
    return head, children


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield number, payload and the whole of each field."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        kind = tag & 7
        begin = at
        if kind == 2:
            size, begin = _varint(message, at)
            at = begin + size
        elif kind == 0:
            _, at = _varint(message, at)
        else:
            at += _FIXED_BYTES[kind]
        assert at <= len(message), "a field ends behind its message"
        yield tag >> 3, message[begin:at], message[start:at]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at
