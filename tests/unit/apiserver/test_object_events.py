"""Events about the API's objects: written together, with a count, warnings before all else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from relay.apiserver import object_events
from relay.apiserver.http import event_sweeper
from relay.apiserver.http.file_objects import FileObject
from relay.apiserver.object_events import ObjectEvents
from relay.apiserver.objects.kinds import served_kinds
from relay.apiserver.store.database import ObjectDatabase
from relay.config.exporter.load_result import ObjectKey
from relay.control.replicas import event_schedule
from relay.control.replicas.event_schedule import SERIES_INTERVAL_S
from relay.control.replicas.transitions import Happening
from tests.kit.apiserver.judged import EVENTS, FullDisk, JudgedApi, judged_api
from tests.kit.apiserver.running import EXPORTERS, exporter
from tests.kit.processes import eventually

FAILING = Happening("Warning", "Failing", "one: 503", "one")


class Told:
    """Events of a clock of its own."""

    def __init__(self, api: JudgedApi) -> None:
        self.now = 0.0
        self.api = api
        self.events = ObjectEvents(
            lambda: api.server.service.changer,
            api.statuses._find,
            clock=lambda: self.now,
            wall=lambda: 1_800_000_000.0 + self.now,
        )

    def add(self, made: dict[str, Any], what: Happening) -> None:
        """Note something of an object."""
        self.events.add(self.api.key(made["metadata"]["name"]), made["metadata"]["uid"], what)

    async def write(self, done: Callable[[], Awaitable[bool]]) -> None:
        """Write what is due until something is so."""
        running = asyncio.ensure_future(self.events.run())
        await eventually("Events are written", done, timeout_s=10)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def write_all(self, count: int) -> None:
        """Write what is due until Events say so often that something has happened."""

        async def are_there() -> bool:
            return sum(one["count"] for one in await self.listed()) == count

        await self.write(are_there)

    async def listed(self) -> list[dict[str, Any]]:
        """Return all Events."""
        _, found = await self.api.user.ask("GET", EVENTS)
        items: list[dict[str, Any]] = found["items"]
        return items


async def test_what_happens_again_is_counted_in_one_event(tmp_path: Path) -> None:
    async with judged_api(tmp_path) as api:
        told, made = Told(api), await api.create("a")
        told.add(made, FAILING)
        await told.write_all(1)
        (event,) = await told.listed()
        assert (event["count"], event["type"], event["message"]) == (1, "Warning", "one: 503")
        assert event["involvedObject"]["uid"] == made["metadata"]["uid"]
        told.now = 1.0
        for _ in range(3):
            told.add(made, FAILING)
        told.now = SERIES_INTERVAL_S + 1
        await told.write_all(4)
        (again,) = await told.listed()
        assert again["count"] == 4
        assert again["metadata"]["uid"] == event["metadata"]["uid"]
        assert again["firstTimestamp"] == event["firstTimestamp"]
        assert again["lastTimestamp"] > event["lastTimestamp"]


@pytest.mark.parametrize("namespace", ["default", "elsewhere"])
async def test_an_object_of_a_file_has_its_events_in_any_namespace(
    tmp_path: Path, namespace: str
) -> None:
    async with judged_api(tmp_path) as api:
        kind = next(one for one in served_kinds() if one.kind == "Exporter")
        one = FileObject(kind, "", exporter("a", namespace=namespace), "acme.yaml")
        await api.server.service.files.sync([kind], [one])
        exporters, events = (one.replace("default", namespace) for one in (EXPORTERS, EVENTS))
        _, made = await api.user.ask("GET", f"{exporters}/a")
        told = Told(api)
        key = ObjectKey("files", "", "Exporter", "", namespace, "a")
        told.events.add(key, made["metadata"]["uid"], FAILING)

        async def is_there() -> bool:
            _, found = await api.user.ask("GET", events)
            return [event["reason"] for event in found["items"]] == ["Failing"]

        await told.write(is_there)


async def test_many_share_transactions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk()
    monkeypatch.setattr(ObjectDatabase, "write", disk.as_method())
    async with judged_api(tmp_path) as api:
        told = Told(api)
        made = [await api.create(f"e{number}") for number in range(50)]
        disk.groups.clear()
        for one in made:
            told.add(one, FAILING)
            told.add(one, Happening("Normal", "Accepted", "it is valid"))
        await told.write_all(100)
        assert sum(disk.groups) == 100
        assert len(disk.groups) <= 20


async def test_an_event_of_what_is_gone_is_not_written(tmp_path: Path) -> None:
    async with judged_api(tmp_path) as api:
        told, made = Told(api), await api.create("a")
        told.add(made, FAILING)
        await api.delete("a")
        successor = await api.create("a")
        told.add(successor, Happening("Normal", "Accepted", "it is valid"))
        await told.write_all(1)
        assert [one["reason"] for one in await told.listed()] == ["Accepted"]


async def test_a_disk_without_room_costs_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "relay.api")
    disk = FullDisk()
    monkeypatch.setattr(ObjectDatabase, "write", disk.as_method())
    async with judged_api(tmp_path) as api:
        told, made = Told(api), await api.create("a")
        disk.is_full = True
        told.add(made, FAILING)
        told.add(made, Happening("Normal", "Accepted", "it is valid"))

        async def are_refused() -> bool:
            return disk.refused > 0 and told.events._schedule.statistics().waiting == 2

        await told.write(are_refused)
        assert [one for one in caplog.messages if "Events" in one] == [
            "Events cannot be stored: no room"
        ]
        disk.is_full = False
        assert await told.listed() == []
        told.now += event_schedule.RETRY_S
        await told.write_all(2)
        assert "Events can be stored again" in caplog.messages


async def test_a_bug_costs_one_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with judged_api(tmp_path) as api:
        told, made = Told(api), await api.create("a")
        document = object_events.event_document

        def faulty(about: Any, event: Any, **names: str) -> dict[str, Any]:
            if event.series.reason == "Failing":
                raise RuntimeError("a bug")
            return document(about, event, **names)

        monkeypatch.setattr(object_events, "event_document", faulty)
        told.add(made, FAILING)
        told.add(made, Happening("Normal", "Accepted", "it is valid"))
        await told.write_all(1)
        assert [one["reason"] for one in await told.listed()] == ["Accepted"]
        assert "bug in the relay: an Event was not written" in caplog.messages


async def test_a_bulk_apply_hides_no_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_schedule, "PENDING_MAX", 20)
    monkeypatch.setattr(event_sweeper, "EVENTS_PER_PROJECT_MAX", 10)
    async with judged_api(tmp_path) as api:
        told = Told(api)
        refused, *others = [await api.create(f"e{number}") for number in range(40)]
        told.add(refused, Happening("Warning", "Invalid", "spec.sinks: too many"))
        for one in others:
            told.add(one, Happening("Normal", "Accepted", "it is valid"))
            told.now += 0.001
        await told.write_all(20)
        written = await told.listed()
        assert [one["reason"] for one in written if one["type"] == "Warning"] == ["Invalid"]
        assert await api.server.service.sweeper.sweep() == 10
        left = await told.listed()
        assert len(left) == 10
        assert [one["reason"] for one in left if one["type"] == "Warning"] == ["Invalid"]
