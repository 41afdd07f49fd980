"""Secrets that are asked for: no answer hides a newer version, and none blocks the others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest

from relay.control.cluster import plane_secrets
from relay.control.cluster.plane_secrets import LIST_MIN, PlaneSecrets
from relay.control.kubernetes.client import ApiClient
from relay.control.kubernetes.errors import (
    AbsentError,
    KubernetesError,
    PageTooLargeError,
    ThrottledError,
    UnreachableError,
)
from relay.control.kubernetes.object_store import ObjectChange
from relay.control.kubernetes.objects import ApiObject, ListPage, ObjectKey
from tests.kit.processes import eventually
from tests.own_time import patience


def secret(name: str, version: int) -> bytes:
    metadata = {"namespace": "n", "name": name, "uid": name, "resourceVersion": str(version)}
    return json.dumps({"metadata": metadata, "data": {"token": str(version)}}).encode()


class Server:
    """Secrets of a control plane by name; ``within`` runs between a question and its answer."""

    def __init__(self) -> None:
        self.secrets: dict[str, bytes] = {}
        self.faults: dict[str, KubernetesError] = {}
        self.asked: list[str] = []
        self.within: Callable[[], None] = lambda: None

    async def request(self, method: str, path: str) -> bytes:
        assert method == "GET"
        name = path.rpartition("/")[2]
        self.asked.append(name)
        found = self.secrets.get(name)
        await asyncio.sleep(0)
        self.within()
        if name in self.faults:
            raise self.faults[name]
        if found is None:
            raise AbsentError("there is none", status=404)
        return found

    async def list_page(self, target: object, *, continue_token: str) -> ListPage:
        self.asked.append("list")
        found = tuple(self.secrets.values())
        await asyncio.sleep(0)
        self.within()
        if "list" in self.faults:
            raise self.faults["list"]
        return ListPage(found, "9", "")


class Bench:
    def __init__(self) -> None:
        self.server = Server()
        self.secrets = PlaneSecrets()
        self.held: dict[ObjectKey, ApiObject | None] = {}

    def show(self, name: str, version: int) -> None:
        """Show a version as the watch does."""
        seen = ApiObject("n", name, name, str(version), 0, b"{}")
        self.secrets.observe([ObjectChange(None, seen)])

    def version(self, name: str) -> str | None:
        self.held |= self.secrets.take()
        found = self.held.get(("n", name))
        return found.resource_version if found is not None else None

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.secrets.run(cast("ApiClient", self.server)))
        try:
            async with patience(5):
                yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def nothing_due(self) -> None:
        await eventually("nothing is due", lambda: not self.secrets.due, timeout_s=5)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(plane_secrets, "RETRY_S", 0.001)
    return Bench()


async def test_a_secret_that_changes_while_it_is_asked_for(bench: Bench) -> None:
    bench.server.secrets["a"] = secret("a", 1)

    def rotate() -> None:
        bench.server.within = lambda: None
        bench.server.secrets["a"] = secret("a", 2)
        bench.show("a", 2)

    bench.server.within = rotate
    async with bench.run():
        bench.secrets.refer_to([("n", "a")])
        await bench.nothing_due()
    assert bench.version("a") == "2"


async def test_secrets_that_come_while_a_list_is_read(bench: Bench) -> None:
    names = [f"s{number}" for number in range(LIST_MIN)]
    for name in names:
        bench.server.secrets[name] = secret(name, 1)
    del bench.server.secrets["s7"]

    def create() -> None:
        bench.server.within = lambda: None
        bench.server.secrets["s7"] = secret("s7", 5)
        bench.server.secrets["s8"] = secret("s8", 6)
        for name, version in (("s7", 5), ("s8", 6), ("s9", 1)):
            bench.show(name, version)

    bench.server.within = create
    async with bench.run():
        bench.secrets.refer_to(("n", name) for name in names)
        await bench.nothing_due()
    assert (bench.version("s7"), bench.version("s8"), bench.version("s9")) == ("5", "6", "1")
    assert bench.server.asked == ["list", "s7", "s8"]  # not s9: the list had what was shown


async def test_a_secret_that_goes_while_it_is_asked_for(bench: Bench) -> None:
    bench.server.secrets["a"] = secret("a", 1)

    def remove() -> None:
        gone = ApiObject("n", "a", "a", "1", 0, b"{}")
        bench.secrets.observe([ObjectChange(gone, None)])

    bench.server.within = remove
    async with bench.run():
        bench.secrets.refer_to([("n", "a")])
        await bench.nothing_due()
        await asyncio.sleep(0)
    assert bench.version("a") is None
    assert bench.secrets.statistics().held == 0


@pytest.mark.parametrize(
    "fault", [PageTooLargeError("too long"), ThrottledError("cannot be decrypted", status=500)]
)
async def test_where_the_list_fails_each_is_asked_for(bench: Bench, fault: KubernetesError) -> None:
    names = [f"s{number}" for number in range(LIST_MIN)]
    for name in names:
        bench.server.secrets[name] = secret(name, 1)
    bench.server.faults["list"] = fault
    async with bench.run():
        bench.secrets.refer_to(("n", name) for name in names)
        await bench.nothing_due()
    assert bench.secrets.statistics().held == LIST_MIN


async def test_a_secret_that_the_server_cannot_read_blocks_no_other(bench: Bench) -> None:
    bench.server.secrets["b"] = secret("b", 1)
    bench.server.faults["a"] = ThrottledError("cannot be decrypted", status=500)
    async with bench.run():
        bench.secrets.refer_to([("n", "a"), ("n", "b")])
        await eventually("b is read", lambda: bench.version("b") == "1", timeout_s=5)
        assert bench.secrets.due == 1
        bench.server.secrets["a"] = secret("a", 3)
        bench.server.faults.clear()
        await bench.nothing_due()
    assert bench.version("a") == "3"


async def test_they_are_asked_for_after_an_outage_of_a_day(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane_secrets, "RETRY_S_MAX", 0.0)
    bench.server.secrets["a"] = secret("a", 1)
    bench.server.faults["a"] = UnreachableError("there is no answer")
    async with bench.run():
        bench.secrets.refer_to([("n", "a")])
        await eventually("it has failed", lambda: len(bench.server.asked) > 2000, timeout_s=5)
        bench.server.faults.clear()
        await bench.nothing_due()
    assert bench.version("a") == "1"
