"""Requests of OTLP metrics that cost as much as a request may at a scale of 10."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

from relay.codec.protobuf import field_bytes


def message(tag: int, payload: bytes) -> bytes:
    """Return a field with a message."""
    return field_bytes(bytes((tag,)), payload)


def attribute(tag: int, key: bytes, value: bytes) -> bytes:
    """Return a KeyValue with a text, as a field."""
    return message(tag, field_bytes(b"\x0a", key) + message(0x12, field_bytes(b"\x0a", value)))


CUMULATIVE = b"\x10\x02"


def now() -> bytes:
    """Return the present time as a field of a point."""
    return b"\x19" + struct.pack("<Q", time.time_ns())


def number(attributes: bytes = b"", more: bytes = b"") -> bytes:
    """Return a number point as a field of a metric's data."""
    return message(0x0A, attributes + now() + b"\x21" + bytes(8) + more)


def sum_of(points: bytes, name: bytes = b"m") -> bytes:
    """Return a cumulative sum that counts up, as a field of a scope."""
    return message(
        0x12, field_bytes(b"\x0a", name) + message(0x3A, points + CUMULATIVE + b"\x18\x01")
    )


def histogram(points: bytes) -> bytes:
    """Return a cumulative histogram as a field of a scope."""
    return message(0x12, field_bytes(b"\x0a", b"h") + message(0x4A, points + CUMULATIVE))


def request(metrics: bytes, name: bytes = b"svc", scopes: bytes = b"") -> bytes:
    """Return a resource as a field of a request."""
    own = message(0x0A, attribute(0x0A, b"service.name", name))
    return message(0x0A, own + (scopes or message(0x12, metrics)))


def unique(count: int) -> list[bytes]:
    """Return so many numbers that no request had before."""
    began = time.perf_counter_ns()
    return [b"%d" % (began + at) for at in range(count)]


def new_streams(scale: int) -> bytes:
    return request(
        sum_of(b"".join(number(attribute(0x3A, b"n", one)) for one in unique(4_500 * scale)))
    )


def new_metrics(scale: int) -> bytes:
    return request(b"".join(sum_of(number(), b"m" + one) for one in unique(3_000 * scale)))


def new_resources(scale: int) -> bytes:
    return b"".join(request(sum_of(number()), one) for one in unique(3_000 * scale))


def known_points(scale: int) -> bytes:
    return request(sum_of(number() * 30_000 * scale))


def many_attributes(scale: int) -> bytes:
    more = b"".join(attribute(0x3A, b"k%d" % at, b"v") for at in range(100))
    return request(sum_of(number(more) * 800 * scale))


def scattered_attributes(scale: int) -> bytes:
    more = b"".join(attribute(0x3A, b"k%d" % at, b"v") + b"\xf8\x3f\x01" for at in range(1_000))
    return request(sum_of(number(more) * (50 * scale)))


def faulty_points(scale: int) -> bytes:
    large = attribute(0x3A, b"k", b"x" * 20_000)
    return request(sum_of(b"".join(number(large) for _ in range(80 * scale))))


def large_points(scale: int) -> bytes:
    return request(sum_of(number(more=field_bytes(b"\xfa\x3f", bytes(1_000_000))) * (3 * scale)))


def many_buckets(scale: int) -> bytes:
    bounds = struct.pack("<19999d", *range(19_999))
    counts = struct.pack("<20000Q", *([1] * 20_000))
    point = now() + b"\x21" + struct.pack("<Q", 20_000) + field_bytes(b"\x32", counts)
    return request(histogram(message(0x0A, point + field_bytes(b"\x3a", bounds)) * (6 * scale)))


def many_exemplars(scale: int) -> bytes:
    own = b"\x11" + bytes(8) + b"\x19" + bytes(8) + attribute(0x3A, b"k", b"v")
    return request(sum_of(number(more=message(0x2A, own) * 20_000) * (2 * scale)))


def two_kinds(scale: int) -> bytes:
    metric = field_bytes(b"\x0a", b"m")
    for _ in range(200 * scale):
        metric += message(0x2A, number() * 10) + message(0x3A, number() * 10 + CUMULATIVE)
    return request(message(0x12, metric))


def empty_parts(scale: int) -> bytes:
    return message(0x0A, message(0x12, message(0x12, b"") * (48_000 * scale)))


def deep_values(scale: int) -> bytes:
    value = field_bytes(b"\x0a", b"x")
    for _ in range(40):
        value = message(0x2A, message(0x0A, value))
    one = message(0x3A, field_bytes(b"\x0a", b"k") + message(0x12, value))
    return request(
        sum_of(b"".join(number(one + attribute(0x3A, b"n", at)) for at in unique(50 * scale)))
    )


SHAPES: dict[str, Callable[[int], bytes]] = {
    one.__name__: one
    for one in (
        new_streams,
        new_metrics,
        new_resources,
        known_points,
        many_attributes,
        scattered_attributes,
        faulty_points,
        large_points,
        many_buckets,
        many_exemplars,
        two_kinds,
        empty_parts,
        deep_values,
    )
}
