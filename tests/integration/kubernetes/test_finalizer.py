"""The finalizer of the relay on a real API server, beside that of somebody else."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.control.cluster.finalizers import FINALIZER, FINALIZER_MANAGER
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.kubernetes.kubectl import Kubectl, object_text
from tests.kit.kubernetes.relays import ClusterRelay, Load, cluster_relay
from tests.kit.kubernetes.servers import ObjectServer
from tests.kit.paths import ROOT
from tests.kit.processes import eventually
from tests.own_time import crowding

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]

API = "telemetry.datumapis.com/v1alpha1"
THEIRS = "example.com/theirs"
DRAIN_S = 4.0
ON = {"finalizer": True}
DATUM = ("exportpolicies.telemetry.datumapis.com", "datum")
MILO = ("exportpolicies.telemetry.miloapis.com", "milo")
OBJECTS = (("exporter", "web"), DATUM, MILO)


def exporter(endpoint: str) -> str:
    sink = {
        "name": "there",
        "otlp_http": {"endpoint": endpoint},
        "batch": {"timeout": "100ms"},
    }
    spec = {"sources": [{"name": "all", "metrics": {"metricsql": ""}}], "sinks": [sink]}
    return object_text("Exporter", "web", {"spec": spec}, api=API)


def policy(name: str, endpoint: str) -> str:
    target = {"openTelemetry": {"http": {"endpoint": endpoint}}}
    sink = {"name": "there", "sources": ["all"], "target": target}
    spec = {"sources": [{"name": "all", "metrics": {"metricsql": ""}}], "sinks": [sink]}
    return object_text(
        "ExportPolicy", name, {"spec": spec}, api=f"telemetry.{name}apis.com/v1alpha1"
    )


class Endpoint:
    """Refuses everything for now while ``away``."""

    def __init__(self) -> None:
        self.away = False

    def __call__(self, _: Received) -> Reply:
        return Reply(503 if self.away else 200)


async def finalizers(kubectl: Kubectl, *words: str) -> list[str]:
    found = await kubectl.get(*words)
    texts: list[str] = found["metadata"].get("finalizers", [])
    return texts


async def owners(kubectl: Kubectl) -> set[str]:
    """The field managers of the finalizer of the Exporter."""
    found = (await kubectl.get("exporter", "web"))["metadata"]["managedFields"]
    return {
        one["manager"]
        for one in found
        if f'v:"{FINALIZER}"' in one["fieldsV1"].get("f:metadata", {}).get("f:finalizers", {})
    }


async def has(kubectl: Kubectl, *wanted: str, of: tuple[str, str] = ("exporter", "web")) -> None:
    async def it_has() -> bool:
        return sorted(await finalizers(kubectl, *of)) == sorted(wanted)

    await eventually(f"{of} has {wanted}", it_has, timeout_s=30)


async def add_theirs(kubectl: Kubectl, *of: str) -> None:
    change = [{"op": "add", "path": "/metadata/finalizers", "value": [THEIRS]}]
    await kubectl("patch", *of, "--type=json", "-p", json.dumps(change))


async def is_gone(kubectl: Kubectl) -> bool:
    return (await kubectl.run("get", "exporter", "web")).status != 0


@asynccontextmanager
async def running(
    api: ObjectServer, folder: Path, name: str = "relay", **kubernetes: Any
) -> AsyncIterator[ClusterRelay]:
    async with cluster_relay(
        folder / name,
        api.kubeconfig,
        kubernetes=kubernetes,
        shutdown={"drainTimeout": f"{DRAIN_S:.0f}s"},
        storage=None,  # nothing but sending: with a volume, a failing sink's data is left there
    ) as relay:
        yield relay


async def test_a_deletion_waits_for_the_drain_and_for_others(
    api: ObjectServer, kubectl: Kubectl, tmp_path: Path
) -> None:
    endpoint = Endpoint()
    async with OtlpServer(endpoint) as server, running(api, tmp_path, **ON) as relay:
        await kubectl.apply(exporter(server.origin))
        await add_theirs(kubectl, "exporter", "web")
        await has(kubectl, FINALIZER, THEIRS)
        found = await kubectl.get("exporter", "web")
        (own,) = [
            one for one in found["metadata"]["managedFields"] if one["manager"] == FINALIZER_MANAGER
        ]
        fields = own["fieldsV1"]["f:metadata"]
        assert fields == {"f:finalizers": {f'v:"{FINALIZER}"': {}}}
        assert set(own["fieldsV1"]) == {"f:metadata"}
        assert found["metadata"]["generation"] == 1
        async with Load(relay.url).running():
            await kubectl.wait_for("exporter", "web", status="True", timeout_s=30)
            endpoint.away = True
            await kubectl.wait_for("exporter", "web", status="False", timeout_s=30)
            deleted = time.monotonic()
            await kubectl("delete", "exporter", "web", "--wait=false")
            await eventually("no source takes", lambda: _takes_none(relay), timeout_s=3)
            assert FINALIZER in await finalizers(kubectl, "exporter", "web")
        await has(kubectl, THEIRS)
        assert DRAIN_S - 1 < time.monotonic() - deleted < DRAIN_S + 10 * crowding()
        await kubectl("patch", "exporter", "web", "--type=merge", "-p", _NONE)
        assert await is_gone(kubectl)


_NONE = '{"metadata": {"finalizers": null}}'


async def _takes_none(relay: ClusterRelay) -> bool:
    return not (await relay.status())["exporters"]


async def test_a_deleted_object_that_others_hold_runs_no_longer(
    api: ObjectServer, kubectl: Kubectl, tmp_path: Path
) -> None:
    async with OtlpServer() as server, running(api, tmp_path) as relay:
        await kubectl.apply(exporter(server.origin))
        await add_theirs(kubectl, "exporter", "web")
        await kubectl.wait_for("exporter", "web", kind="Programmed", status="True")
        await kubectl("delete", "exporter", "web", "--wait=false")
        await eventually("it does not run", lambda: _takes_none(relay), timeout_s=5)
        assert await finalizers(kubectl, "exporter", "web") == [THEIRS]


async def test_every_kind_has_it_and_loses_it_where_the_setting_is_off_again(
    api: ObjectServer, kubectl: Kubectl, tmp_path: Path
) -> None:
    async with OtlpServer() as server:
        await kubectl.apply(
            exporter(server.origin),
            policy("datum", server.origin),
            policy("milo", server.origin),
        )
        for one in OBJECTS:
            await add_theirs(kubectl, *one)
        async with running(api, tmp_path, **ON):
            for one in OBJECTS:
                await has(kubectl, FINALIZER, THEIRS, of=one)
        # As after a restore from a backup: another manager owns the entry as well.
        restored = json.loads(exporter(server.origin).removeprefix("---\n"))
        restored["metadata"]["finalizers"] = [FINALIZER]
        how = ("apply", "--server-side", "--force-conflicts", "-f", "-")
        await kubectl(*how, text=json.dumps(restored))
        assert await owners(kubectl) == {FINALIZER_MANAGER, "kubectl"}
        await has(kubectl, FINALIZER, THEIRS)
        async with running(api, tmp_path):
            for one in OBJECTS:
                await has(kubectl, THEIRS, of=one)


async def test_two_relays_let_go_when_both_have_drained(
    api: ObjectServer, kubectl: Kubectl, tmp_path: Path
) -> None:
    endpoint = Endpoint()
    relays = [
        ClusterRelay(
            tmp_path / name,
            api.kubeconfig,
            pod=name,
            kubernetes=ON,
            shutdown={"drainTimeout": f"{drain_s:.0f}s"},
            storage=None,
        )
        for name, drain_s in (("relay-0", 1), ("relay-1", 8))
    ]
    first, second = relays
    try:
        async with OtlpServer(endpoint) as server:
            await kubectl.apply(exporter(server.origin))
            await first.start()
            await has(kubectl, FINALIZER)
            await second.start()
            async with Load(second.url).running():
                await eventually("both are counted", lambda: _counted(kubectl), timeout_s=30)
                endpoint.away = True
                await kubectl.wait_for("exporter", "web", status="False", timeout_s=30)
                deleted = time.monotonic()
                await kubectl("delete", "exporter", "web", "--wait=false")
                await eventually("it is gone", lambda: is_gone(kubectl), timeout_s=30)
            assert 7 < time.monotonic() - deleted < 20 * crowding(), "the second one drains longer"
    finally:
        for relay in relays:
            await relay.close()
    for relay in relays:
        assert "Traceback" not in relay.log()


async def _counted(kubectl: Kubectl) -> bool:
    status = (await kubectl.get("exporter", "web")).get("status", {})
    return bool(status.get("relays") == "2 of 2")


async def test_the_documented_command_takes_it_away_without_a_relay(
    api: ObjectServer, kubectl: Kubectl, tmp_path: Path
) -> None:
    async with OtlpServer() as server:
        await kubectl.apply(
            exporter(server.origin),
            policy("datum", server.origin),
            policy("milo", server.origin),
        )
        await add_theirs(kubectl, "exporter", "web")
        async with running(api, tmp_path, **ON):
            await has(kubectl, FINALIZER, THEIRS)
            for one in (DATUM, MILO):
                await has(kubectl, FINALIZER, of=one)
    specs = [(await kubectl.get(*one))["spec"] for one in OBJECTS]
    await kubectl("delete", *DATUM, "--wait=false")
    assert await finalizers(kubectl, *DATUM) == [FINALIZER], "it hangs"
    listed, applied = documented_command()
    objects = await kubectl(*listed)
    await kubectl(*applied, text=objects)
    assert await finalizers(kubectl, "exporter", "web") == [THEIRS]
    assert await finalizers(kubectl, *MILO) == []
    assert (await kubectl.run("get", *DATUM)).status != 0
    assert (await kubectl.get("exporter", "web"))["spec"] == specs[0]
    assert (await kubectl.get(*MILO))["spec"] == specs[2]
    # Objects that have gone since the list are not made again.
    await kubectl("delete", *MILO)
    assert (await kubectl.run(*applied, text=objects)).status != 0
    assert (await kubectl.run("get", *MILO)).status != 0


def documented_command() -> tuple[list[str], list[str]]:
    """Arguments of the two kubectl of the command in docs/kubernetes.md."""
    text = (ROOT / "docs/kubernetes.md").read_text()
    found = re.search(
        r"\$ kubectl get (exporters\S*) -A -o go-template='(.*?)' \|\n> kubectl (.*?)\n```",
        text,
        re.DOTALL,
    )
    assert found, "the command is in the document"
    kinds, template, applied = found.groups()
    template = template.replace("\n> ", "\n")
    return ["get", kinds, "-A", "-o", f"go-template={template}"], applied.split()
