"""Relays that read the API of another one: one status of all, over cuts and restarts."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.kubernetes.kubectl import Kubectl, object_text
from tests.kit.kubernetes.relays import ClusterRelay, Load
from tests.kit.kubernetes.servers import OWN_READ, OwnServer, object_server
from tests.kit.processes import eventually

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]

BOTH = "2 of 2"
STEADY = '{range .status.conditions[*]}{.type}={.status}@{.lastTransitionTime} {end}{"\\n"}'


@asynccontextmanager
async def reading(folder: Path, kubeconfig: Path, **settings: Any) -> AsyncIterator[ClusterRelay]:
    """A relay that reads the API, and is ended by the block."""
    relay = ClusterRelay(folder, kubeconfig, pod="second", **settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(relay.close)
        await relay.start()
        yield relay
    relay.check_log()


async def delivered(kubectl: Kubectl, *words: str) -> int:
    """What all relays have delivered for an Exporter."""
    (sink,) = (await kubectl.get("exporter", *words))["status"]["sinks"]
    found: int = sink.get("ledger", {}).get("delivered", 0)
    return found


async def reports(kubectl: Kubectl, relays: str, *words: str) -> None:
    """Wait until the status of an Exporter is that of so many relays."""

    async def has_them() -> bool:
        found = (await kubectl.get("exporter", *words)).get("status", {})
        return found.get("relays", "") == relays

    await eventually(f"the status of {relays} relays", has_them, timeout_s=30)


async def test_a_status_is_that_of_all_relays(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    async with OtlpServer() as server, object_server(OWN_READ, folder) as api:
        assert isinstance(api, OwnServer)
        kubectl = Kubectl(api.kubeconfig, tmp_path)
        await kubectl.apply(exporter_yaml("web", server.origin, metrics="numbered"))
        async with reading(tmp_path / "second", api.kubeconfig) as second:
            await reports(kubectl, BOTH, "web")
            async with Load(api.process.url).running() as one, Load(second.url).running() as two:
                await kubectl.wait_for("exporter", "web", status="True", timeout_s=30)
            assert two.sent
            sent = len(one.sent)

            async def is_summed() -> bool:
                return await delivered(kubectl, "web") > sent  # more than one of them has sent

            await eventually("the ledgers of both are summed", is_summed, timeout_s=30)
            before = await kubectl("get", "exporter", "web", "-o", f"jsonpath={STEADY}")
            lease = await kubectl.get("lease", "telemetry-relay")
            assert "second" not in lease["spec"]["holderIdentity"]

            assert await api.process.stop() == 0
            await api.start()
            async with kubectl.watching("exporter", "web", "-o", f"jsonpath={STEADY}") as watch:
                await reports(kubectl, BOTH, "web")
                async with Load(second.url, again="yes").running():
                    await eventually(
                        "the other goes on", lambda: len(server.taken) > 0, timeout_s=10
                    )
                await kubectl.wait_for("exporter", "web", status="True", timeout_s=30)
                assert {line for _, line in watch.lines} == {before.strip()}

            await second.stop(signal.SIGKILL)
            found = await kubectl.wait_for(
                "exporter", "web", status="Unknown", reason="NoReport", timeout_s=40
            )
            assert "second" in found["message"]
            await second.start()
            async with Load(second.url, more="yes").running():
                await kubectl.wait_for("exporter", "web", status="True", timeout_s=40)
            await kubectl("delete", "exporter", "web", "--timeout=20s")


async def test_projects_are_read_below_their_paths(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    tenancy = {"tenancy": {"label": "project"}, "allowPrivateEndpoints": True}
    async with OtlpServer() as server, AsyncExitStack() as stack:
        api = OwnServer(folder, is_read=True, projects=["*"], **tenancy)
        stack.push_async_callback(api.close)
        await api.start()
        leases = api.kubeconfig_of("operators")
        kubernetes = {
            "projects": {
                "serverPath": {"path": "/projects/{project}", "names": ["acme", "globex"]}
            },
            "relays": {"kubeconfig": str(leases)},
        }
        secret = object_text("Secret", "tok", {"stringData": {"token": "s3cret"}})
        wanted = {"type": "bearerToken", "secretRef": {"name": "tok", "key": "token"}}
        acme, globex = (
            Kubectl(api.kubeconfig_of(name), tmp_path / name) for name in ("acme", "globex")
        )
        for kubectl in (acme, globex):
            text = exporter_yaml(
                "web", server.origin, metrics="{}", otlp_http={"authentication": wanted}
            )
            await kubectl.apply(secret, text)
        async with (
            reading(
                tmp_path / "second", api.kubeconfig, kubernetes=kubernetes, **tenancy
            ) as second,
            Load(second.url, project="acme").running(),
        ):
            await reports(acme, BOTH, "web")
            await acme.wait_for("exporter", "web", status="True", timeout_s=30)
            assert server.taken[0].headers["Authorization"] == "Bearer s3cret"
            await globex.wait_for("exporter", "web", status="Unknown", reason="NoData")
            found = yaml.safe_load(await acme("get", "leases", "-o", "yaml"))
            assert not found["items"]
            assert await delivered(acme, "web")
            assert not await delivered(globex, "web")
