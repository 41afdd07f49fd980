"""Pages that are open in browsers, as the relay sees them: sessions and server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import aiohttp

from tests.own_time import patience

TIMEOUT: Final = aiohttp.ClientTimeout(None)


class OpenPages:
    """Pages of several users, in turn; ``events`` counts the parts that have come to all."""

    def __init__(self, url: str, sessions: Sequence[aiohttp.ClientSession]) -> None:
        self._url = url
        self._sessions = sessions
        self._tasks: list[asyncio.Task[None]] = []
        self.events = 0

    def __len__(self) -> int:
        return len(self._tasks)

    async def open(self, *paths: str) -> None:
        """Read pages, and follow what moves on them until the end."""
        await asyncio.gather(*(self._open(number, path) for number, path in enumerate(paths)))

    async def _open(self, number: int, path: str) -> None:
        session = self._sessions[number % len(self._sessions)]
        async with session.get(self._url + path, ssl=False) as answer:
            text = await answer.text()
            assert answer.status == 200, text
        live = text.partition('data-live="')[2].partition('"')[0].replace("&amp;", "&")
        opened = asyncio.Event()
        self._tasks.append(asyncio.create_task(self._follow(session, live, opened)))
        async with patience(30):
            await opened.wait()

    async def _follow(
        self, session: aiohttp.ClientSession, live: str, opened: asyncio.Event
    ) -> None:
        headers = {"Accept": "text/event-stream"}
        async with session.get(
            self._url + live, headers=headers, ssl=False, timeout=TIMEOUT
        ) as answer:
            assert answer.status == 200, await answer.text()
            opened.set()
            async for line in answer.content:
                self.events += line.startswith(b"data:")

    def check(self) -> None:
        """Fail if a stream has ended."""
        for task in self._tasks:
            assert not task.done(), task

    async def close(self) -> None:
        """Close all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def open_pages(url: str, tokens: Sequence[str]) -> AsyncIterator[OpenPages]:
    """Log users in, by their tokens, for the duration of the block."""
    async with AsyncExitStack() as stack:
        sessions = []
        for token in tokens:
            session = aiohttp.ClientSession(
                cookie_jar=aiohttp.CookieJar(unsafe=True),
                connector=aiohttp.TCPConnector(limit=0),
            )
            sessions.append(await stack.enter_async_context(session))
            async with session.post(
                f"{url}/ui/login",
                data={"token": token},
                headers={"Origin": url},
                ssl=False,
                allow_redirects=False,
            ) as answer:
                assert answer.status == 303, await answer.text()
        pages = OpenPages(url, sessions)
        stack.push_async_callback(pages.close)
        yield pages
