"""The index over the database: order of writes, visibility, events, failures."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.apiserver.store.commit_writer import CommitWriter
from relay.apiserver.store.database import Change, ObjectDatabase, ObjectKeyInStore
from relay.apiserver.store.errors import StoreFullError, StoreUnusableError
from relay.apiserver.store.event_ring import (
    EventRing,
    StoredObject,
    StoreEvent,
    VersionExpiredError,
)
from relay.apiserver.store.served_objects import ServedObjects
from tests.kit.processes import eventually

KIND = "exporters"


def key(name: str, namespace: str = "default", project: str = "acme") -> ObjectKeyInStore:
    return ObjectKeyInStore(KIND, project, namespace, name)


def value(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, **more}


class GatedDatabase(ObjectDatabase):
    """A database whose transactions wait for a gate, and fail on demand."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, first_version=1)
        self.gate = threading.Event()
        self.gate.set()
        self.fails = False
        self.groups: list[int] = []

    def write(self, changes: Sequence[Change]) -> None:
        self.gate.wait(10)
        if self.fails:
            raise StoreFullError("no room")
        self.groups.append(len(changes))
        super().write(changes)


@asynccontextmanager
async def objects(path: Path) -> AsyncIterator[tuple[ServedObjects, GatedDatabase]]:
    database = GatedDatabase(path / "api.db")
    database.open()
    made = ServedObjects(database)
    made.load()
    made.start()
    try:
        yield made, database
    finally:
        database.gate.set()
        await made.stop()
        database.close()


async def put(made: ServedObjects, name: str, **more: Any) -> StoredObject:
    stored = await made.write(key(name), lambda _: value(name, **more))
    assert stored is not None
    return stored


async def test_a_write_is_seen_when_it_is_durable(tmp_path: Path) -> None:
    async with objects(tmp_path) as (made, database):
        database.gate.clear()
        write = asyncio.create_task(put(made, "a"))
        await asyncio.sleep(0)
        assert made.get(key("a")) is None
        database.gate.set()
        stored = await write
        assert made.get(key("a")) == stored
        assert stored.value() == {"metadata": {"name": "a", "resourceVersion": "2"}}
        assert made.version == 2


async def test_writes_of_one_object_follow_each_other(tmp_path: Path) -> None:
    async with objects(tmp_path) as (made, _):

        def increase(live: StoredObject | None) -> dict[str, Any]:
            count = 0 if live is None else live.value()["count"]
            return value("a", count=count + 1)

        await asyncio.gather(*(made.write(key("a"), increase) for _ in range(50)))
        found = made.get(key("a"))
        assert found is not None
        assert found.value()["count"] == 50


async def test_waiting_writes_share_a_transaction(tmp_path: Path) -> None:
    async with objects(tmp_path) as (made, database):
        database.gate.clear()
        writes = [asyncio.create_task(put(made, str(number))) for number in range(100)]
        await eventually(
            "each has had its turn", lambda: len(made._busy) == len(writes), timeout_s=10
        )
        database.gate.set()
        await asyncio.gather(*writes)
        assert len(database.groups) <= 3
        assert sum(database.groups) == 100
        statistics = made.statistics()
        assert statistics.objects == {KIND: 100}
        assert statistics.commits.changes == 100


async def test_a_write_goes_on_without_its_request(tmp_path: Path) -> None:
    async with objects(tmp_path) as (made, database):
        database.gate.clear()
        write = asyncio.create_task(put(made, "a"))
        await asyncio.sleep(0)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
        after = asyncio.create_task(put(made, "a", again=True))
        await asyncio.sleep(0)
        database.gate.set()
        assert (await after).version == 3
        assert [event.version for event in made.ring(KIND).after(1, 10)] == [2, 3]


async def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    async with objects(tmp_path) as (made, database):
        database.fails = True
        with pytest.raises(StoreFullError):
            await put(made, "a")
        assert made.get(key("a")) is None
        assert made.version == 1
        database.fails = False
        assert (await put(made, "a")).version == 3
        assert made.statistics().commits.failed == 1


