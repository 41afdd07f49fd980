"""The room that objects have: one, all of a project, and what watches may still ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.apiserver.objects.failures import ApiRefusalError
from relay.apiserver.store.database import ObjectDatabase, ObjectKeyInStore
from relay.apiserver.store.event_ring import EventRing, StoredObject, StoreEvent
from relay.apiserver.store.served_objects import OBJECT_BYTES_MAX, ServedObjects


@asynccontextmanager
async def objects(path: Path, **limits: int) -> AsyncIterator[ServedObjects]:
    database = ObjectDatabase(path / "api.db")
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
