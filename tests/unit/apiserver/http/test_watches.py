"""Many watches: each wakes for changes of its project, and is left behind by no other's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from relay.apiserver.http import watches
from relay.apiserver.store import event_ring
from relay.apiserver.store.event_ring import (
    ANY_PROJECT,
    EventRing,
    RingFollower,
    StoredObject,
    StoreEvent,
)
from tests.kit.apiserver.running import ADMIN, EXPORTERS, exporter, local_api, tokens
from tests.kit.processes import eventually
from tests.own_time import patience


def path(project: str) -> str:
    return f"/projects/{project}{EXPORTERS}"


def event_of(version: int, project: str) -> StoreEvent:
    stored = StoredObject(project, "n", "x", version, b"", b"x", {})
    return StoreEvent(version, None, stored, stored)


@pytest.mark.parametrize("count", [100, 1000])
async def test_a_follower_hears_of_its_project_alone(count: int) -> None:
    ring = EventRing(0, events_max=10)
    followers = {f"p{number}": RingFollower() for number in range(count)}
    for project, one in followers.items():
        ring.follow(project, one)
    every = RingFollower()
    ring.follow(ANY_PROJECT, every)
    for version in range(1, 2 * count + 1):
        ring.append(event_of(version, f"p{version % 7}"))
    heard = {name: await one.wait(0) for name, one in followers.items()}
    assert {name for name, version in heard.items() if version} == {f"p{n}" for n in range(7)}
    assert (heard["p1"], heard["p0"], await every.wait(0)) == (1, 7, 1)
    for project, one in followers.items():
        ring.leave(project, one)
    ring.append(event_of(5000, "p1"))
    followers["p1"].begin()
    assert await followers["p1"].wait(0) == 0


async def test_others_changes_leave_no_watch_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        event_ring.EventRing.__init__, "__kwdefaults__", {"events_max": 3, "bytes_max": 1 << 20}
    )
    async with local_api(tmp_path, tenancy=True, users=tokens("busy", "quiet")) as api:
        user = api.user(ADMIN)
        _, listed = await user.ask("GET", path("quiet"))
        version = listed["metadata"]["resourceVersion"]
        looks: list[int] = []
        after = EventRing.after

        def counted(ring: EventRing, position: int, limit: int) -> Any:
            looks.append(position)
            return after(ring, position, limit)

        async with user.watch(path("quiet"), resourceVersion=version) as events:
            monkeypatch.setattr(EventRing, "after", counted)
            for number in range(10):  # more than the ring keeps
                code, _ = await user.ask("POST", path("busy"), exporter(f"e{number}"))
                assert code == 201
            assert len(looks) <= 1  # as it began
            await user.ask("POST", path("quiet"), exporter("own"))
            event = await anext(events)
            assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "own")
            for number in range(10):
                await user.ask("DELETE", f"{path('busy')}/e{number}")
            await user.ask("DELETE", f"{path('quiet')}/own")
            assert (await anext(events))["type"] == "DELETED"


async def test_a_bookmark_is_of_the_present_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "BOOKMARK_S", 0.2)
    async with local_api(tmp_path, tenancy=True, users=tokens("busy", "quiet")) as api:
        user = api.user(ADMIN)
        query = {"allowWatchBookmarks": "true", "resourceVersion": str(api.server.objects.version)}
        async with user.watch(path("quiet"), **query) as events:
            await user.ask("POST", path("busy"), exporter("e"))
            present = str(api.server.objects.version)
            assert present != query["resourceVersion"]
            version = ""
            async with patience(10):
                while version != present:  # some may have been due before the change
                    event = await anext(events)
                    assert event["type"] == "BOOKMARK"
                    version = event["object"]["metadata"]["resourceVersion"]


async def test_a_client_that_is_gone_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "GONE_CHECK_S", 0.05)
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        version = str(api.server.objects.version)

        async def watch() -> None:
            async with user.watch(EXPORTERS, resourceVersion=version) as events:
                await anext(events)

        tasks = [asyncio.ensure_future(watch()) for _ in range(5)]

        async def are_open(count: int) -> bool:
            found = api.server.statistics()
            return found is not None and found.watches == count

        await eventually("watches are open", lambda: are_open(5), timeout_s=10)
        for task in tasks[:3]:
            task.cancel()
        await asyncio.gather(*tasks[:3], return_exceptions=True)
        await eventually("three are gone", lambda: are_open(2), timeout_s=10)
        await user.ask("POST", EXPORTERS, exporter("a"))
        await asyncio.gather(*tasks[3:])


async def test_watches_end_with_the_server(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        async with user.watch(EXPORTERS, resourceVersion=str(api.server.objects.version)) as events:
            async with asyncio.timeout(3):  # sooner than the next look at clients
                await asyncio.gather(api.server.stop(), _end(events))


async def _end(events: Any) -> None:
    assert [event async for event in events] == []


async def test_a_watch_ends_with_the_version_that_it_has_seen(tmp_path: Path) -> None:
    """An empty stream would be a failure for client-go, which would list anew and miss changes."""
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        version = str(api.server.objects.version)
        query = {"allowWatchBookmarks": "true", "resourceVersion": version}
        async with user.watch(EXPORTERS, **query) as events:
            api.server.service.close()
            (last,) = [event async for event in events]
            assert last["type"] == "BOOKMARK"
            assert last["object"]["metadata"]["resourceVersion"] == version
        status, refused = await user.ask("GET", f"{EXPORTERS}?watch=true&resourceVersion={version}")
        assert (status, refused["details"]["retryAfterSeconds"]) == (429, 1)


async def test_many_watches_of_one_project_see_every_change_in_order(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        version = str(api.server.objects.version)

        async def names() -> list[str]:
            found: list[str] = []
            async with user.watch(EXPORTERS, resourceVersion=version) as events:
                async for event in events:
                    found.append(event["object"]["metadata"]["name"])
                    if len(found) == 20:
                        break
            return found

        watching = asyncio.gather(*(names() for _ in range(40)))
        for number in range(20):
            assert (await user.ask("POST", EXPORTERS, exporter(f"e{number}")))[0] == 201
        async with patience(30):
            seen = await watching
        assert {tuple(one) for one in seen} == {tuple(f"e{number}" for number in range(20))}
