"""Deleted objects lose the relay's finalizer once nothing runs or drains for them."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from relay.apiserver import object_finalizers
from relay.apiserver.object_finalizers import ObjectFinalizers
from relay.apiserver.object_source import LeavingObject
from relay.apiserver.objects.failures import ApiRefusalError, not_found
from relay.apiserver.objects.kinds import served_kinds
from relay.apiserver.store.database import ObjectKeyInStore
from relay.apiserver.store.errors import StoreUnusableError
from relay.control.cluster.finalizers import FINALIZER
from relay.control.kubernetes.objects import ApiObject
from tests.kit.processes import eventually

KIND = next(one for one in served_kinds() if one.kind == "Exporter")
RELEASE_S = 40.0


class Fakes:
    """Objects that leave, what holds them, time, and the patches that are made."""

    def __init__(self) -> None:
        self.objects: list[LeavingObject] = []
        self.held: set[str] = set()
        self.now = 0.0
        self.patched: list[tuple[str, Any]] = []
        self.failures: list[Exception] = []
        self.looks = 0

    def leaving(self) -> list[LeavingObject]:
        self.looks += 1
        return list(self.objects)

    def add(self, uid: str, *, by_other: bool = False) -> None:
        key = ObjectKeyInStore(KIND.storage_key, "", "default", uid)
        one = ApiObject(
            "default", uid, uid, "1", 1, b"{}", deleting=True, finalizers=("x", FINALIZER)
        )
        self.objects.append(LeavingObject(key, one, by_other))

    async def patch(
        self, target: Any, project: str, kind: str, body: Any, *_: Any, **__: Any
    ) -> None:
        assert (target.kind, project, kind) == (KIND, "", "application/json-patch+json")
        if self.failures:
            raise self.failures.pop()
        self.patched.append((target.name, body))
        self.objects = [one for one in self.objects if one.object.name != target.name]

    async def look(self) -> None:
        """Wait until the objects were looked at once more, from beginning to end."""
        seen = self.looks
        await eventually("looked", lambda: self.looks > seen + 1, timeout_s=5)


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture(autouse=True)
async def running(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(object_finalizers, "LOOK_S", 0.001)
    monkeypatch.setattr(object_finalizers, "_RETRY_S", 0.001)
    finalizers = ObjectFinalizers(
        cast("Any", fakes),
        lambda: cast("Any", fakes),
        lambda: fakes.held,
        RELEASE_S,
        clock=lambda: fakes.now,
    )
    task = asyncio.create_task(finalizers.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_it_goes_once_the_sinks_have_ended(fakes: Fakes) -> None:
    fakes.held = {"one"}
    fakes.add("one")
    await fakes.look()
    assert fakes.patched == []
    fakes.held = set()
    await fakes.look()
    ((name, body),) = fakes.patched
    assert name == "one"
    assert body[0] == {"op": "test", "path": "/metadata/uid", "value": "one"}
    assert body[1:] == [
        {"op": "test", "path": "/metadata/finalizers/1", "value": FINALIZER},
        {"op": "remove", "path": "/metadata/finalizers/1"},
    ]


async def test_another_relay_that_has_set_it_is_waited_for_a_time(fakes: Fakes) -> None:
    fakes.add("one", by_other=True)
    await fakes.look()
    fakes.now = RELEASE_S - 1
    await fakes.look()
    assert fakes.patched == []
    fakes.now = RELEASE_S
    await fakes.look()
    assert [name for name, _ in fakes.patched] == ["one"]


@pytest.mark.parametrize(
    "failure",
    [not_found(KIND.names, "one"), StoreUnusableError("disk"), RuntimeError("a bug")],
    ids=["gone", "disk", "bug"],
)
async def test_a_failure_costs_the_others_nothing(fakes: Fakes, failure: Exception) -> None:
    assert isinstance(failure, ApiRefusalError | StoreUnusableError | RuntimeError)
    fakes.failures = [failure]
    fakes.add("one")
    fakes.add("two")
    await eventually("both are released", lambda: len(fakes.patched) == 2, timeout_s=5)
