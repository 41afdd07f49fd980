"""Client and reflector against a real kube-apiserver."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.control.kubernetes.client import APPLY, ApiClient, ClientTimings, WatchTarget
from relay.control.kubernetes.errors import (
    AbsentError,
    AnswerError,
    ExpiredError,
    RequestRefusedError,
    WriteConflictError,
)
from relay.control.kubernetes.kubeconfig import read_kubeconfig
from relay.control.kubernetes.leader import LEASES, LeaderElector
from relay.control.kubernetes.lease import read_lease
from relay.control.kubernetes.objects import ApiObject, ApiResource
from relay.control.kubernetes.reflector import Reflector, ReflectorLimits
from relay.control.kubernetes.slots import Use
from relay.control.kubernetes.status_body import StatusParts, parts_of, status_document
from relay.control.kubernetes.status_schedule import StatusSchedule
from relay.control.kubernetes.status_writer import StatusWrite, StatusWriter
from relay.control.status.conditions import StatusCondition
from relay.control.status.object_status import LedgerCounts, ObjectStatus, SinkStatus
from tests.kit.kubernetes.real_api import TOKEN, RealApi, debian_etcd, real_api
from tests.kit.processes import eventually
from tests.own_time import crowding, within

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]

EXPORTERS = ApiResource("telemetry.datumapis.com", "v1alpha1", "exporters", "Exporter")
NAMESPACES = ApiResource("", "v1", "namespaces", "Namespace", namespaced=False)
SECRETS = ApiResource("", "v1", "secrets", "Secret")
CRDS = ApiResource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
QUICK = ReflectorLimits(backoff_s=0.1)


def definition() -> dict[str, Any]:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

    def list_by(key: str, **fields: Any) -> dict[str, Any]:
        items = {
            "type": "object",
            "required": [key],
            "properties": {key: {"type": "string"}, **fields},
            "x-kubernetes-preserve-unknown-fields": True,
        }
        keys = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
        return {"type": "array", "items": items, **keys}

    conditions = list_by("type")
    status = anything | {
        "properties": {
            "conditions": conditions,
            "sinks": list_by("name", conditions=conditions),
        }
    }
    return {
        "apiVersion": CRDS.api_version,
        "kind": CRDS.kind,
        "metadata": {"name": f"{EXPORTERS.plural}.{EXPORTERS.group}"},
        "spec": {
            "group": EXPORTERS.group,
            "scope": "Namespaced",
            "names": {"plural": "exporters", "singular": "exporter", "kind": "Exporter"},
            "versions": [
                {
                    "name": EXPORTERS.version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"spec": anything, "status": status},
                        }
                    },
                }
            ],
        },
    }


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[RealApi]:
    """With streaming lists."""
    async with real_api(tmp_path) as api:
        yield api


@asynccontextmanager
async def connected(api: RealApi, **timings: Any) -> AsyncIterator[ApiClient]:
    access = read_kubeconfig(api.kubeconfig)
    async with ApiClient(access, timings=ClientTimings(**timings)) as client:
        yield client


async def create(client: ApiClient, resource: ApiResource, name: str, **fields: Any) -> None:
    document = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name},
        **fields,
    }
    namespace = "default" if resource.namespaced else ""
    await client.request("POST", resource.path(namespace), document=document)


async def define_exporters(client: ApiClient) -> None:
    await client.request("POST", CRDS.path(), document=definition())

    async def served() -> bool:
        try:
            await client.list_page(WatchTarget(EXPORTERS))
        except AbsentError:
            return False
        return True

    await eventually("the CRD is served", served, timeout_s=30)


async def first_event(client: ApiClient, resource_version: str) -> None:
    """Raise the error that a watch begins with."""
    watching = client.watch(WatchTarget(EXPORTERS), resource_version=resource_version)
    async with watching as stream, aclosing(stream.parts()) as parts:
        event = (await anext(parts))[0]
        assert isinstance(event, AnswerError)
        raise event


@asynccontextmanager
async def running(reflector: Reflector) -> AsyncIterator[Reflector]:
    task = asyncio.ensure_future(reflector.run())
    try:
        await within(30, reflector.ready())
        yield reflector
    finally:
        task.cancel()
        found = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError), found


def names(reflector: Reflector) -> set[str]:
    return {name for _, name in reflector.store.objects}


async def test_lists_watches_and_what_is_refused(api: RealApi) -> None:
    async with connected(api) as client:
        with pytest.raises(AbsentError):
            await client.list_page(WatchTarget(EXPORTERS))
        await define_exporters(client)
        for number in range(5):
            await create(client, EXPORTERS, f"e{number}", spec={"number": number})
        with pytest.raises(WriteConflictError):
            await create(client, EXPORTERS, "e1")
        page = await client.list_page(WatchTarget(EXPORTERS), limit=2)
        assert len(page.items) == 2
        assert page.continue_token
        with pytest.raises(ExpiredError):
            await first_event(client, "1")
        with pytest.raises(RequestRefusedError):
            await client.request("GET", EXPORTERS.path(), query={"limit": "x"})

        async with running(Reflector(client, WatchTarget(EXPORTERS), limits=QUICK)) as reflector:
            statistics = reflector.statistics()
            assert (statistics.lists, statistics.failures) == (1, 0)
            assert reflector._streaming
            assert names(reflector) == {f"e{number}" for number in range(5)}
            began = time.monotonic()
            await create(client, EXPORTERS, "new")
            await client.request("DELETE", EXPORTERS.path("default", "e0"))
            await eventually(
                "both are seen",
                lambda: names(reflector) == {"e1", "e2", "e3", "e4", "new"},
                timeout_s=5,
            )
            assert time.monotonic() - began < 2 * crowding()
            for one in reflector.store.objects.values():
                assert b"managedFields" not in one.content


async def test_an_etcd_without_streaming_lists(tmp_path: Path) -> None:
    async with (
        real_api(tmp_path, etcd=debian_etcd()) as api,
        connected(api) as client,
        running(Reflector(client, WatchTarget(NAMESPACES), limits=QUICK)) as reflector,
    ):
        await create(client, NAMESPACES, "late")
        await eventually("it is seen", lambda: "late" in names(reflector), timeout_s=5)
        statistics = reflector.statistics()
        assert (statistics.lists, statistics.failures) == (1, 0)
        assert not reflector._streaming


async def test_a_list_in_pages_gives_the_same_objects(api: RealApi) -> None:
    async with connected(api) as client:
        for number in range(7):
            await create(client, SECRETS, f"s{number}", stringData={"k": "v"})
        target = WatchTarget(SECRETS)
        streaming = Reflector(client, target, limits=QUICK)
        paging = Reflector(client, target, limits=ReflectorLimits(page_objects=2))
        paging._streaming = False
        async with running(streaming), running(paging):
            assert paging.store.objects == streaming.store.objects
            assert len(paging.store.objects) == 7
        bare = WatchTarget(SECRETS, metadata_only=True, use=Use.SPARE_WATCH)
        for streams in (True, False):
            reflector = Reflector(client, bare, limits=QUICK)
            reflector._streaming = streams
            async with running(reflector):
                assert len(reflector.store.objects) == 7
                for one in reflector.store.objects.values():
                    assert b'"data"' not in one.content
                await create(client, SECRETS, f"late-{streams}".lower())
                await eventually(
                    "the new one is seen",
                    lambda: len(reflector.store.objects) == 8,  # noqa: B023 - awaited at once
                    timeout_s=5,
                )
            await client.request("DELETE", SECRETS.path("default", f"late-{streams}".lower()))


async def test_watches_end_and_continue_without_a_list(api: RealApi) -> None:
    async with (
        connected(api, watch_s=(1, 1)) as client,
        running(Reflector(client, WatchTarget(NAMESPACES), limits=QUICK)) as reflector,
    ):
        await eventually("three watches", lambda: reflector.statistics().watches >= 3, timeout_s=20)
        await create(client, NAMESPACES, "late")
        await eventually("it is seen", lambda: "late" in names(reflector), timeout_s=5)
        statistics = reflector.statistics()
        assert (statistics.lists, statistics.failures) == (1, 0)


async def test_the_server_is_killed_and_comes_back(api: RealApi) -> None:
    async with connected(api) as client:
        await create(client, NAMESPACES, "before")
        async with running(Reflector(client, WatchTarget(NAMESPACES), limits=QUICK)) as reflector:
            await api.stop()
            await eventually("it is noticed", lambda: reflector.freshness == "stale", timeout_s=10)
            assert "before" in names(reflector)
            await api.start()
            await create(client, NAMESPACES, "after")
            await eventually("it goes on", lambda: "after" in names(reflector), timeout_s=30)
            assert reflector.freshness == "synced"
            assert {"before", "default"} <= names(reflector)


async def test_a_wrong_token_and_then_the_right_one(api: RealApi, tmp_path: Path) -> None:
    token = tmp_path / "rotating-token"
    token.write_text("wrong")
    access = replace(read_kubeconfig(api.kubeconfig), token="", token_file=token)
    async with ApiClient(access) as client:
        reflector = Reflector(client, WatchTarget(NAMESPACES), limits=QUICK)
        task = asyncio.ensure_future(reflector.run())
        await eventually(
            "it is refused",
            lambda: "401 Unauthorized" in reflector.statistics().last_error,
            timeout_s=10,
        )
        token.write_text(TOKEN)
        await within(10, reflector.ready())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class WritesOne:
    """Renders the same status for the one object there is."""

    def __init__(self, client: ApiClient, status: ObjectStatus) -> None:
        self.client = client
        self.status = status
        self.target: ApiObject | None = None

    def __call__(self, key: str) -> StatusWrite | None:
        assert self.target is not None
        return StatusWrite(self.client, EXPORTERS, self.target, status_document(self.status))

    def parts(self) -> StatusParts:
        return parts_of(status_document(self.status))


async def test_a_status_is_ours_alone_and_costs_no_change(api: RealApi) -> None:
    async with connected(api) as client:
        await define_exporters(client)
        await create(client, EXPORTERS, "e", spec={"a": 1})
        path = EXPORTERS.path("default", "e", "status")
        theirs = {
            "apiVersion": EXPORTERS.api_version,
            "kind": EXPORTERS.kind,
            "metadata": {"name": "e"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
        query = {"fieldManager": "their-operator"}
        await client.request("PATCH", path, query=query, document=theirs, content_type=APPLY)

        ready = StatusCondition("Accepted", "True", "Accepted", "", 1, time.time())
        sinks = (SinkStatus("otlp", (ready,), ledger=LedgerCounts(5)),)
        render = WritesOne(client, ObjectStatus((ready,), sinks))
        schedule: StatusSchedule[str] = StatusSchedule(20)
        writer = StatusWriter(schedule, render)
        writing = asyncio.ensure_future(writer.run())
        async with running(Reflector(client, WatchTarget(EXPORTERS), limits=QUICK)) as reflector:
            key = ("default", "e")
            render.target = reflector.store.objects[key]
            reflector.store.take(10)

            def status() -> dict[str, Any]:
                found: dict[str, Any] = msgspec.json.decode(reflector.store.objects[key].status)
                return found

            schedule.offer("e", render.parts(), time.monotonic())
            writer.wake()
            await eventually("it is seen", lambda: "sinks" in status(), timeout_s=5)
            assert [one["type"] for one in status()["conditions"]] == ["Ready", "Accepted"]
            assert status()["sinks"][0]["ledger"]["matched"] == 5
            assert not reflector.store.has_changes  # nobody has changed what is wanted

            # What is left out goes; what is theirs stays.
            render.target = reflector.store.objects[key]
            render.status = ObjectStatus(())
            schedule.offer("e", render.parts(), time.monotonic())
            writer.wake()
            await eventually("it is gone", lambda: "sinks" not in status(), timeout_s=5)
            assert [one["type"] for one in status()["conditions"]] == ["Ready"]

            # A successor of the object does not get its status.
            render.target = reflector.store.objects[key]
            await client.request("DELETE", EXPORTERS.path("default", "e"))
            await create(client, EXPORTERS, "e", spec={"a": 2})
            render.status = ObjectStatus((ready,))
            schedule.offer("e", render.parts(), time.monotonic())
            writer.wake()
            await eventually("refused", lambda: writer.statistics().failed > 0, timeout_s=5)
            assert "409 Conflict" in writer.statistics().last_error
            assert reflector.store.objects[key].status == b""
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def test_one_leads_and_the_next_follows(api: RealApi) -> None:
    spec = {"holderIdentity": "dead", "leaseDurationSeconds": 3, "leaseTransitions": 4}
    labels = {"a": "b"}
    async with connected(api) as client, connected(api) as another:
        body = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": "status", "labels": labels},
            "spec": spec,
        }
        await client.request("POST", LEASES.path("default"), document=body)
        one, two = (
            LeaderElector(each, namespace="default", name="status", identity=identity)
            for each, identity in ((client, "one"), (another, "two"))
        )
        began = time.monotonic()
        tasks = {elector: asyncio.ensure_future(elector.run()) for elector in (one, two)}
        await eventually("one of them leads", lambda: one.leads or two.leads, timeout_s=10)
        assert time.monotonic() - began >= 3
        first, second = (one, two) if one.leads else (two, one)
        await asyncio.sleep(5)  # renewed at least twice
        assert first.leads
        assert not second.leads
        tasks[first].cancel()
        await eventually("the other follows at once", lambda: second.leads, timeout_s=4)
        stored = read_lease(await client.request("GET", LEASES.path("default", "status")))
        assert stored.transitions == 6
        assert msgspec.json.decode(stored.metadata) == {"labels": labels}
        tasks[second].cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
