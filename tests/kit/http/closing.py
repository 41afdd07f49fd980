"""The end of servers of tests: no connection is left open, also none that was just accepted.

asyncio takes some turns of its loop from accepting a connection to telling of it. A server that is
closed in between loses the socket, and the warning fails another test.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

_TURNS = 5


async def stop_accepting(server: asyncio.Server) -> None:
    """Listen no more; all that was accepted has its protocol."""
    loop = asyncio.get_running_loop()
    for one in server.sockets:
        loop.remove_reader(one.fileno())
    await settle()
    server.close()


async def settle() -> None:
    """Let each connection that was accepted, or is closing, be told of."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


async def clean_up(runner: web.BaseRunner) -> None:
    """Stop listening and close every connection of aiohttp's server."""
    for site in list(runner.sites):
        assert isinstance(site._server, asyncio.Server)
        await stop_accepting(site._server)
    assert runner.server is not None
    transports = [one.transport for one in runner.server.connections]
    await runner.cleanup()
    for transport in transports:
        if transport is not None:  # closing, it would wait for a client that does not read
            transport.abort()
    await settle()
