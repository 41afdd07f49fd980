"""Statuses of the API's objects: what is stored when, what is computed, and a disk without room."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relay.apiserver import object_statuses
from relay.apiserver.file_follower import FileFollower
from relay.apiserver.lasting_failure import LOG_S
from relay.apiserver.store.database import ObjectDatabase
from relay.config.exporter.loading.combine import Combiner
from relay.config.exporter.manifest_loader import Manifests
from relay.config.exporter.types import ExporterPath
from relay.runtime import event_loop
from tests.kit.apiserver.judged import EVENTS, FullDisk, JudgedApi, judged_api
from tests.kit.apiserver.running import EXPORTERS, exporter
from tests.kit.processes import eventually
from tests.kit.sink import running_sinks


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    made = FullDisk()
    monkeypatch.setattr(ObjectDatabase, "write", made.as_method())
    monkeypatch.setattr(object_statuses, "RETRY_S", 0.01)
    return made


def generations(status: dict[str, Any]) -> set[int]:
    conditions = [*status["conditions"], *(c for s in status["sinks"] for c in s["conditions"])]
    return {one["observedGeneration"] for one in conditions}


def before_the_first_status(
    monkeypatch: pytest.MonkeyPatch, api: JudgedApi, change: Callable[[], Awaitable[object]]
) -> list[int]:
    """Make a change just before a status is written first; return a list with what was made."""
    changer = api.server.service.changer
    apply, seen = changer.apply, list[int]()

    async def changed_before(target: Any, project: str, body: Any, *rest: Any, **more: Any) -> Any:
        if target.subresource and not seen:
            seen.append(1)
            await change()
        return await apply(target, project, body, *rest, **more)

    monkeypatch.setattr(changer, "apply", changed_before)
    return seen


async def test_conditions_are_stored_and_counters_are_not(tmp_path: Path) -> None:
    async with judged_api(tmp_path) as api:
        await api.create("a")
        await api.start()
        status = await api.until("a", "Programmed", "True")
        assert set(status) == {"conditions", "sinks"}
        assert set(status["sinks"][0]) == {"name", "conditions"}
        version = api.server.objects.version
        worker = api.sinks.workers["default/a", "one"]
        worker.deliver(1000.0, 5)
        _, shown = await api.user.ask("GET", f"{EXPORTERS}/a")
        assert shown["status"]["sinks"][0]["ledger"]["matched"] == 5
        assert shown["status"]["conditions"] == status["conditions"]
        await api.board.look()
        await api.until("a", "Delivering", "True")
        assert api.server.objects.version > version
        version = api.server.objects.version
        for points in range(3):
            worker.matched += points
            await api.board.look()
        assert api.server.objects.version == version


async def test_a_version_that_is_not_judged_yet_gets_no_status(tmp_path: Path) -> None:
    async with judged_api(tmp_path) as api:
        await api.create("a")
        await api.board.look()
        edited = await api.edit("a")
        assert edited["metadata"]["generation"] == 2
        await api.start()
        await api.create("b")
        await api.board.look()
        await api.until("b", "Programmed", "True")
        assert await api.stored("a") == {}
        api.load(edited, runs=False)  # loaded, and not judged: its conditions are of the first
        api.statuses._changed([api.key("a")])
        await api.edit("b")
        api.statuses._changed([api.key("b")])
        await api.create("c")
        await api.board.look()
        await api.until("c", "Programmed", "True")
        assert generations(await api.until("a", "Accepted", "True", 2)) == {2}


async def test_an_object_that_is_stored_anew_while_its_status_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with judged_api(tmp_path) as api:
        await api.create("a")
        seen = before_the_first_status(monkeypatch, api, lambda: api.edit("a"))
        await api.start()
        await api.create("b")
        await api.board.look()
        await api.until("b", "Programmed", "True")
        assert seen
        assert await api.stored("a") == {}
        _, found = await api.user.ask("GET", f"{EXPORTERS}/a")
        api.load(found)
        await api.board.look()
        assert generations(await api.until("a", "Programmed", "True", 2)) == {2}


async def test_a_label_that_is_set_while_a_status_is_written_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with judged_api(tmp_path) as api:
        await api.create("a")

        async def label() -> None:
            patch = {"metadata": {"labels": {"team": "x"}}}
            media = "application/merge-patch+json"
            assert (await api.user.patch(f"{EXPORTERS}/a", media, patch))[0] == 200

        before_the_first_status(monkeypatch, api, label)
        await api.start()
        await api.until("a", "Programmed", "True")
        _, found = await api.user.ask("GET", f"{EXPORTERS}/a")
        assert found["metadata"]["labels"] == {"team": "x"}


async def test_an_object_made_anew_gets_nothing_of_its_predecessor(tmp_path: Path) -> None:
    async with judged_api(tmp_path) as api:
        await api.create("a")
        await api.board.look()
        assert (await api.user.ask("DELETE", f"{EXPORTERS}/a"))[0] == 200
        _, successor = await api.user.ask("POST", EXPORTERS, exporter("a"))
        await api.start()
        await api.create("b")
        await api.board.look()
        await api.until("b", "Programmed", "True")
        assert await api.stored("a") == {}
        _, shown = await api.user.ask("GET", f"{EXPORTERS}/a")
        assert "status" not in shown
        api.load(successor)
        await api.board.look()
        await api.until("a", "Programmed", "True")
        await told(api, "a")


async def test_a_restart_writes_nothing_that_is_stored(tmp_path: Path, disk: FullDisk) -> None:
    async with judged_api(tmp_path) as api:
        made = [await api.create(f"e{number}") for number in range(30)]
        await api.start()
        for one in made:
            await api.until(one["metadata"]["name"], "Programmed", "True")
        await told(api, "e29")
        version = api.server.objects.version
    disk.groups.clear()
    async with judged_api(tmp_path) as api:
        for one in made:
            api.load(one)
        await api.start()
        last = await api.create("last")
        await api.board.look()
        await api.until("last", "Programmed", "True")
        await told(api, "last")
        assert last["metadata"]["resourceVersion"] == str(version + 1)
        assert sum(disk.groups) == 4  # the last one, its status, and two Events
        assert await api.reasons("e29") == {"Accepted": 1, "Programmed": 1}


async def told(api: JudgedApi, name: str) -> None:
    async def is_told() -> bool:
        return await api.reasons(name) == {"Accepted": 1, "Programmed": 1}

    await eventually(f"Events of {name} are written", is_told, timeout_s=10)


async def test_statuses_that_are_stored_already_are_looked_at_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_loop, "WORK_S", 0.0)  # each look is a turn
    async with judged_api(tmp_path) as api:
        for number in range(60):
            await api.create(f"e{number}")
        await api.start()
        for number in range(60):
            await api.until(f"e{number}", "Programmed", "True")
        looked: list[int] = []
        turn = 0
        find = api.statuses._find

        def counted(key: Any) -> Any:
            looked.append(turn)
            return find(key)

        monkeypatch.setattr(api.statuses, "_find", counted)
        api.statuses._changed(list(api.board.objects()))
        while len(looked) < 60:
            turn += 1
            await asyncio.sleep(0)
        assert len(set(looked)) == 60


async def test_many_statuses_share_transactions(tmp_path: Path, disk: FullDisk) -> None:
    async with judged_api(tmp_path) as api:
        for number in range(100):
            await api.create(f"e{number}")
        disk.groups.clear()
        await api.start()
        await api.until("e99", "Programmed", "True")
        await told(api, "e99")
        assert sum(disk.groups) == 300
        assert len(disk.groups) < 60


async def test_a_disk_without_room_is_told_once_a_minute_and_mends_itself(
    tmp_path: Path, disk: FullDisk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "relay.api")
    async with judged_api(tmp_path) as api:
        for number in range(3):
            await api.create(f"e{number}")
        disk.is_full = True
        await api.start()
        await refused(disk, 6)
        lines = [one for one in caplog.messages if one.startswith("statuses cannot be stored")]
        assert lines == ["statuses cannot be stored: no room"]
        api.now += LOG_S
        await refused(disk, 3)
        lines = [one for one in caplog.messages if one.startswith("statuses cannot be stored")]
        assert len(lines) == 2
        code, status = await api.user.ask("POST", EXPORTERS, exporter("more"))
        assert (code, status["reason"]) == (500, "InternalError")
        assert await api.stored("e0") == {}
        disk.is_full = False
        for number in range(3):
            await api.until(f"e{number}", "Programmed", "True")
        assert "statuses can be stored again" in caplog.messages
        assert (await api.user.ask("POST", EXPORTERS, exporter("more")))[0] == 201


async def refused(disk: FullDisk, more: int) -> None:
    wanted = disk.refused + more

    async def is_refused() -> bool:
        return disk.refused >= wanted

    await eventually("writes are tried again", is_refused, timeout_s=10)


async def test_what_is_gone_is_forgotten(tmp_path: Path) -> None:
    async with judged_api(tmp_path) as api:
        await api.create("a")
        await api.start()
        await api.until("a", "Programmed", "True")
        assert (await api.user.ask("GET", f"{EXPORTERS}/a"))[1]["status"]["sinks"][0]["ledger"]
        await api.delete("a")
        await api.create("b")
        await api.board.look()
        await api.until("b", "Programmed", "True")
        assert api.key("a") not in api.statuses._told
        assert api.key("a") not in api.statuses._shown


async def test_what_others_write_into_a_status_stays(tmp_path: Path) -> None:
    async with judged_api(tmp_path) as api:
        await api.create("a")
        other = {"type": "Reviewed", "status": "True", "reason": "R", "message": ""}
        other["lastTransitionTime"] = "2026-01-01T00:00:00Z"
        body = {
            "apiVersion": "telemetry.datumapis.com/v1alpha1",
            "kind": "Exporter",
            "metadata": {"name": "a"},
            "status": {"conditions": [other]},
        }
        path = f"{EXPORTERS}/a/status?fieldManager=others"
        code, said = await api.user.patch(path, "application/apply-patch+yaml", body)
        assert code == 200, said
        await api.start()
        status = await api.until("a", "Programmed", "True")
        assert other in status["conditions"]


async def test_statuses_that_were_shown_are_kept_within_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_statuses, "SHOWN_BYTES_MAX", 5000)
    async with judged_api(tmp_path) as api:
        for number in range(10):
            await api.create(f"e{number}")
        api.sinks.asleep = {f"default/e{number}" for number in range(10)}
        await api.start()
        await api.until("e9", "Programmed", "True")
        for _ in range(2):
            _, listed = await api.user.ask("GET", EXPORTERS)
            assert all(one["status"]["sinks"][0]["ledger"] for one in listed["items"])
        kept = api.statuses._shown
        assert 0 < len(kept) < 10
        assert api.statuses._shown_bytes == sum(len(one.status) for one in kept.values()) <= 5000


async def test_events_of_a_watch_carry_the_counters_of_their_moment(tmp_path: Path) -> None:
    async with judged_api(tmp_path) as api:
        made = await api.create("a")
        await api.start()
        await api.until("a", "Programmed", "True")
        worker = api.sinks.workers["default/a", "one"]
        worker.deliver(1000.0)
        await api.board.look()
        await api.until("a", "Delivering", "True")
        version = str(api.server.objects.version)
        async with api.user.watch(EXPORTERS, resourceVersion=version) as events:
            worker.deliver(1001.0, 6)
            await api.board.look()
            patch = {"metadata": {"labels": {"team": "x"}}}
            path, media = f"{EXPORTERS}/a", "application/merge-patch+json"
            assert (await api.user.patch(path, media, patch))[0] == 200
            event = await anext(events)
            # The first event is the change that was made: none came for counters alone.
            assert event["object"]["metadata"]["labels"] == {"team": "x"}
            assert event["object"]["status"]["sinks"][0]["ledger"]["matched"] == 7
            worker.deliver(1002.0)
            await api.board.look()
            _, shown = await api.user.ask("GET", path)
            assert shown["status"]["sinks"][0]["ledger"]["matched"] == 8
            assert shown["metadata"]["uid"] == made["metadata"]["uid"]


async def test_events_of_a_files_object_have_its_generation(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    manifests = Manifests(
        (ExporterPath(folder),), secrets_root=None, tenancy=False, combiner=Combiner()
    )
    async with judged_api(tmp_path) as api:
        follower = FileFollower(
            lambda: manifests.read().origins, lambda: api.server.service.files, lambda: None
        )
        (folder / "a.yaml").write_text(json.dumps(exporter("a")))
        await follower.sync()
        key = api.key("a", "files")
        one = running_sinks.Exporter("", "default", "a", (), (running_sinks.sink("one"),))
        api.results[key] = running_sinks.result(one, key=key, uid="")
        api.sinks.load(*api.results.values())
        api.sinks.apply(one, 1000.0)
        await api.start()
        api.statuses._changed([key])
        assert generations(await api.until("a", "Programmed", "True")) == {1}
        wanted = "generation 1 runs"
        await eventually(wanted, partial(_is_told, api, wanted), timeout_s=10)


async def _is_told(api: JudgedApi, message: str) -> bool:
    _, listed = await api.user.ask("GET", EVENTS)
    return message in [one["message"] for one in listed["items"]]
