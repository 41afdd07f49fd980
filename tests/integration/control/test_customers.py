"""Two customers on one relay: paths, labels, resource selectors, inventory, explain, status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay.api.contract import StatusFilter
from relay.app import Relay
from relay.cli import main
from relay.config.settings.settings import load_settings
from relay.sink.reporting.health import STATES
from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.remote_write.write_client import WriteClient

GATEWAYS_IN_PRODUCTION = {
    "resourceSelectors": [
        {
            "namespaceSelector": {"matchLabels": {"environment": "production"}},
            "kinds": [{"apiGroups": ["gateway.networking.k8s.io"], "resources": ["gateways"]}],
        }
    ]
}
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {environment: %s}}\n"
SETTINGS = """
listen: 127.0.0.1:0
adminListen: 127.0.0.1:0
tenancy: {label: tenant, accounts: [{account: "42:7", project: acme}]}
allowPrivateEndpoints: true
exporters:
  - {path: acme.yaml, project: acme}
  - {path: globex.yaml, project: globex}
inventory: {manifests: [{path: namespaces.yaml, project: acme}]}
shutdown: {drainTimeout: 200ms}
"""
GATEWAY = {
    "resource_namespace": "shop",
    "resource_kind": "Gateway",
    "service_name": "gateway.networking.k8s.io",
}


@dataclass
class Platform:
    """A relay, and the endpoints of its two customers."""

    relay: Relay
    directory: Path
    acme: OtlpServer
    globex: OtlpServer

    async def send(self, path: str, name: str = "bytes", **labels: str) -> None:
        """Five series by a path."""
        address = self.relay.ingest_address
        async with WriteClient(f"http://{address.host}:{address.port}{path}") as client:
            assert await client.send(name, series=5, labels=labels) == 204

    async def arrived(self, server: OtlpServer, count: int) -> None:
        """Wait until an endpoint has that many points."""
        await server.wait_until(lambda: len(server.values) >= count)


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    async with OtlpServer() as acme, OtlpServer() as globex:
        for name, server in (("acme", acme), ("globex", globex)):
            text = exporter_yaml(
                "everything",
                server.url,
                namespace="default",
                source="gateways",
                metrics=GATEWAYS_IN_PRODUCTION,
                otlp_http={"compression": "none"},
                batch={"timeout": "20ms"},
            )
            (tmp_path / f"{name}.yaml").write_text(text)
        (tmp_path / "namespaces.yaml").write_text(NAMESPACE % "production")
        (tmp_path / "relay.yaml").write_text(SETTINGS)
        relay = Relay(load_settings(tmp_path / "relay.yaml"))
        await relay.start()
        try:
            yield Platform(relay, tmp_path, acme, globex)
        finally:
            await relay.stop()


async def test_each_customer_gets_its_own(platform: Platform) -> None:
    await platform.send("/api/v1/write", tenant="acme", **GATEWAY)
    await platform.send("/insert/42:7/prometheus/api/v1/write", **GATEWAY)
    multitenant = {"vm_account_id": "42", "vm_project_id": "7"}
    await platform.send("/insert/multitenant/prometheus/api/v1/write", **multitenant, **GATEWAY)
    await platform.arrived(platform.acme, 15)
    # globex has no such namespace until a series of its own says so.
    await platform.send("/api/v1/write", tenant="globex", **GATEWAY)
    await platform.send("/insert/42:7/prometheus", tenant="globex", **GATEWAY)
    info = {"namespace": "shop", "label_environment": "production"}
    await platform.send("/api/v1/write", "kube_namespace_labels", tenant="globex", **info)
    await platform.send("/api/v1/write", tenant="globex", **GATEWAY)
    await platform.arrived(platform.globex, 5)
    assert len(platform.acme.values) == 15
    assert len(platform.globex.values) == 5


async def test_an_inventory_that_changes_is_read_again(platform: Platform) -> None:
    await platform.send("/api/v1/write", tenant="acme", **GATEWAY)
    await platform.arrived(platform.acme, 5)
    (platform.directory / "namespaces.yaml").write_text(NAMESPACE % "development")
    await platform.relay.reload()
    await platform.send("/api/v1/write", tenant="acme", **GATEWAY)
    (platform.directory / "namespaces.yaml").write_text(NAMESPACE % "production")
    await platform.relay.reload()
    await platform.send("/api/v1/write", tenant="acme", other="1", **GATEWAY)
    await platform.arrived(platform.acme, 10)
    assert len(platform.acme.values) == 10


async def test_the_running_relay_explains_itself(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    address = platform.relay.admin_address
    url = f"http://{address.host}:{address.port}"
    series = 'bytes{tenant="acme",resource_namespace="shop",resource_kind="Gateway",'
    series += 'service_name="gateway.networking.k8s.io"}'
    status = await asyncio.to_thread(main.main, ["explain", "--relay", url, series])
    told = capsys.readouterr().out
    assert status == 0
    assert told.startswith(
        "acme/default/everything\n  yes: source gateways takes it, to endpoint\n"
        "    because of resourceSelectors[0]: kinds gateways of gateway.networking.k8s.io, "
        "namespaces with environment=production\n"
        "globex/default/everything\n  no: the series is not of this exporter's project\n"
    )
    wrong = ["explain", "--relay", url, "--exporter", "acme/default/x", series]
    assert await asyncio.to_thread(main.main, wrong) == 1
    assert "there is no exporter acme/default/x" in capsys.readouterr().err
    ingest = platform.relay.ingest_address
    senders = ["explain", "--relay", f"http://{ingest.host}:{ingest.port}", series]
    assert await asyncio.to_thread(main.main, senders) == 1
    assert "has no /explain: write the address of adminListen" in capsys.readouterr().err
    async with aiohttp.ClientSession() as session, session.get(f"{url}/status") as answer:
        status_page = await answer.json()
    assert [one["sources"][0]["resourceSelectors"] for one in status_page["exporters"]] == [
        ["kinds gateways of gateway.networking.k8s.io, namespaces with environment=production"]
    ] * 2


async def test_a_customers_status_names_nobody_else(platform: Platform) -> None:
    for name in ("acme", "globex"):
        with (platform.directory / f"{name}.yaml").open("a") as file:
            file.write(f"---\nkind: Exporter\nmetadata: {{name: broken-of-{name}}}\n")
    with (platform.directory / "namespaces.yaml").open("a") as file:
        file.write("---\nkind: Namespace\n")
    await platform.relay.reload()
    everything = str(platform.relay.status())
    assert "broken-of-acme" in everything
    assert "broken-of-globex" in everything
    page: Any = platform.relay.status(StatusFilter(project="globex"))
    assert [one["name"] for one in page["exporters"]] == ["globex/default/everything"]
    assert page["faults"]
    assert "acme" not in str(page)
    assert "ingest" not in page
    page = platform.relay.status(StatusFilter(project="acme"))
    assert "globex" not in str(page)
    assert any("namespaces.yaml" in fault["origin"] for fault in page["faults"])
    page = platform.relay.status(StatusFilter(project="nobody"))
    assert page == {
        "project": "nobody",
        "summary": {"exporters": 0, "sinks": dict.fromkeys(STATES, 0)},
        "exporters": [],
        "notRunning": [],
        "projects": [],
        "faults": [],
        "metadataContradictions": [],
        "orphans": [],
    }


async def test_status_is_filtered_and_counts_on_top(platform: Platform) -> None:
    def names(**wanted: str) -> list[str]:
        document: Any = platform.relay.status(StatusFilter(**wanted))
        return [one["name"] for one in document["exporters"]]

    everybody = names()
    assert len(everybody) > 1
    assert names(exporter="globex/") == [one for one in everybody if one.startswith("globex/")]
    assert names(exporter=everybody[0]) == everybody[:1]
    assert names(exporter=everybody[0][:-1]) == []
    assert names(state="healthy") == everybody
    assert names(state="failing") == []
    summary: Any = platform.relay.status(StatusFilter(exporter=everybody[0]))["summary"]
    assert summary["exporters"] == len(everybody), "counts are of all"
    assert summary["sinks"]["healthy"] >= len(everybody)
