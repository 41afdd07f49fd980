"""A relay whose Exporters live in a real kube-apiserver: applied, edited and deleted by kubectl."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.app import Relay
from relay.config.settings.kubernetes import KubernetesProjects, KubernetesSettings
from relay.config.settings.settings import (
    ListenAddress,
    Settings,
    Shutdown,
    Storage,
    TenancySettings,
)
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.kubernetes.kubectl import Kubectl
from tests.kit.kubernetes.real_api import RealApi, new_etcd, real_api
from tests.kit.kubernetes.relays import define
from tests.kit.processes import eventually
from tests.kit.remote_write.write_client import WriteClient
from tests.kit.stored_relay import AT_ONCE
from tests.own_time import patience

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]

LABEL = "resourcemanager.miloapis.com/project-name"
EXPORTER = """
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  sources: [{{name: all, metrics: {metrics}}}]
  sinks:
    - name: out
      sources: [all]
      otlp_http: {{endpoint: "{endpoint}", compression: none{access}}}
      batch: {{timeout: 50ms, maxSize: 10000}}
"""
ACCESS = ", authentication: {type: bearerToken, secretRef: {name: token}}"
SECRET = """
apiVersion: v1
kind: Secret
metadata: {{name: token, namespace: {namespace}}}
stringData: {{token: "{token}"}}
"""
NAMESPACE = """
apiVersion: v1
kind: Namespace
metadata: {{name: {name}, labels: {labels}}}
"""


class Cluster:
    """A control plane and an endpoint; objects come and go by kubectl."""

    def __init__(self, api: RealApi, server: OtlpServer) -> None:
        self.api = api
        self.server = server
        self.kubectl = Kubectl(api.kubeconfig, api.folder)
        self._endpoint = server.url.removesuffix("/v1/metrics")

    async def apply(self, text: str) -> None:
        await self.kubectl.apply(text)

    async def apply_exporter(
        self,
        name: str,
        metrics: str = "{metricsql: up}",
        *,
        namespace: str = "default",
        access: str = "",
    ) -> None:
        await self.apply(
            EXPORTER.format(
                name=name,
                namespace=namespace,
                metrics=metrics,
                endpoint=self._endpoint,
                access=access,
            )
        )

    async def apply_namespace(self, name: str, **labels: str) -> None:
        await self.apply(NAMESPACE.format(name=name, labels=json.dumps(labels)))


@asynccontextmanager
async def cluster_in(folder: Path) -> AsyncIterator[Cluster]:
    async with real_api(folder, etcd=new_etcd()) as api, OtlpServer() as server:
        cluster = Cluster(api, server)
        await define(cluster.kubectl)
        yield cluster


@asynccontextmanager
async def relay_of(
    cluster: Cluster,
    *,
    label: str = "",
    storage: Path | None = None,
) -> AsyncIterator[Relay]:
    projects = KubernetesProjects(label) if label else None
    relay = Relay(
        Settings(
            translation=AT_ONCE,
            listen=ListenAddress("127.0.0.1", 0),
            admin_listen=ListenAddress("127.0.0.1", 0),
            kubernetes=KubernetesSettings(cluster.api.kubeconfig, projects=projects),
            tenancy=TenancySettings("project") if label else None,
            allow_private_endpoints=True,
            storage=Storage(storage) if storage is not None else None,
            shutdown=Shutdown(drain_timeout_s=0.5),
        )
    )
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()


def client_of(relay: Relay) -> WriteClient:
    address = relay.ingest_address
    return WriteClient(f"http://{address.host}:{address.port}/api/v1/write")


def running(relay: Relay) -> set[str]:
    return {exporter.id for exporter in relay.facts().exporters}


async def runs(relay: Relay, *expected: str, timeout_s: float = 3) -> None:
    await eventually(
        f"{expected} run", lambda: running(relay) == set(expected), timeout_s=timeout_s
    )


async def delivers(cluster: Cluster, client: WriteClient, name: str = "up", **labels: str) -> None:
    before = len(cluster.server.values)
    assert await client.send(name, series=3, labels=labels) == 204
    await cluster.server.wait_until(lambda: len(cluster.server.values) == before + 3)


def faults(relay: Relay) -> list[str]:
    return [fault.text for fault in relay.facts().faults]


async def sends(cluster: Cluster, client: WriteClient, authorization: str) -> None:
    """Send until a request carries these credentials."""
    while not any(one.headers["Authorization"] == authorization for one in cluster.server.taken):
        await delivers(cluster, client)


async def until_taken(cluster: Cluster, client: WriteClient, labels: dict[str, str]) -> None:
    """Send until the endpoint gets something."""
    while not cluster.server.values:
        assert await client.send("up", labels=labels) == 204
        await asyncio.sleep(0.1)


async def test_an_exporter_is_applied_edited_and_deleted(tmp_path: Path) -> None:
    async with cluster_in(tmp_path) as cluster, relay_of(cluster) as relay:
        assert running(relay) == set()
        async with client_of(relay) as client:
            await cluster.apply_exporter("demo")
            await runs(relay, "default/demo", timeout_s=1.5)
            await delivers(cluster, client)
            await cluster.apply_exporter("demo", "{metricsql: down}")
            await eventually(
                "edited",
                lambda: [one.generation for one in relay.facts().exporters] == [2],
                timeout_s=1.5,
            )
            await delivers(cluster, client, "down")
            await cluster.kubectl("delete", "exporter", "demo")
            await runs(relay, timeout_s=1.5)


async def test_a_secret_that_comes_later_makes_its_exporter_run(tmp_path: Path) -> None:
    async with cluster_in(tmp_path) as cluster, relay_of(cluster) as relay:
        await cluster.apply_exporter("demo", access=ACCESS)
        await eventually("refused", lambda: bool(faults(relay)), timeout_s=3)
        assert (
            "there is no such secret; create it: kubectl -n default create secret"
            in faults(relay)[0]
        )
        await cluster.apply(SECRET.format(namespace="default", token="first"))
        await runs(relay, "default/demo", timeout_s=3)
        async with client_of(relay) as client:
            await delivers(cluster, client)
            assert cluster.server.taken[-1].headers["Authorization"] == "Bearer first"
            await cluster.apply(SECRET.format(namespace="default", token="second"))
            async with patience(5):
                await sends(cluster, client, "Bearer second")


async def test_the_label_of_a_namespace_says_whose_its_objects_are(tmp_path: Path) -> None:
    async with cluster_in(tmp_path) as cluster, relay_of(cluster, label=LABEL) as relay:
        await cluster.apply_namespace("shop")
        await cluster.apply_exporter("demo", namespace="shop")
        await cluster.apply_exporter("nobodys")
        await cluster.apply_namespace("shop", **{LABEL: "acme"})
        await runs(relay, "acme/shop/demo")
        async with client_of(relay) as client:
            await delivers(cluster, client, project="acme")
            await cluster.apply_namespace("shop", **{LABEL: "umbrella"})
            await runs(relay, "umbrella/shop/demo")
            await delivers(cluster, client, project="umbrella")
        await cluster.apply_namespace("shop")
        await runs(relay)


async def test_namespaces_give_labels_to_selectors(tmp_path: Path) -> None:
    selector = "{resourceSelectors: [{namespaceSelector: {matchLabels: {team: a}}}]}"
    async with cluster_in(tmp_path) as cluster, relay_of(cluster) as relay:
        await cluster.apply_namespace("shop")
        await cluster.apply_exporter("demo", selector)
        await runs(relay, "default/demo")
        labels = {
            "resource_namespace": "shop",
            "resource_kind": "Workload",
            "resource_name": "w",
            "service_name": "g",
        }
        async with client_of(relay) as client:
            assert await client.send("up", labels=labels) == 204
            await cluster.apply_namespace("shop", team="a")
            async with patience(5):
                await until_taken(cluster, client, labels)


async def test_objects_stay_while_the_api_is_away_and_over_a_restart(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    async with cluster_in(tmp_path / "api") as cluster:
        async with relay_of(cluster, storage=tmp_path / "data") as relay:
            await cluster.apply(SECRET.format(namespace="default", token="first"))
            await cluster.apply_exporter("demo", access=ACCESS)
            await runs(relay, "default/demo")
            await cluster.api.stop()
            async with client_of(relay) as client:
                await delivers(cluster, client)
        async with relay_of(cluster, storage=tmp_path / "data") as relay:
            assert running(relay) == {"default/demo"}
            async with client_of(relay) as client:
                await delivers(cluster, client)
                assert cluster.server.taken[-1].headers["Authorization"] == "Bearer first"
            await cluster.api.start()
            await cluster.apply_exporter("more")
            await runs(relay, "default/demo", "default/more", timeout_s=20)
            await cluster.kubectl("delete", "exporter", "demo")
            await runs(relay, "default/more", timeout_s=5)
    secrets = tmp_path / "data/kubernetes/cluster/secrets"
    assert secrets.stat().st_mode & 0o777 == 0o600
    assert b"Zmlyc3Q=" not in secrets.read_bytes(), "no exporter refers to it any more"
