"""Remote write and OTLP that come to the admin listener."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from relay.api.admin import AdminServer
from relay.codec.protobuf import field_bytes
from relay.config.settings.ingest_security import Admin, SenderAuthentication
from relay.config.settings.settings import ListenAddress
from relay.telemetry.registry import Telemetry
from tests.kit.ingest_server import LOOPBACK

PROTOBUF = {"Content-Type": "application/x-protobuf"}
HEADERS = {"/api/v1/write": {}, "/insert/x/prometheus/api/v1/write": {}, "/metrics": PROTOBUF}
TEXT = (
    "this is the admin listener; remote write belongs to the ingest listener, "
    "relay.internal:9490 (setting listen), path /api/v1/write"
)


OTLP = {
    "/v1/metrics": PROTOBUF,
    "/v1/logs": {"Content-Type": "application/json"},
    "/insert/42:7/opentelemetry/v1/traces": PROTOBUF,
}


async def unused(*_arguments: object) -> object:
    """Stand where no page is asked for."""
    raise AssertionError


@asynccontextmanager
async def admin(access: Admin | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    """Give a session with an admin listener."""
    server = AdminServer(
        LOOPBACK,
        Telemetry(),
        not_ready=list,
        degraded=list,
        measure=unused,
        look=unused,
        explain=unused,
        access=access,
        ingest=ListenAddress("relay.internal", 9490),
    )
    await server.start()
    try:
        base = f"http://{server.address.host}:{server.address.port}"
        async with aiohttp.ClientSession(base) as session:
            yield session
    finally:
        await server.stop()


@pytest.mark.parametrize(
    "access", [None, Admin(authentication=SenderAuthentication("bearer", "x"))]
)
async def test_a_sender_is_told_where_it_belongs_and_logged_once(
    caplog: pytest.LogCaptureFixture, access: Admin | None
) -> None:
    async with admin(access) as session:
        with caplog.at_level(logging.WARNING, "relay.receiver"):
            for path, headers in HEADERS.items():
                sent = session.post(path, data=b"x" * 100_000, headers=headers)
                async with sent as response:
                    assert response.status == 404
                    assert await response.text() == f"{TEXT}\n"
        async with session.get("/healthz") as response:
            assert response.status == 200
    (record,) = [one for one in caplog.records if one.name == "relay.receiver"]
    assert record.getMessage() == f"refused a request: {TEXT}"
    assert (record.__dict__["path"], record.__dict__["status"]) == ("/api/v1/write", 404)


async def test_an_otlp_sender_is_told_in_its_own_encoding(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with admin(Admin(authentication=SenderAuthentication("bearer", "x"))) as session:
        with caplog.at_level(logging.WARNING, "relay.receiver"):
            for path, headers in OTLP.items():
                async with session.post(path, data=b"{}", headers=headers) as response:
                    body = await response.read()
                    assert (response.status, response.headers["Content-Type"]) == (
                        404,
                        headers["Content-Type"],
                    )
                    signal = path.rpartition("/")[2]
                    text = TEXT.replace("remote write", "OTLP")
                    text = text.replace("/api/v1/write", f"/v1/{signal}")
                    if headers is PROTOBUF:
                        assert body == b"\x08\x05" + field_bytes(b"\x12", text.encode())
                    else:
                        assert json.loads(body) == {"code": 5, "message": text}
    (record,) = [one for one in caplog.records if one.name == "relay.receiver"]
    assert (record.__dict__["path"], record.__dict__["status"]) == ("/v1/metrics", 404)
