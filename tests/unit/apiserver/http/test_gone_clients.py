"""Clients that do not wait for their answer."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.kit.apiserver.running import ADMIN, EXPORTERS, local_api
from tests.kit.processes import eventually


@pytest.mark.parametrize("query", ["", "?watch=true"])
async def test_a_client_that_is_gone_is_no_error(
    tmp_path: Path,
    query: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    prepare = web.StreamResponse.prepare

    async def prepare_late(self: web.StreamResponse, request: web.BaseRequest) -> Any:
        if request.path == EXPORTERS and request.transport is not None:
            request.transport.abort()
            await asyncio.sleep(0)
        return await prepare(self, request)

    monkeypatch.setattr(web.StreamResponse, "prepare", prepare_late)
    async with local_api(tmp_path) as api:
        with pytest.raises(Exception, match=r"disconnected|reset"):
            await api.user(ADMIN).ask("GET", EXPORTERS + query)

        def is_counted() -> bool:
            found = api.server.statistics()
            assert found is not None
            return found.requests + found.watches == 0 and bool(found.answers)

        await eventually("the request has ended", is_counted, timeout_s=5)
        assert (await api.user(ADMIN).ask("GET", "/version"))[0] == 200
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
