"""Streams of parts: what is sent, to how many, and when they end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web

from relay.apiserver.access.principals import Principal
from relay.ui import live
from relay.ui.api_calls import ApiProblemError
from relay.ui.live import (
    STREAMS_OF_USER_MAX,
    LiveStreams,
    OncePerTick,
    Part,
    RowCache,
    digest_of,
)
from tests.kit.apiserver.running import EDITOR, EXPORTERS, VIEWER, exporter, tokens
from tests.kit.http.closing import clean_up
from tests.kit.ui.visitor import local_pages, ready, set_status
from tests.own_time import patience


def test_a_row_is_kept_for_its_tick() -> None:
    cache = RowCache()
    cache.put(("p", "a"), 1, "one")
    assert cache.get(("p", "a"), 1) == "one"
    assert cache.get(("q", "a"), 1) is None
    assert cache.get(("p", "a"), 2) is None
    cache.put(("p", "b"), 2, "two")
    assert cache.get(("p", "a"), 2) is None
    assert len(digest_of("x")) == 6


async def test_ticks_are_the_clocks_and_end() -> None:
    now = 12.0
    streams = LiveStreams(lambda: now, tick_s=5.0)
    seen = []
    async for tick in streams.ticks():
        seen.append(tick)
        now += 5
        if len(seen) == 2:
            streams.close()
    assert seen == [2, 3]


async def test_only_what_has_changed_is_sent(tmp_path: Path) -> None:
    async with (
        local_pages(tmp_path) as pages,
        pages.visitor(EDITOR) as visitor,
        pages.api() as admin,
    ):
        pages.pages.live._tick_s = 0.2
        for name in ("a", "b"):
            await admin.ask("POST", EXPORTERS, exporter(name))
        page = (await visitor.get("/ui/exporters")).text
        address = page.partition('data-live="')[2].partition('"')[0].replace("&amp;", "&")
        async with visitor.stream(address) as events:
            await set_status(admin, f"{EXPORTERS}/b", ready("Failing", "False", "401"))
            first = await anext(events)
            assert first["id"] == "results"  # a filter has come
            assert "Failing" in first["html"]
            await set_status(admin, f"{EXPORTERS}/b", ready("Rejected", "False", "400"))
            second = await anext(events)
            assert second["id"] == "row-Exporter__default__b__telemetry_datumapis_com"
            assert "Rejected" in second["html"]
            await admin.ask("DELETE", f"{EXPORTERS}/a")
            third = await anext(events)
            assert third["id"] == "results"
            assert "row-Exporter__default__a__telemetry_datumapis_com" not in third["html"]


async def test_a_stream_ends_with_its_token(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor(VIEWER) as visitor:
        pages.pages.live._tick_s = 0.1
        async with visitor.stream("/ui/live?view=exporters") as events:
            users = pages.authentication
            users._users = {key: one for key, one in users._users.items() if one.role != "viewer"}
            async with patience(5):
                assert [event async for event in events if event["id"] != "results"] == []


async def test_streams_of_a_user_are_limited(tmp_path: Path) -> None:
    streams = LiveStreams(lambda: 0.0)
    ann, namesake = (Principal("ann", frozenset({one}), "viewer") for one in ("acme", "globex"))
    bob = Principal("bob", frozenset({"acme"}), "viewer")
    streams._users["acme", "ann", ann.projects] = STREAMS_OF_USER_MAX
    streams._projects["acme"] = STREAMS_OF_USER_MAX
    assert streams.is_full(ann, "acme")
    assert not streams.is_full(bob, "acme")
    assert not streams.is_full(namesake, "globex")
    async with local_pages(tmp_path, users=tokens()) as pages, pages.visitor(EDITOR) as visitor:
        pages.pages.live._users["", "editor", frozenset({"*"})] = STREAMS_OF_USER_MAX
        path = "/ui/live?view=exporters"
        assert (await visitor.get(path)).status == 429
        assert (await visitor._ask("HEAD", path, None, {})).status == 429
        assert (await visitor.get("/ui/live?view=nothing")).status == 404


def test_a_project_takes_a_part_of_the_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = LiveStreams(lambda: 0.0)
    user = Principal("ann", frozenset({"*"}), "admin")
    monkeypatch.setattr(live, "connections_max", lambda _: 64)
    streams._projects["acme"] = 8
    assert streams.is_full(user, "acme")
    assert not streams.is_full(user, "globex")
    streams._projects.update(other=24)
    assert streams.is_full(user, "globex")  # as many connections are for other requests
    alone = LiveStreams(lambda: 0.0)
    alone._projects[""] = 31
    assert not alone.is_full(user, "")


async def test_what_streams_share_is_made_once_a_tick() -> None:
    made = []
    shared: OncePerTick[int] = OncePerTick()

    async def make() -> int:
        await asyncio.sleep(0)
        made.append(len(made))
        return len(made)

    first, second = (asyncio.create_task(shared.get(("a",), 1, make)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == await shared.get(("a",), 1, make) == 1
    assert await shared.get(("b",), 1, make) == 2
    assert await shared.get(("a",), 2, make) == 3


async def test_each_stream_has_a_turn_of_its_own() -> None:
    streams, turn, turns = LiveStreams(lambda: 12.0), 0, []

    async def follow() -> None:
        async for _ in streams.ticks("acme"):
            turns.append(turn)
            return

    def count() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(count)

    loop = asyncio.get_running_loop()
    count()
    await asyncio.gather(*(follow() for _ in range(50)))
    turn = -1_000_000
    assert len(set(turns)) == 50


@asynccontextmanager
async def served(
    streams: LiveStreams, parts: Callable[[], AsyncGenerator[list[Part], None]]
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that has asked for a stream of some parts."""
    user = Principal("ann", frozenset(), "viewer")

    async def valid() -> bool:
        return True

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await streams.send(request, user, "", parts(), {}, valid)

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await clean_up(runner)


