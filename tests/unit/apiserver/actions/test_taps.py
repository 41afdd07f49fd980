"""Taps: of the project's running sinks, for admins, where the operator allows it, and bounded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from relay.codec.otlp.batch import SealedBatch
from tests.kit.apiserver.projects import ActingApi, acting_api, causes, exporter
from tests.kit.apiserver.running import ADMIN, EDITOR, VIEWER
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.processes import eventually
from tests.kit.remote_write import raw
from tests.own_time import patience

PATH = "/projects/acme/apis/telemetry.datumapis.com/v1alpha1/namespaces/default/exporters/web/tap"


def batch() -> SealedBatch:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=100))
    rig.feed(raw.text_series({"__name__": "up", "job": "a"}, (7.0, 10**12)))
    rig.flush()
    (sealed,) = sink.sealed
    return sealed


@asynccontextmanager
async def opened(
    api: ActingApi, query: str, token: str = ADMIN
) -> AsyncIterator[aiohttp.ClientResponse]:
    user = api.user(token)
    async with user._session.get(
        api.api.url + PATH + query, headers=user._headers, ssl=user._ca
    ) as response:
        yield response


async def stored(api: ActingApi) -> Any:
    """Store the exporter that runs; return the worker of its sink."""
    await api.store(exporter("web", "up"))
    return api.projects.workers["acme/default/web", "one"]


async def test_points_come_as_they_are_handed_over(tmp_path: Path) -> None:
    async with acting_api(tmp_path) as api:
        worker = await stored(api)
        async with opened(api, "?points=1") as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "application/x-ndjson"
            await eventually("the tap is open", lambda: worker.tap is not None, timeout_s=5)
            worker.tap(batch())
            point, end = [json.loads(line) async for line in response.content]
        assert (point["event"], point["metric"], point["value"]) == ("point", "up", "7.0")
        assert point["resource"]["service.name"] == "a"
        assert end == {"event": "end", "batches": 1, "points": 1, "shown": 1, "unit": "points"}
        assert worker.tap is None


async def test_a_client_that_goes_ends_it(tmp_path: Path) -> None:
    async with acting_api(tmp_path) as api:
        worker = await stored(api)
        async with opened(api, "?seconds=60") as response:
            await eventually("the tap is open", lambda: worker.tap is not None, timeout_s=5)
            async with opened(api, "") as other:
                assert other.status == 429
                status = await other.json()
                assert status["reason"] == "TooManyRequests"
            response.close()
        await eventually("it has ended", lambda: worker.tap is None, timeout_s=5)


async def test_the_server_ends_it_when_it_stops(tmp_path: Path) -> None:
    async with acting_api(tmp_path) as api:
        worker = await stored(api)
        async with opened(api, "?seconds=60") as response:
            await eventually("the tap is open", lambda: worker.tap is not None, timeout_s=5)
            api.api.server.service.close()
            async with patience(5):
                assert await response.read() == b""
            assert worker.tap is None


async def test_roles_and_permission(tmp_path: Path) -> None:
    async with acting_api(tmp_path, taps=False) as api:
        await stored(api)
        for token in (VIEWER, EDITOR):
            code, status = await api.user(token).ask("GET", PATH)
            assert (code, status["reason"]) == (403, "Forbidden")
            assert 'cannot get resource "exporters/tap"' in status["message"]
        code, status = await api.user(ADMIN).ask("GET", PATH)
        assert (code, status["reason"]) == (403, "Forbidden")
        assert "admin.tap: is false: the operator does not allow taps" in status["message"]
        neighbour = api.user("token-of-secretive")
        assert (await neighbour.ask("GET", PATH))[0] == 403


async def test_what_cannot_be_tapped(tmp_path: Path) -> None:
    async with acting_api(tmp_path) as api:
        await stored(api)
        await api.store(exporter("idle", "up"))
        admin = api.user(ADMIN)
        for method in ("POST", "PUT", "PATCH", "DELETE", "HEAD"):
            assert (await admin.ask(method, PATH, {} if method != "HEAD" else None))[0] == 405
        code, status = await admin.ask("GET", PATH.replace("/web/", "/none/"))
        assert (code, status["reason"]) == (404, "NotFound")
        code, status = await admin.ask("GET", PATH.replace("/web/", "/idle/"))
        assert (code, status["message"]) == (400, "exporters idle does not run")
        assert (await admin.ask("GET", PATH.replace("exporters", "exportpolicies")))[0] == 404
        for query, field in (
            ("?seconds=0", "seconds"),
            ("?seconds=61", "seconds"),
            ("?seconds=-1", "seconds"),
            ("?seconds=1e9", "seconds"),
            ("?points=1001", "points"),
            ("?points=x", "points"),
            ("?sink=two", "sink"),
        ):
            code, status = await admin.ask("GET", PATH + query)
            assert (code, causes(status)) == (422, [(field, "FieldValueInvalid")])
        code, _ = await admin.ask("GET", PATH.replace("/acme/", "/*/"))
        assert code == 403
