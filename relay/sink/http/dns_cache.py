"""Caches addresses of hosts; concurrent lookups of one host are made once."""

from __future__ import annotations

import asyncio
import socket
from typing import NamedTuple

from relay.sink.http.resolver import NameResolver

HOSTS_MAX = 4096
"""Hosts that are remembered; more are asked for again each time."""


class ResolvedAddress(NamedTuple):
    """A numeric address; ``host`` may have an IPv6 scope."""

    family: int
    host: str
    port: int


class _Entry(NamedTuple):
    expires: float
    addresses: list[ResolvedAddress]


class DnsCache:
    """Asks ``resolver``, which stays the caller's; answers are kept for ``ttl_s``."""

    def __init__(self, resolver: NameResolver, *, ttl_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._resolver = resolver
        self._ttl_s = ttl_s
        self._entries: dict[tuple[str, int], _Entry] = {}
        """Ordered by expiry."""
        self._asked: dict[tuple[str, int], asyncio.Task[_Entry]] = {}

    async def lookup(self, host: str, port: int) -> list[ResolvedAddress]:
        """Return a host's addresses, each time beginning with the next one. Raises OSError."""
        key = host, port
        entry = self._entries.get(key)
        if entry is None or entry.expires <= self._loop.time():
            task = self._asked.get(key)
            if task is None:
                task = self._loop.create_task(self._ask(key))
                self._asked[key] = task
                task.add_done_callback(_retrieve)
            # A request that gives up does not take the answer from those that wait, too.
            entry = await self._wait(task)
        addresses = list(entry.addresses)
        entry.addresses.append(entry.addresses.pop(0))
        return addresses

    async def _wait(self, task: asyncio.Task[_Entry]) -> _Entry:
        """Wait for an answer that others wait for, too."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if task.cancelled() and waiting is not None and not waiting.cancelling():
                raise socket.gaierror(socket.EAI_AGAIN, "the client was closed") from None
            raise

    async def close(self) -> None:
        """Cancel running lookups; their waiters get an OSError."""
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, key: tuple[str, int]) -> _Entry:
        try:
            found = await self._resolver.resolve(*key, family=socket.AF_UNSPEC)
        finally:
            del self._asked[key]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "it has no address")
        now = self._loop.time()
        addresses = [ResolvedAddress(each["family"], each["host"], each["port"]) for each in found]
        entry = _Entry(now + self._ttl_s, addresses)
        self._entries.pop(key, None)
        for old in list(self._entries):
            if self._entries[old].expires > now:
                break
            del self._entries[old]
        if self._ttl_s > 0 and len(self._entries) < HOSTS_MAX:
            self._entries[key] = entry
        return entry


def _retrieve(task: asyncio.Task[_Entry]) -> None:
    """Mark an error as seen, where every request that wanted the answer gave up."""
    if not task.cancelled():
        task.exception()
