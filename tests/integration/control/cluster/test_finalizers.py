"""The leader's work on finalizers against an API server of few words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.config.settings.kubernetes import KubernetesSettings
from relay.config.settings.settings import Settings
from relay.control.cluster import finalizers
from relay.control.cluster.compose import make_sources
from relay.control.cluster.finalizers import (
    FINALIZER,
    FinalizerHost,
    FinalizerOptions,
    Finalizers,
)
from relay.control.cluster.resources import EXPORTERS
from tests.kit.kubernetes.fake_api import Document, FakeApi, Fault, failing, kubeconfig_of
from tests.kit.processes import eventually

PATH = EXPORTERS.path()
THEIRS = "example.com/theirs"


class Rig:
    """Finalizers over the objects of a fake API, and what the rest of the relay says."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.judged: set[str] = set()
        self.held: set[str] = set()
        self.looks = 0
        self.spent = 0

    def put(self, name: str, *held_by: str, namespace: str = "default") -> Document:
        made = self.api.new(name, namespace)
        made["metadata"]["finalizers"] = list(held_by)
        stored = self.api.put(PATH, made)
        self.judged.add(stored["metadata"]["uid"])
        return stored

    def spend(self, _: float) -> float:
        self.spent += 1
        return 0.0

    def of(self, name: str, namespace: str = "default") -> list[str] | None:
        found = self.api.kind(PATH).objects.get((namespace, name))
        return None if found is None else found["metadata"].get("finalizers", [])

    async def has(self, name: str, *wanted: str) -> None:
        await eventually(f"{name} has {wanted}", lambda: self.of(name) == list(wanted), timeout_s=5)

    def patches(self) -> int:
        return len(self.api.seen(method="PATCH"))


@asynccontextmanager
async def working(
    rig: Rig,
    folder: Path,
    *,
    enabled: bool = True,
    release_s: float = 60.0,
    namespaces: tuple[str, ...] = (),
) -> AsyncIterator[None]:
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(kubeconfig_of(rig.api.url))
    cluster = make_sources(
        Settings(kubernetes=KubernetesSettings(kubeconfig, namespaces=namespaces))
    ).cluster
    assert cluster is not None

    def held() -> set[str]:
        rig.looks += 1
        return rig.held

    one = Finalizers(
        FinalizerHost(
            seen=cluster.seen,
            revision=lambda: (cluster.revision, len(rig.judged)),
            judged=lambda: rig.judged,
            held=held,
            settled=lambda: True,
            spend=rig.spend,
        ),
        FinalizerOptions(enabled, release_s),
    )
    await cluster.start()
    task = asyncio.create_task(one.run())
    try:
        await cluster.read()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await cluster.stop()


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(finalizers, "LOOK_S", 0.05)
    async with FakeApi() as api:
        yield Rig(api)


async def test_objects_that_are_read_get_it_once(rig: Rig, tmp_path: Path) -> None:
    rig.put("one", THEIRS)
    stranger = rig.put("nobodys")
    rig.judged.discard(stranger["metadata"]["uid"])
    async with working(rig, tmp_path):
        await rig.has("one", THEIRS, FINALIZER)
        rig.put("two")
        await rig.has("two", FINALIZER)
        patched = rig.patches()
        assert patched == rig.spent == 2
        await asyncio.sleep(0.5)  # nothing may happen now
        assert rig.patches() == patched
        assert rig.of("nobodys") == []
        (body,) = [one.body for one in rig.api.seen(method="PATCH") if one.path.endswith("/two")]
        assert b'"uid"' in body, "without it an apply makes an object that has gone anew"
        # Taken away by somebody: added again.
        found = rig.api.kind(PATH).objects["default", "two"]
        rig.api.put(PATH, {**found, "metadata": {**found["metadata"], "finalizers": []}})
        await rig.has("two", FINALIZER)


