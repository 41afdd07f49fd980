"""Streams of parts: what is sent, to how many, and when they end."""

from __future__ import annotations

import asyncio
from pathlib import Path

from relay.ui.live import STREAMS_OF_USER_MAX, LiveStreams, RowCache, digest_of
from tests.kit.apiserver.running import EDITOR, EXPORTERS, VIEWER, exporter, tokens
from tests.kit.ui.visitor import local_pages, ready, set_status


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
        live = page.partition('data-live="')[2].partition('"')[0].replace("&amp;", "&")
        async with visitor.stream(live) as events:
            await set_status(admin, f"{EXPORTERS}/b", ready("Failing", "False", "401"))
            first = await anext(events)
            assert first["id"] == "results"  # a filter has come
            assert "Failing" in first["html"]
            await set_status(admin, f"{EXPORTERS}/b", ready("Rejected", "False", "400"))
            second = await anext(events)
            assert second["id"] == "row-Exporter-default-b-telemetry_datumapis_com"
            assert "Rejected" in second["html"]
            await admin.ask("DELETE", f"{EXPORTERS}/a")
            third = await anext(events)
            assert third["id"] == "results"
            assert "row-Exporter-default-a-telemetry_datumapis_com" not in third["html"]


async def test_a_stream_ends_with_its_token(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor(VIEWER) as visitor:
        pages.pages.live._tick_s = 0.1
        async with visitor.stream("/ui/live?view=exporters") as events:
            users = pages.authentication
            users._users = {key: one for key, one in users._users.items() if one.role != "viewer"}
            async with asyncio.timeout(5):
                assert [event async for event in events if event["id"] != "results"] == []


async def test_streams_of_a_user_are_limited(tmp_path: Path) -> None:
    streams = LiveStreams(lambda: 0.0)
    streams._users["ann"] = STREAMS_OF_USER_MAX
    assert streams.is_full("ann")
    assert not streams.is_full("bob")
    async with local_pages(tmp_path, users=tokens()) as pages, pages.visitor(EDITOR) as visitor:
        pages.pages.live._users["editor"] = STREAMS_OF_USER_MAX
        assert (await visitor.get("/ui/live?view=exporters")).status == 429
        assert (await visitor.get("/ui/live?view=nothing")).status == 404
