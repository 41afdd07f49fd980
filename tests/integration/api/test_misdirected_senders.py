"""Remote write that comes to the admin listener."""

from __future__ import annotations

import logging

import aiohttp
import pytest

from relay.api.admin import AdminServer
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


async def unused(*_arguments: object) -> object:
    """Stand where no page is asked for."""
    raise AssertionError


@pytest.mark.parametrize(
    "access", [None, Admin(authentication=SenderAuthentication("bearer", "x"))]
)
async def test_a_sender_is_told_where_it_belongs_and_logged_once(
    caplog: pytest.LogCaptureFixture, access: Admin | None
) -> None:
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
            with caplog.at_level(logging.WARNING, "relay.receiver"):
                for path, headers in HEADERS.items():
                    sent = session.post(path, data=b"x" * 100_000, headers=headers)
                    async with sent as response:
                        assert response.status == 404
                        assert await response.text() == f"{TEXT}\n"
            async with session.get("/healthz") as response:
                assert response.status == 200
    finally:
        await server.stop()
    (record,) = [one for one in caplog.records if one.name == "relay.receiver"]
    assert record.getMessage() == f"refused a request: {TEXT}"
    assert (record.__dict__["path"], record.__dict__["status"]) == ("/api/v1/write", 404)
