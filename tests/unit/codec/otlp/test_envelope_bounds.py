"""A request of OTLP has at most so many messages, empty ones among them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import pytest

from relay.codec.otlp.envelope import scan
from relay.codec.otlp.metrics_in.scan import scan_metrics
from relay.codec.protobuf import field_bytes
from relay.runtime.errors import DecodeError, TooLargeError


def within(*tags: bytes) -> bytes:
    """Return an empty message within messages of these tags, the innermost last."""
    body = b""
    for tag in reversed(tags):
        body = field_bytes(tag, body)
    return body


RESOURCE, CHILD, GAUGE, POINT = b"\x0a", b"\x12", b"\x2a", b"\x0a"


@pytest.mark.parametrize("scanned", [scan, scan_metrics], ids=["records", "metrics"])
@pytest.mark.parametrize("path", [(RESOURCE,), (RESOURCE, CHILD)], ids=["resources", "scopes"])
def test_empty_messages_count(scanned: Callable[..., Any], path: tuple[bytes, ...]) -> None:
    body = within(*path) * 10
    entries = 10 * len(path)
    assert scanned(body, entries_max=entries).count == 0
    with pytest.raises(TooLargeError, match=f"over {entries - 1} resources, scopes, metrics"):
        scanned(body, entries_max=entries - 1)


@pytest.mark.parametrize(
    ("scanned", "path"),
    [(scan, (RESOURCE, CHILD, CHILD)), (scan_metrics, (RESOURCE, CHILD, CHILD, GAUGE, POINT))],
    ids=["records", "metrics"],
)
def test_records_and_points_count(scanned: Callable[..., Any], path: tuple[bytes, ...]) -> None:
    body = within(*path) * 100
    entries = 300 if scanned is scan else 400  # the data of a metric is no message of its own
    assert scanned(body, entries_max=entries).count == 100
    with pytest.raises(TooLargeError, match=f"over {entries - 1} resources, scopes, metrics"):
        scanned(body, entries_max=entries - 1)


@pytest.mark.parametrize("scanned", [scan, scan_metrics], ids=["records", "metrics"])
@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"resourceLogs": []}', "the body is JSON: send it with Content-Type: application/json"),
        (gzip.compress(b"x"), "the body is gzip: send it with Content-Encoding: gzip"),
        (b"\x1f", "wire type 7 is not used by proto3"),
        (b"\x1f\x00", "wire type 7 is not used by proto3"),
        (b"\x0a\x02{}", "wire type 3 is not used by proto3"),
    ],
    ids=["json", "gzip", "a byte", "other", "inside"],
)
def test_a_body_of_another_form_is_told(
    scanned: Callable[..., Any], body: bytes, told: str
) -> None:
    with pytest.raises(DecodeError, match=told):
        scanned(body)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 70_000])
def test_records_of_every_width_of_length_are_found(size: int) -> None:
    records = [field_bytes(b"\x12", bytes([number]) * size) for number in range(100)]
    scope = field_bytes(b"\x12", b"".join(records))
    envelope = scan(field_bytes(b"\x0a", scope))
    assert envelope.resources == [(b"", [(b"", 0, 100)])]
    assert [envelope.record(number) for number in range(100)] == [
        bytes([number]) * size for number in range(100)
    ]
    assert envelope.record_bytes(0, 100) == sum(map(len, records))


def test_a_length_with_more_bytes_than_it_needs_is_read() -> None:
    scope = field_bytes(b"\x12", b"\x12\x82\x00ab" + b"\x12\x83\x80\x00abc" + b"\x12\x01z")
    envelope = scan(field_bytes(b"\x0a", scope))
    assert [envelope.record(number) for number in range(envelope.count)] == [b"ab", b"abc", b"z"]


@pytest.mark.parametrize("record", [b"\x12\x03ab", b"\x12\x80", b"\x12\xff\x7fab", b"\x12"])
def test_a_record_beyond_its_scope_is_told_where_it_is(record: bytes) -> None:
    whole = b"\x12\x01z" * 3
    body = field_bytes(b"\x0a", field_bytes(b"\x12", whole + record))
    with pytest.raises(DecodeError) as caught:
        scan(body)
    assert caught.value.offset is not None
    assert caught.value.offset >= len(body) - len(record)
