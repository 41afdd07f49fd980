"""The relay's own Kubernetes client on the relay's own API: a relay may be another one's source."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from relay.control.kubernetes.client import APPLY, ApiClient, WatchTarget
from relay.control.kubernetes.errors import ExpiredError, RequestRefusedError, WriteConflictError
from relay.control.kubernetes.kubeconfig import read_kubeconfig
from relay.control.kubernetes.leader import LEASES, LeaderElector
from relay.control.kubernetes.lease import read_lease
from relay.control.kubernetes.objects import ApiResource
from relay.control.kubernetes.reflector import Reflector, ReflectorLimits
from tests.kit.apiserver.running import RELAY, ApiProcess, exporter, secret
from tests.kit.processes import eventually
from tests.own_time import crowding, within

pytestmark = [pytest.mark.slow]

EXPORTERS = ApiResource("telemetry.datumapis.com", "v1alpha1", "exporters", "Exporter")
SECRETS = ApiResource("", "v1", "secrets", "Secret")
QUICK = ReflectorLimits(backoff_s=0.1)


@asynccontextmanager
async def running(reflector: Reflector) -> AsyncIterator[Reflector]:
    task = asyncio.ensure_future(reflector.run())
    try:
        await within(30, reflector.ready())
        yield reflector
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def names(reflector: Reflector) -> set[str]:
    return {name for _, name in reflector.store.objects}


@pytest.fixture
def api(tmp_path: Path) -> ApiProcess:
    made = ApiProcess(tmp_path)
    made.prepare(RELAY)
    return made


@asynccontextmanager
async def connected(api: ApiProcess) -> AsyncIterator[ApiClient]:
    async with ApiClient(read_kubeconfig(api.kubeconfig)) as client:
        yield client


async def test_a_reflector_follows_objects_over_a_restart(api: ApiProcess) -> None:
    async with connected(api) as client:
        path = EXPORTERS.path("default")
        async with api.running() as process:
            for number in range(5):
                await client.request("POST", path, document=exporter(f"e{number}"))
            with pytest.raises(WriteConflictError):
                await client.request("POST", path, document=exporter("e1"))
            with pytest.raises(RequestRefusedError):
                await client.request("GET", EXPORTERS.path(), query={"limit": "x"})
            await client.request("POST", SECRETS.path("default"), document=secret())
            reflector = Reflector(client, WatchTarget(EXPORTERS), limits=QUICK)
            of_secrets = Reflector(client, WatchTarget(SECRETS, metadata_only=True), limits=QUICK)
            running_secrets = running(of_secrets)
            async with running_secrets:
                assert names(of_secrets) == {"tok"}
            following = running(reflector)
            await following.__aenter__()
            assert names(reflector) == {f"e{number}" for number in range(5)}
            assert reflector._streaming
            await client.request("DELETE", EXPORTERS.path("default", "e0"))
            await eventually("it is gone", lambda: "e0" not in names(reflector), timeout_s=5)
            await process.stop()
        async with api.running():
            await client.request("POST", path, document=exporter("new"))
            await eventually("the new one is seen", lambda: "new" in names(reflector), timeout_s=20)
            assert reflector.statistics().lists == 1
            await following.__aexit__(None, None, None)


async def test_a_reflector_lists_anew_from_a_server_that_was_set_back(api: ApiProcess) -> None:
    path = EXPORTERS.path("default")
    async with connected(api) as client:
        reflector = Reflector(client, WatchTarget(EXPORTERS), limits=QUICK)
        async with api.running() as process:
            for number in range(5):
                await client.request("POST", path, document=exporter(f"e{number}"))
            following = running(reflector)
            await following.__aenter__()
            assert len(names(reflector)) == 5
            await process.stop()
        for file in await asyncio.to_thread(lambda: list(api.folder.glob("api.db*"))):
            file.unlink()
        async with api.running():
            await client.request("POST", path, document=exporter("new"))
            await eventually("it is alone", lambda: names(reflector) == {"new"}, timeout_s=20)
            await following.__aexit__(None, None, None)


async def test_status_is_owned_by_parts(api: ApiProcess) -> None:
    async with api.running(), connected(api) as client:
        await client.request("POST", EXPORTERS.path("default"), document=exporter("e"))
        path = EXPORTERS.path("default", "e", "status")
        parts = {
            "theirs": {"conditions": [{"type": "Ready", "status": "True"}]},
            "ours": {
                "conditions": [{"type": "Accepted", "status": "True"}],
                "sinks": [{"name": "one"}],
            },
        }
        for manager, status in parts.items():
            document = {
                "apiVersion": EXPORTERS.api_version,
                "kind": EXPORTERS.kind,
                "metadata": {"name": "e"},
                "status": status,
            }
            query = {"fieldManager": manager}
            await client.request("PATCH", path, query=query, document=document, content_type=APPLY)
        stale = {**document, "metadata": {"name": "e", "resourceVersion": "1"}}
        with pytest.raises(WriteConflictError):
            await client.request("PATCH", path, query=query, document=stale, content_type=APPLY)
        found = msgspec.json.decode(await client.request("GET", EXPORTERS.path("default", "e")))
        types = [condition["type"] for condition in found["status"]["conditions"]]
        assert sorted(types) == ["Accepted", "Ready"]
        assert found["status"]["sinks"] == [{"name": "one"}]
        assert found["metadata"]["generation"] == 1


async def test_one_relay_leads(api: ApiProcess) -> None:
    async with api.running(), connected(api) as client, connected(api) as another:
        one, two = (
            LeaderElector(each, namespace="default", name="status", identity=identity)
            for each, identity in ((client, "one"), (another, "two"))
        )
        tasks = {elector: asyncio.ensure_future(elector.run()) for elector in (one, two)}
        await eventually("one of them leads", lambda: one.leads or two.leads, timeout_s=10)
        first, second = (one, two) if one.leads else (two, one)
        began = time.monotonic()
        tasks[first].cancel()
        await eventually("the other follows", lambda: second.leads, timeout_s=10)
        assert time.monotonic() - began < 10 * crowding()
        stored = read_lease(await client.request("GET", LEASES.path("default", "status")))
        assert stored.holder == ("one" if second is one else "two")
        tasks[second].cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def test_an_old_version_is_expired(api: ApiProcess) -> None:
    async with api.running(), connected(api) as client:
        await client.request("POST", EXPORTERS.path("default"), document=exporter("e"))
        await client.request("DELETE", EXPORTERS.path("default", "e"))
    async with api.running(), connected(api) as client:
        watching = client.watch(WatchTarget(EXPORTERS), resource_version="2")
        async with watching as stream:
            parts = await anext(stream.parts())
        assert isinstance(parts[0], ExpiredError)