async def test_a_deleted_object_keeps_it_while_somebody_sends(rig: Rig, tmp_path: Path) -> None:
    rig.held = {rig.put(name, THEIRS, FINALIZER)["metadata"]["uid"] for name in ("one", "two")}
    async with working(rig, tmp_path):
        rig.api.delete(PATH, "one")
        await eventually("it is looked at", lambda: rig.looks >= 3, timeout_s=5)
        assert rig.of("one") == [THEIRS, FINALIZER]
        rig.held = set()
        await rig.has("one", THEIRS)
        assert rig.of("two") == [THEIRS, FINALIZER], "it is not deleted"
        await asyncio.sleep(0.3)
        assert rig.of("one") == [THEIRS], "a deleted object gets it no more"


async def test_nothing_is_held_longer_than_its_time(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig.held = {rig.put("one", FINALIZER)["metadata"]["uid"]}
    async with working(rig, tmp_path, release_s=0.4):
        rig.api.delete(PATH, "one")
        await asyncio.sleep(0.2)
        assert rig.of("one") == [FINALIZER]
        await eventually("it is gone", lambda: rig.of("one") is None, timeout_s=5)
    assert "deletion is not held any longer" in caplog.text


async def test_deletions_come_before_objects_that_lack_it(rig: Rig, tmp_path: Path) -> None:
    for number in range(20):
        rig.put(f"n{number}")
    rig.put("leaves", FINALIZER)
    rig.api.delete(PATH, "leaves")
    async with working(rig, tmp_path):
        for number in range(20):
            await rig.has(f"n{number}", FINALIZER)
    names = [one.path.rpartition("/")[2] for one in rig.api.seen(method="PATCH")]
    assert names[0] == "leaves"
    assert len(names) == len(set(names)) == 21


@pytest.mark.parametrize("namespaces", [(), ("default", "other")], ids=["all", "some"])
async def test_off_takes_it_from_all_objects_of_the_relay(
    rig: Rig, tmp_path: Path, namespaces: tuple[str, ...]
) -> None:
    rig.put("one", FINALIZER, THEIRS)
    rig.held = {rig.put("leaves", FINALIZER)["metadata"]["uid"]}
    rig.api.delete(PATH, "leaves")
    rig.put("elsewhere", FINALIZER, namespace="theirs")
    rig.put("bare")
    async with working(rig, tmp_path, enabled=False, namespaces=namespaces):
        await rig.has("one", THEIRS)
        await eventually("it is gone", lambda: rig.of("leaves") is None, timeout_s=5)
        await asyncio.sleep(0.3)
        assert rig.of("elsewhere", "theirs") == ([FINALIZER] if namespaces else [])
        assert rig.of("bare") == []


async def test_a_missing_right_is_said_once(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finalizers, "FORBIDDEN_S", 0.1)
    monkeypatch.setattr(finalizers, "RETRY_S_MAX", 0.1)
    for name in ("one", "two"):
        rig.put(name, FINALIZER)
    rig.api.faults.append(
        Fault(failing(403, "Forbidden"), 4, lambda request: request.method == "PATCH")
    )
    async with working(rig, tmp_path, enabled=False):
        await rig.has("one")
        await rig.has("two")
    assert [one.getMessage() for one in caplog.records if "finalizers" in one.getMessage()] == [
        "finalizers cannot be taken away: 403 Forbidden: Forbidden"
    ]
    assert rig.patches() == 6


async def test_an_entry_that_has_moved_is_looked_up_again(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finalizers, "RETRY_S", 0.05)
    rig.put("one", FINALIZER)
    moved = 0

    def move(request: Any) -> bool:
        """Just before the first patch somebody puts an entry before ours."""
        nonlocal moved
        if request.method == "PATCH" and not moved:
            moved += 1
            found = rig.api.kind(PATH).objects["default", "one"]
            before = {**found["metadata"], "finalizers": [THEIRS, FINALIZER]}
            rig.api.put(PATH, {**found, "metadata": before})
        return False

    rig.api.faults.append(Fault(failing(500), 1, move))
    async with working(rig, tmp_path, enabled=False):
        await rig.has("one", THEIRS)
    assert moved == 1
    assert rig.patches() == 2
