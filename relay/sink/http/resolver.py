"""Name resolution on threads of its own.

Endpoints' names are customers' input, and a name server that never answers holds a thread for as
long as the system's resolver is patient (10 s and more). The event loop's own pool has four threads
(libuv) or a few more (asyncio) and serves others too; this one is for endpoints alone, and wide
enough that dozens of such names at once do not delay others. ``aiohttp`` caches answers and asks
once for concurrent requests.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypedDict

RESOLVER_THREADS_MAX = 64


class ResolveResult(TypedDict):
    """One address of a host, numeric."""

    hostname: str
    host: str
    port: int
    family: int
    proto: int
    flags: int


class NameResolver(Protocol):
    """Asks for addresses, as those of aiohttp do, which is not imported for the sake of a type."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return every address of a host. Raises OSError."""
        ...

    async def close(self) -> None:
        """Release what it holds."""


class ThreadedResolver:
    """``getaddrinfo`` on a private thread pool; answers are numeric."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS_MAX, thread_name_prefix="relay-dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every stream address of a host, in the system's order of preference. Raises OSError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _lookup, host, port, family)

    async def close(self) -> None:
        """Forget what waits; a lookup that runs ends in its own time."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _lookup(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    # A str goes through the codec idna, which takes 1 MiB.
    name = host.encode("ascii") if host.isascii() else host
    try:
        found = socket.getaddrinfo(
            name, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
    except UnicodeError as error:
        # A label over 63 characters or an empty one fails in the codec, not in the resolver.
        raise socket.gaierror(socket.EAI_NONAME, "not a valid host name") from error
    results = []
    for each_family, _, protocol, _, address in found:
        # Python without IPv6 support returns address tuples that cannot be connected to.
        if not isinstance(address[0], str):
            continue
        scope = f"%{address[3]}" if len(address) == 4 and address[3] else ""
        results.append(
            ResolveResult(
                hostname=host,
                host=address[0].partition("%")[0] + scope,
                port=int(address[1]),
                family=each_family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
        )
    return results
