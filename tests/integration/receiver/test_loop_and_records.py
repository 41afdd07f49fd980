"""No OTLP request within the limits holds the event loop, whatever its resources and records."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
import zstandard

from relay.codec.protobuf import field_bytes
from tests.integration.receiver.test_loop_is_never_held import Send, asking_relay, too_long
from tests.kit.exporter_yaml import exporter_of

pytestmark = pytest.mark.alone


def message(tag: int, payload: bytes) -> bytes:
    """Return a field with a message."""
    return field_bytes(bytes((tag,)), payload)


def text(field: bytes, value: bytes) -> bytes:
    return field_bytes(field, value)


def attribute(tag: int, key: bytes, value: bytes) -> bytes:
    """Return a KeyValue with a text, as a field."""
    return message(tag, text(b"\x0a", key) + message(0x12, text(b"\x0a", value)))


def record(body: bytes = b"x", more: bytes = b"") -> bytes:
    """Return a log record as a field of a scope."""
    return message(0x12, b"\x10\x11" + message(0x2A, text(b"\x0a", body)) + more)


def resource(name: bytes, scopes: bytes) -> bytes:
    """Return a resource as a field of a request."""
    return message(0x0A, message(0x0A, attribute(0x0A, b"service.name", name)) + scopes)


def many_resources() -> bytes:
    scope = message(0x12, record())
    return b"".join(resource(b"svc-%d" % number, scope) for number in range(30_000))


def many_scopes() -> bytes:
    scopes = [
        message(0x12, message(0x0A, text(b"\x0a", b"%d" % number)) + record())
        for number in range(60_000)
    ]
    return resource(b"svc", b"".join(scopes))


def many_records() -> bytes:
    return resource(b"svc", message(0x12, record() * 400_000))


def many_attributes() -> bytes:
    more = b"".join(attribute(0x32, b"k%d" % number, b"v") for number in range(50))
    return resource(b"svc", message(0x12, record(more=more) * 20_000))


def large_lines() -> bytes:
    return resource(b"svc", message(0x12, record(b"ab" * 8_000) * 1_000))


def large_records() -> bytes:
    return resource(b"svc", message(0x12, record(bytes(3 << 20)) * 9))


def large_heads() -> bytes:
    return resource(bytes(1_000_000), message(0x12, record())) * 25


SHAPES: dict[str, Callable[[], bytes]] = {
    one.__name__: one
    for one in (
        many_resources,
        many_scopes,
        many_records,
        many_attributes,
        large_lines,
        large_records,
        large_heads,
    )
}


def exporters() -> str:
    """An Exporter that takes all records, and some that ask something of each of them."""
    selectors = {
        "all": "",
        "attributes": '{level="x" or k49!="v"}',
        "lines": '{} |~ "(a?b?){300}c" != "zz"',
    }
    return exporter_of(
        "all",
        [{"name": name, "logs": {"selector": one}} for name, one in selectors.items()],
        [{"name": "sink", "otlp_http": {"endpoint": "http://127.0.0.1:9"}}],
    )


def post(url: str, body: bytes, headers: dict[str, str]) -> Send:
    """A request that was made before anything is measured."""

    async def send() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=io.BytesIO(body), headers=headers) as answer,
        ):
            await answer.read()
            assert answer.status in (200, 400, 503)

    return send


@pytest.mark.parametrize("name", SHAPES)
async def test_logs(name: str, tmp_path: Path) -> None:
    packed = zstandard.compress(SHAPES[name](), 1)
    headers = {"Content-Encoding": "zstd", "Content-Type": "application/x-protobuf"}
    async with asking_relay(tmp_path, exporters()) as (url, admin):
        to = url.replace("/api/v1/write", "/v1/logs")
        assert not await too_long(admin, lambda: post(to, packed, headers), name)


async def test_json(tmp_path: Path) -> None:
    one = {"timeUnixNano": "1", "body": {"kvlistValue": {"values": []}}, "attributes": []}
    document = {"resourceLogs": [{"scopeLogs": [{"logRecords": [one] * 40_000}]}]}
    body, headers = json.dumps(document).encode(), {"Content-Type": "application/json"}
    async with asking_relay(tmp_path, exporters()) as (url, admin):
        to = url.replace("/api/v1/write", "/v1/logs")
        assert not await too_long(admin, lambda: post(to, body, headers), "json")