async def test_a_page_that_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "WRITE_TIMEOUT_S", 0.1)
    streams, ended = LiveStreams(lambda: 0.0), asyncio.Event()

    async def large() -> AsyncGenerator[list[Part], None]:
        try:
            while True:
                yield [Part("a", "x" * 4_000_000)]
                yield [Part("a", "")]
        finally:
            ended.set()

    async with served(streams, large) as (reader, _), patience(10):
        await ended.wait()
        assert streams._users.total() == streams._projects.total() == 0
        # Of a connection that is only closed, what waits is kept until it is read.
        with suppress(ConnectionError):
            assert len(await reader.read()) < 4_000_000


async def test_no_second_answer_comes_within_a_stream(caplog: pytest.LogCaptureFixture) -> None:
    async def failing() -> AsyncGenerator[list[Part], None]:
        yield [Part("a", "one")]
        raise ValueError("a bug")

    async def refused() -> AsyncGenerator[list[Part], None]:
        yield [Part("a", "one")]
        raise ApiProblemError(403, {"message": "not any more"})

    for parts, logged in ((refused, 0), (failing, 1)):
        async with (
            served(LiveStreams(lambda: 0.0), parts) as (reader, _),
            patience(10),
        ):
            text = (await reader.readuntil(b"\r\n0\r\n\r\n")).decode()
            assert text.count("HTTP/1.1") == 1
            assert "one" in text
        assert len([one for one in caplog.records if "bug" in one.message]) == logged


async def test_a_line_that_is_as_it_once_was_is_sent() -> None:
    steps = [
        [Part("row-a", "old")],
        [Part("results", "all", (Part("row-a", "new"),))],
        [Part("row-a", "new")],
        [Part("row-a", "old")],
        [],
    ]

    async def parts() -> AsyncGenerator[list[Part], None]:
        for step in steps:
            yield step

    async with (
        served(LiveStreams(lambda: 0.0), parts) as (reader, _),
        patience(10),
    ):
        text = (await reader.readuntil(b"\r\n0\r\n\r\n")).decode()
    sent = re.findall(r'"html":"(\w+)"', text)
    assert sent == ["old", "all", "old"]