async def test_a_decision_may_refuse_or_change_nothing(tmp_path: Path) -> None:
    async with objects(tmp_path) as (made, _):
        stored = await put(made, "a")

        def unchanged(_live: StoredObject | None) -> dict[str, Any]:
            raise ServedObjects.unchanged()

        def refuse(_live: StoredObject | None) -> dict[str, Any]:
            raise KeyError("refused")

        assert await made.write(key("a"), unchanged) == stored
        with pytest.raises(KeyError):
            await made.write(key("a"), refuse)
        assert made.version == 2


async def test_objects_are_listed_in_order(tmp_path: Path) -> None:
    async with objects(tmp_path) as (made, _):
        for name, namespace in (("b", "x"), ("a", "y"), ("a", "x"), ("c", "xy")):
            await made.write(key(name, namespace), lambda _, n=name: value(n))
        await made.write(key("z", project="other"), lambda _: value("z"))
        listed = [(one.namespace, one.name) for one in made.listed(KIND, "acme")]
        assert listed == [("x", "a"), ("x", "b"), ("xy", "c"), ("y", "a")]
        assert [one.name for one in made.listed(KIND, "acme", "x")] == ["a", "b"]
        assert [one.name for one in made.listed(KIND, "acme", "x", ("x", "a"))] == ["b"]
        assert made.projects(KIND) == ["acme", "other"]
        assert made.count(KIND, "acme") == 4
        await made.write(key("a", "x"), lambda _: None)
        assert [one.name for one in made.listed(KIND, "acme", "x")] == ["b"]


async def test_a_restart_continues_the_versions(tmp_path: Path) -> None:
    async with objects(tmp_path) as (made, _):
        await put(made, "a", labels=1)
        await made.write(key("a"), lambda _: None)
        await put(made, "b")
    async with objects(tmp_path) as (made, _):
        assert made.version == 4
        assert made.ring(KIND).oldest == 4
        assert (await put(made, "c")).version == 5
        assert [one.name for one in made.listed(KIND, "acme")] == ["b", "c"]


async def test_events_tell_what_was_and_what_is(tmp_path: Path) -> None:
    async with objects(tmp_path) as (made, _):
        first = await put(made, "a")
        second = await put(made, "a", changed=True)
        await made.write(key("a"), lambda _: None)
        events = made.ring(KIND).after(1, 10)
        assert [(event.before, event.after) for event in events[:2]] == [
            (None, first),
            (first, second),
        ]
        assert events[2].after is None
        assert events[2].last.value()["metadata"]["resourceVersion"] == "4"
        assert events[2].last.value()["changed"] is True


def event(version: int, size: int = 1) -> StoreEvent:
    stored = StoredObject("p", "n", "x", version, b"", b"x" * size, {})
    return StoreEvent(version, None, stored, stored)


async def test_the_ring_forgets_the_oldest() -> None:
    ring = EventRing(0, events_max=3, bytes_max=100)
    for version in (2, 4, 6, 8):
        ring.append(event(version))
    assert ring.oldest == 2
    assert [one.version for one in ring.after(2, 10)] == [4, 6, 8]
    assert [one.version for one in ring.after(5, 1)] == [6]
    assert ring.after(8, 10) == []
    with pytest.raises(VersionExpiredError):
        ring.after(1, 10)
    ring.append(event(9, 99))
    assert ring.oldest == 6
    assert [one.version for one in ring.after(6, 10)] == [8, 9]


async def test_the_ring_wakes_those_who_wait() -> None:
    ring = EventRing(0)
    own, other, any_one = (ring.changed(project) for project in ("p", "q", "*"))
    assert ring.changed("p") is own
    ring.append(event(1))
    assert [one.is_set() for one in (own, other, any_one)] == [True, False, True]
    assert not ring.changed("p").is_set()


async def test_a_bug_in_the_writer_reaches_the_request() -> None:
    class Broken:
        def write(self, changes: Sequence[Change]) -> None:
            raise ZeroDivisionError

    writer = CommitWriter(Broken(), lambda _: None)
    writer.start()
    with pytest.raises(ZeroDivisionError):
        await writer.submit(Change(key("a"), 1, b"{}"))
    await writer.stop()


async def test_a_lock_keeps_a_second_process_out(tmp_path: Path) -> None:
    async with objects(tmp_path):
        with pytest.raises(StoreUnusableError):
            ObjectDatabase(tmp_path / "api.db").open()
