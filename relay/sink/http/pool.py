"""The connections of one client: those that are open, and which of them are idle."""

from __future__ import annotations

import asyncio

from relay.sink.http.connection import Connection
from relay.sink.http.request_head import Origin

KEEPALIVE_S = 30.0
"""Longer than the default batch timeout, shorter than gateways' usual idle timeout (60 s)."""


class ConnectionPool:
    """Keeps idle connections for :data:`KEEPALIVE_S`, the latest used first out.

    No limit on connections here: each sink has at most ``concurrency`` requests under way, and a
    common limit would let endpoints that never answer starve the others.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: set[Connection] = set()
        self._idle: dict[Origin, list[Connection]] = {}
        self._since: dict[Connection, tuple[float, Origin]] = {}
        """Time at which each idle connection was added (the loop's clock, s), oldest first."""
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        self._empty: asyncio.Future[None] | None = None

    @property
    def closed(self) -> bool:
        """True once :meth:`close` was called."""
        return self._closed

    def take(self, origin: Origin) -> Connection | None:
        """Take an idle connection to an origin out of the pool, if there is one."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            del self._since[connection]
            if connection.reusable:
                return connection
            connection.close()
        return None

    def put(self, origin: Origin, connection: Connection) -> None:
        """Keep a connection that may carry another request."""
        if self._closed:
            connection.abort()
            return
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle[origin] = []
        idle.append(connection)
        self._since[connection] = self._loop.time(), origin
        if self._sweep is None:
            self._sweep = self._loop.call_later(KEEPALIVE_S, self._close_expired)

    def opened(self, connection: Connection) -> None:
        """Count a new connection; it is not idle."""
        self._open.add(connection)
        if self._closed:
            connection.abort()

    def lost(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._open.discard(connection)
        self._remove(connection)
        if not self._open and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    async def close(self) -> None:
        """Close every connection, those in use too, and wait until they are closed."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if not self._open:
            return
        if self._empty is None:
            self._empty = self._loop.create_future()
        for connection in tuple(self._open):
            connection.abort()
        await asyncio.shield(self._empty)

    def _remove(self, connection: Connection) -> None:
        since = self._since.pop(connection, None)
        if since is None:
            return
        origin = since[1]
        idle = self._idle[origin]
        idle.remove(connection)
        if not idle:
            del self._idle[origin]

    def _close_expired(self) -> None:
        self._sweep = None
        now = self._loop.time()
        for connection, (since, _) in list(self._since.items()):
            if since + KEEPALIVE_S > now:
                self._sweep = self._loop.call_at(since + KEEPALIVE_S, self._close_expired)
                break
            self._remove(connection)
            connection.close()
        # Lists that requests emptied are kept for the next answer, but not for ever.
        for origin in [origin for origin, idle in self._idle.items() if not idle]:
            del self._idle[origin]

    def __repr__(self) -> str:
        return f"<ConnectionPool {len(self._open)} open, {len(self._since)} idle>"
