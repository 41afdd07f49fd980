"""Relays as processes over a real kube-apiserver: one writes statuses for all of them."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay.control.cluster.resources import EXPORTING
from relay.control.kubernetes.client import ApiClient, WatchTarget
from relay.control.kubernetes.errors import ThrottledError
from relay.control.kubernetes.kubeconfig import read_kubeconfig
from relay.control.kubernetes.objects import ObjectEvent
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.kubernetes.kubectl import Kubectl
from tests.kit.kubernetes.real_api import RealApi, new_etcd, real_api
from tests.kit.paths import ROOT
from tests.kit.processes import Process, eventually, relay
from tests.kit.remote_write.write_client import WriteClient
from tests.own_time import crowding

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.newest,
]

EXPORTERS = next(one for one in EXPORTING if one.kind == "Exporter")
EXPORTER = """
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {{name: demo, namespace: default}}
spec:
  sources: [{{name: all, metrics: {{metricsql: up}}}}]
  sinks:
    - name: out
      sources: [all]
      otlp_http: {{endpoint: "{endpoint}", compression: none}}
      batch: {{timeout: 50ms, maxSize: 10000}}
"""


@dataclass
class Cluster:
    """A control plane, an endpoint, and every condition that a watcher of the object has seen."""

    api: RealApi
    server: OtlpServer
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    """Type, status and reason of conditions of the object, repetitions left out."""

    def __post_init__(self) -> None:
        self.kubectl = Kubectl(self.api.kubeconfig, self.api.folder)

    async def apply(self) -> None:
        endpoint = self.server.url.removesuffix("/v1/metrics")
        await self.kubectl("apply", "-f", "-", text=EXPORTER.format(endpoint=endpoint))

    async def status(self) -> dict[str, Any]:
        text = await self.kubectl("get", "exporter", "demo", "-o", "json")
        status: dict[str, Any] = json.loads(text).get("status", {})
        return status

    async def shown(self) -> tuple[str, str | None, str | None]:
        """Relays, and status and reason of Delivering."""
        found = await self.status()
        one = {one["type"]: one for one in found.get("conditions", [])}.get("Delivering", {})
        return found.get("relays", ""), one.get("status"), one.get("reason")

    async def shows(self, relays: str, status: str, reason: str, *, timeout_s: float) -> None:
        async def holds() -> bool:
            return await self.shown() == (relays, status, reason)

        await eventually(f"{relays!r}: {status} {reason}", holds, timeout_s=timeout_s)

    async def events(self) -> dict[str, int]:
        """Uids of the object's Events, and how often each was told; the server has its own."""
        of_it = "--field-selector=involvedObject.name=demo"
        items = json.loads(await self.kubectl("get", "events", of_it, "-o", "json"))["items"]
        assert items
        return {one["metadata"]["uid"]: one["count"] for one in items}

    async def leases(self) -> dict[str, str]:
        """Names of Leases, and the relays that hold them."""
        items = json.loads(await self.kubectl("get", "leases", "-o", "json"))["items"]
        return {
            one["metadata"]["name"]: one["spec"].get("holderIdentity", "").partition("_")[0]
            for one in items
        }

    async def has(self, relay: Relay, *, leads: bool = False) -> None:
        """Wait until a relay takes part, or leads."""

        async def holds() -> bool:
            leases = await self.leases()
            held = [leases.get("telemetry-relay", "")] if leads else leases.values()
            return any(one.endswith(relay.name) for one in held)

        await eventually(f"{relay.name} takes part", holds, timeout_s=20)

    def of_type(self, name: str) -> list[tuple[str, str]]:
        return [(status, reason) for one, status, reason in self.seen if one == name]

    async def saw(self, name: str, *states: tuple[str, str]) -> None:
        """Expect these states of a type to be the last ones; a watch is a little late.

        A sink may be without its first answer for a moment, which is a state of its own.
        """
        expected = list(states)

        def holds() -> bool:
            seen = [one for one in self.of_type(name) if one in expected or one != NO_ANSWER]
            return seen[-len(expected) :] == expected

        await eventually(f"{expected}, not {self.of_type(name)}", holds, timeout_s=5)

    async def watch(self) -> None:
        """Note every change; a new kind is answered with 429 at first."""
        last: dict[str, tuple[str, str]] = {}
        target = WatchTarget(EXPORTERS, "default")
        async with ApiClient(read_kubeconfig(self.api.kubeconfig)) as client:
            while True:
                try:
                    async with client.watch(target) as stream:
                        async for events in stream.parts():
                            for event in events:
                                if isinstance(event, ObjectEvent):
                                    self._note(event.object.status, last)
                except ThrottledError:
                    await asyncio.sleep(0.2)

    def _note(self, status: bytes, last: dict[str, tuple[str, str]]) -> None:
        for one in json.loads(status or b"{}").get("conditions", []):
            state = (one["status"], one["reason"])
            if last.get(one["type"]) != state:
                last[one["type"]] = state
                self.seen.append((one["type"], *state))


@asynccontextmanager
async def cluster_in(folder: Path) -> AsyncIterator[Cluster]:
    async with real_api(folder, etcd=new_etcd()) as api, OtlpServer() as server:
        cluster = Cluster(api, server)
        await cluster.kubectl("apply", "-k", str(ROOT / "config/crds"))
        await cluster.kubectl("wait", "--for=condition=Established", "--all", "crd")
        watching = asyncio.create_task(cluster.watch())
        try:
            yield cluster
            assert not watching.done(), watching.exception()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


