"""The room that objects have: one, all of a project, and what watches may still ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.apiserver.objects.failures import ApiRefusalError
from relay.apiserver.store.database import ObjectDatabase, ObjectKeyInStore
from relay.apiserver.store.event_ring import (
    EventRing,
    EventRings,
    StoredObject,
    StoreEvent,
    VersionExpiredError,
)
from relay.apiserver.store.served_objects import OBJECT_BYTES_MAX, ServedObjects
from tests.kit.apiserver.running import ADMIN, EXPORTERS, exporter, local_api, tokens


@asynccontextmanager
async def objects(path: Path, **limits: int) -> AsyncIterator[ServedObjects]:
    database = ObjectDatabase(path / "api.db", first_version=1)
    database.open()
    made = ServedObjects(database, **limits)
    made.load()
    made.start()
    try:
        yield made
    finally:
        await made.stop()
        database.close()


def key(name: str, project: str = "acme") -> ObjectKeyInStore:
    return ObjectKeyInStore("exporters", project, "default", name)


def value(size: int) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "text": "x" * size}


async def refusal(made: ServedObjects, size: int, **more: str) -> tuple[int, str]:
    with pytest.raises(ApiRefusalError) as caught:
        await made.write(key("one", **more), lambda _: value(size))
    return caught.value.code, caught.value.message


async def test_an_object_has_a_size(tmp_path: Path) -> None:
    async with objects(tmp_path) as made:
        code, said = await refusal(made, OBJECT_BYTES_MAX)
        assert (code, "managedFields" in said) == (413, True)
        assert made.count("exporters", "acme") == 0
        assert await made.write(key("one"), lambda _: value(1)) is not None


async def test_a_project_has_a_size(tmp_path: Path) -> None:
    async with objects(tmp_path, project_bytes_max=10_000) as made:
        await made.write(key("two"), lambda _: value(6000))
        assert (await refusal(made, 6000))[0] == 429
        await made.write(key("one", "other"), lambda _: value(6000))
        # What the relay writes itself is not refused, and an object may shrink.
        await made.write(key("one"), lambda _: value(9000), in_background=True)
        await made.write(key("one"), lambda _: value(8000))
        assert (await refusal(made, 8100))[0] == 429
        await made.write(key("two"), lambda _: None)
        await made.write(key("one"), lambda _: value(8100))
    async with objects(tmp_path, project_bytes_max=10_000) as made:
        assert (await refusal(made, 10_000))[0] == 429  # counted at the start, too


def test_events_of_secrets_count_with_their_values() -> None:
    ring = EventRing(0, bytes_max=10_000)
    for version in range(1, 100):
        hidden = b"x" * 1000
        one = StoredObject("acme", "default", "tok", version, hidden, b"{}", {})
        ring.append(StoreEvent(version, None, one, one))
    assert ring.oldest == 90


def event(project: str, version: int, size: int) -> StoreEvent:
    raw = b"x" * size
    one = StoredObject(project, "default", "a", version, raw, raw, {})
    return StoreEvent(version, None, one, one)


def test_a_flood_of_one_project_costs_the_others_no_event() -> None:
    rings = EventRings(0, bytes_max=10_000)
    for version in range(1, 4):
        rings.append(event("quiet", version, 100))
    for version in range(4, 1000):
        rings.append(event("loud", version, 1000))
    assert [one.version for one in rings.of("quiet").after(0, 10)] == [1, 2, 3]
    assert rings.of("new").after(0, 10) == []
    assert rings.of("loud").oldest > 900
    assert rings.of("*").oldest > 900
    kept = [rings.of(project).bytes for project in ("quiet", "loud")]
    assert kept[0] == 300
    assert 1000 <= sum(kept) <= 10_000
    with pytest.raises(VersionExpiredError):
        rings.of("loud").after(900, 1)
    assert rings.of("loud").after(998, 10)[0].version == 999


async def test_lists_and_watches_go_on_beside_a_flood(tmp_path: Path) -> None:
    users = tokens("acme", "loud")
    async with local_api(tmp_path, users=users, tenancy=True) as api:
        admin = api.user(ADMIN)
        path, loud = f"/projects/acme{EXPORTERS}", f"/projects/loud{EXPORTERS}"
        for name in ("a", "b", "c"):
            assert (await admin.ask("POST", path, exporter(name)))[0] == 201
        _, page = await admin.ask("GET", f"{path}?limit=1")
        assert (await admin.ask("POST", loud, exporter("x")))[0] == 201
        large = {"metadata": {"annotations": {"a": "x" * 250_000}}}
        for number in range(300):
            large["metadata"]["annotations"]["n"] = str(number)
            code, _ = await admin.patch(f"{loud}/x", "application/merge-patch+json", large)
            assert code == 200
        cursor, version = page["metadata"]["continue"], page["metadata"]["resourceVersion"]
        assert int(version) < api.server.objects.ring("exporters.telemetry.datumapis.com").oldest
        code, page = await admin.ask("GET", f"{path}?limit=1&continue={cursor}")
        assert (code, page["items"][0]["metadata"]["name"]) == (200, "b")
        async with admin.watch(path, resourceVersion=version) as events:
            assert (await admin.ask("DELETE", f"{path}/a"))[0] == 200
            assert (await anext(events))["type"] == "DELETED"
