"""A listener that stops closes each connection, also one that was accepted a moment before."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web

from relay.config.settings.settings import ListenAddress
from relay.receiver.http.listener import Listener, UsualService
from relay.receiver.http.whole_answer import WholeAnswer
from tests.kit.http.closing import settle
from tests.unit.test_kit_servers import is_over


async def missing(_: web.BaseRequest) -> WholeAnswer:
    return WholeAnswer(404, {})


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("usual", [None, UsualService(lambda _method, _path: True)])
async def test_a_connection_just_accepted_is_closed_at_once(
    usual: UsualService | None, turns: int
) -> None:
    listener = Listener(missing, ListenAddress("127.0.0.1", 0), setting="listen", usual=usual)
    await listener.start()
    with socket.socket() as client:
        client.connect(("127.0.0.1", listener.address.port))
        for _ in range(turns):
            await asyncio.sleep(0)
        await listener.stop()
        await settle()
        client.settimeout(0.2)
        assert is_over(client)
