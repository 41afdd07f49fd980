"""Addresses are kept, asked for once, turned round, and never forgotten because one gave up."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from relay.sink.http.dns_cache import HOSTS_MAX, DnsCache


class Names(AbstractResolver):
    """Answers when ``answer`` is set."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked = 0
        self.answer = asyncio.Event()
        self.answer.set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked += 1
        await self.answer.wait()
        if host == "none.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            ResolveResult(hostname=host, host=each, port=port, family=family, proto=0, flags=0)
            for each in self.addresses
        ]

    async def close(self) -> None:
        """Nothing to close."""


async def hosts(cache: DnsCache, name: str = "a.test") -> list[str]:
    return [each.host for each in await cache.lookup(name, 443)]


async def test_addresses_are_kept_and_turned_round() -> None:
    names = Names("192.0.2.1", "192.0.2.2", "192.0.2.3")
    cache = DnsCache(names, ttl_s=60)
    assert [(await hosts(cache))[0] for _ in range(4)] == [
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
        "192.0.2.1",
    ]
    assert sorted(await hosts(cache)) == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert names.asked == 1


async def test_a_question_that_one_gave_up_is_answered_to_the_others() -> None:
    names = Names("192.0.2.1")
    names.answer.clear()
    cache = DnsCache(names, ttl_s=60)
    first, second = (asyncio.create_task(hosts(cache)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    names.answer.set()
    assert await second == ["192.0.2.1"]
    assert first.cancelled()
    assert names.asked == 1


async def test_failures_are_not_kept() -> None:
    names = Names()
    cache = DnsCache(names, ttl_s=60)
    for name in ("none.test", "none.test", "empty.test"):
        with pytest.raises(socket.gaierror):
            await hosts(cache, name)
    assert names.asked == 3


async def test_the_cache_is_bounded_and_closes() -> None:
    names = Names("192.0.2.1")
    cache = DnsCache(names, ttl_s=60)
    for number in range(HOSTS_MAX + 10):
        await hosts(cache, f"{number}.test")
    assert names.asked == HOSTS_MAX + 10
    await hosts(cache, "1.test")
    assert names.asked == HOSTS_MAX + 10
    await hosts(cache, f"{HOSTS_MAX + 5}.test")
    assert names.asked == HOSTS_MAX + 11, "not remembered: there was no room"
    names.answer.clear()
    waiting = asyncio.create_task(hosts(cache, "last.test"))
    await asyncio.sleep(0)
    await cache.close()
    with pytest.raises(socket.gaierror, match="closed"):
        await waiting