@dataclass
class Relay:
    """A relay process, and a client that sends to it."""

    process: Process
    name: str
    client: WriteClient
    admin: str

    async def sees(self, count: int) -> None:
        """Wait until it knows so many relays: it looks at their Leases now and then."""

        async def holds() -> bool:
            async with aiohttp.request("GET", f"{self.admin}/metrics") as answer:
                return f"\nrelay_kubernetes_relays {count}.0\n" in await answer.text()

        await eventually(f"{self.name} sees {count} relays", holds, timeout_s=20)


NO_ANSWER = ("Unknown", "NoAnswer")


class Relays:
    """Relay processes over one cluster, which end with the block."""

    def __init__(self, cluster: Cluster, folder: Path, stack: AsyncExitStack) -> None:
        self._cluster = cluster
        self._folder = folder
        self._stack = stack
        self._count = 0

    async def start(self, **relays: str) -> Relay:
        folder = self._folder / f"relay-{self._count}"
        self._count += 1
        folder.mkdir()
        settings = {
            "kubernetes": {"kubeconfig": str(self._cluster.api.kubeconfig), "relays": relays},
            "allowPrivateEndpoints": True,
            "translation": {"firstSightWait": "0s"},
            "shutdown": {"drainTimeout": "500ms"},
        }
        path = folder / "relay.yaml"
        path.write_text(json.dumps(settings))
        process, url, admin = await self._stack.enter_async_context(
            relay(folder, "--config", str(path))
        )
        client = await self._stack.enter_async_context(WriteClient(url))
        return Relay(process, f"-{admin.rpartition(':')[2]}", client, admin)

    async def two(self) -> tuple[Relay, Relay]:
        """Start two, of which the first leads."""
        first = await self.start()
        await self._cluster.has(first, leads=True)
        second = await self.start()
        await self._cluster.has(second)
        await first.sees(2)
        return first, second


@asynccontextmanager
async def relays_of(cluster: Cluster, folder: Path) -> AsyncIterator[Relays]:
    async with AsyncExitStack() as stack:
        yield Relays(cluster, folder, stack)


async def test_the_next_relay_writes_after_the_leader_is_killed(tmp_path: Path) -> None:
    async with cluster_in(tmp_path) as cluster, relays_of(cluster, tmp_path) as relays:
        first, second = await relays.two()
        await cluster.apply()
        await cluster.shows("2 of 2", "Unknown", "NoData", timeout_s=75)
        assert await second.client.send("up", series=3) == 204
        await cluster.shows("2 of 2", "True", "Delivering", timeout_s=20)

        async def told_of_delivery() -> bool:
            text = await cluster.kubectl("describe", "exporter", "demo")
            events = text.partition("Events:")[2]
            return "generation 1 runs" in events and "out: data is delivered" in events

        await eventually("kubectl describe shows it", told_of_delivery, timeout_s=5)
        told = await cluster.events()

        killed_at = time.monotonic()
        first.process.send_signal(signal.SIGKILL)
        await cluster.shows("1 of 2", "Unknown", "NoReport", timeout_s=25)
        taken_s = time.monotonic() - killed_at
        assert (await cluster.leases())["telemetry-relay"].endswith(second.name)
        assert taken_s < 20 * crowding(), taken_s

        assert await cluster.events() == told, "told again"
        states = (("Unknown", "NoData"), ("True", "Delivering"), ("Unknown", "NoReport"))
        await cluster.saw("Delivering", *states)
        seen = [one for one in cluster.of_type("Delivering") if one != NO_ANSWER]
        assert len(seen) == len(states)
        assert len(cluster.of_type("Delivering")) - len(seen) <= 1
        for name in ("Accepted", "ResolvedRefs", "Programmed"):
            assert [status for status, _ in cluster.of_type(name)] == ["True"], name


async def test_a_relay_that_restarts_does_not_show(tmp_path: Path) -> None:
    async with cluster_in(tmp_path) as cluster, relays_of(cluster, tmp_path) as relays:
        first, second = await relays.two()
        await cluster.apply()
        await cluster.shows("2 of 2", "Unknown", "NoData", timeout_s=75)
        await first.client.send("up", series=3)
        await cluster.shows("2 of 2", "True", "Delivering", timeout_s=20)
        assert await second.process.stop() == 0
        names = await cluster.leases()
        assert not any(name.endswith(second.name) for name in names), "it was given back"
        await asyncio.sleep(12)  # two looks at the Leases, and a little
        # One look, however long kubectl takes on a busy machine.
        assert await cluster.shown() == ("2 of 2", "True", "Delivering")
        await cluster.saw("Delivering", ("Unknown", "NoData"), ("True", "Delivering"))


async def test_a_relay_whose_report_cannot_be_fetched_is_named(tmp_path: Path) -> None:
    async with cluster_in(tmp_path) as cluster, relays_of(cluster, tmp_path) as relays:
        first, _ = await relays.two()
        await cluster.apply()
        await cluster.shows("2 of 2", "Unknown", "NoData", timeout_s=75)
        await first.client.send("up", series=3)
        await cluster.shows("2 of 2", "True", "Delivering", timeout_s=20)
        third = await relays.start(advertise="http://127.0.0.1:1")
        await cluster.shows("2 of 3", "Unknown", "NoReport", timeout_s=40)
        (one,) = (
            one for one in (await cluster.status())["conditions"] if one["type"] == "Delivering"
        )
        reason = "cannot be asked: no connection: Connection refused"
        assert f"{third.name} {reason}" in one["message"]
        await cluster.saw("Delivering", ("True", "Delivering"), ("Unknown", "NoReport"))
