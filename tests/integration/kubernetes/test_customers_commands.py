"""Every command that a customer gives, with both kubectl, for each of the three kinds."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.kit.http.otlp_server import OtlpServer
from tests.kit.kubernetes.kubectl import VERSIONS, Kubectl, object_text
from tests.kit.kubernetes.relays import Load
from tests.kit.kubernetes.servers import OWN_READ, SERVERS, ObjectServer
from tests.kit.processes import eventually
from tests.own_time import crowding

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.newest,
]

# The other relay changes nothing of what an API says to one kubectl and not to the other.
EACH = [(api, version) for api in SERVERS for version in VERSIONS]
EACH.remove((OWN_READ, VERSIONS[0]))

SOON = {"batch": {"timeout": "100ms"}}


def exporter(name: str, endpoint: str, *, metricsql: str = "numbered") -> str:
    """An Exporter of one source and one sink."""
    spec = {
        "sources": [{"name": "some", "metrics": {"metricsql": metricsql}}],
        "sinks": [{"name": "collector", "otlp_http": {"endpoint": endpoint}, **SOON}],
    }
    return object_text("Exporter", name, {"spec": spec}, api="telemetry.datumapis.com/v1alpha1")


def policy(group: str, name: str, endpoint: str, *, metricsql: str = "numbered") -> str:
    """An ExportPolicy of one source and one sink."""
    http = {"http": {"endpoint": endpoint}, "batch": {"timeout": "100ms", "maxSize": 500}}
    spec = {
        "sources": [{"name": "some", "metrics": {"metricsql": metricsql}}],
        "sinks": [{"name": "collector", "sources": ["some"], "target": {"openTelemetry": http}}],
    }
    return object_text("ExportPolicy", name, {"spec": spec}, api=f"{group}/v1alpha1")


def manifest(kind: str, name: str, endpoint: str, *, metricsql: str = "numbered") -> str:
    """One object of a kind as kubectl names it."""
    if kind == "exporters":
        return exporter(name, endpoint, metricsql=metricsql)
    group = kind.partition(".")[2]
    return policy(group, name, endpoint, metricsql=metricsql)


DATUM, MILO = "exportpolicies.telemetry.datumapis.com", "exportpolicies.telemetry.miloapis.com"
KINDS = {"exporters": "e", DATUM: "d", MILO: "m"}
"""Kinds as kubectl names them, and how their objects' names begin: policies share names."""


def arrived(server: OtlpServer, path: str) -> int:
    """Number of points that were taken at a path."""
    return sum(len(one.values()) for one in server.taken if one.path == f"{path}/v1/metrics")


@pytest.mark.parametrize(("api", "version"), EACH, indirect=["api"])
async def test_from_apply_to_delete(api: ObjectServer, tmp_path: Path, version: str) -> None:
    kubectl = Kubectl(api.kubeconfig, tmp_path, version)
    async with (
        OtlpServer() as server,
        api.relay(tmp_path / "relay") as relay,
        Load(relay.url).running(),
    ):
        for kind in KINDS:
            await explained(kubectl, kind)
            await applied(kubectl, kind, server.origin)
        for kind in KINDS:
            await delivering(kubectl, kind)
        for kind in KINDS:
            await compared(kubectl, kind, server.origin)
            await edited(kubectl, kind, server)
            await described(kubectl, kind)
        for kind in KINDS:
            await deleted(kubectl, kind, server)
        assert not (await relay.status())["exporters"]


def ways(kind: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The names of a kind's two objects, and how each is applied."""
    return ((f"{KINDS[kind]}-a", ()), (f"{KINDS[kind]}-b", ("--server-side",)))


async def explained(kubectl: Kubectl, kind: str) -> None:
    """What a field means, from the schema."""
    said = await kubectl("explain", f"{kind}.spec.sources.metrics.metricsql")
    assert "MetricsQL" in said
    said = await kubectl("explain", f"{kind}.status", "--recursive")
    for word in ("conditions", "observedGeneration", "lastTransitionTime", "ledger", "usage"):
        assert word in said


async def applied(kubectl: Kubectl, kind: str, origin: str) -> None:
    """One object client-side, one server-side, each twice."""
    for name, how in ways(kind):
        text = manifest(kind, name, f"{origin}/{kind}-{name}")
        created = await kubectl("apply", *how, "-f", "-", text=text)
        assert created.endswith((f"/{name} created\n", f"/{name} serverside-applied\n"))
        # With defaults in lists, a client-side apply always believes that it changes something.
        await kubectl("apply", *how, "-f", "-", text=text)
        assert (await kubectl.get(kind, name))["metadata"]["generation"] == 1


async def delivering(kubectl: Kubectl, kind: str) -> None:
    """Waited for, and seen in the columns; every part of the status is there."""
    objects = [f"{kind}/{name}" for name, _ in ways(kind)]
    said = await kubectl("wait", "--for=condition=Delivering", "--timeout=30s", *objects)
    assert said.count("condition met") == 2
    for condition in ("Accepted", "ResolvedRefs", "Programmed"):
        await kubectl("wait", f"--for=condition={condition}", "--timeout=1s", *objects)
    heads, *rows = (line.split() for line in (await kubectl("get", kind)).splitlines())
    assert heads[0] == "NAME"
    assert {"DELIVERING", "AGE"} <= set(heads)
    assert [row[heads.index("DELIVERING")] for row in rows] == ["True", "True"]
    wide = (await kubectl("get", kind, "-o", "wide")).splitlines()[0].split()
    assert set(heads) < set(wide)
    for name, _ in ways(kind):
        check_status(await kubectl.get(kind, name))


def check_status(found: Mapping[str, Any]) -> None:
    """Every part that issue and schema promise, of an object that delivers."""
    status, generation = found["status"], found["metadata"]["generation"]
    (sink,) = status["sinks"]
    for conditions in (status["conditions"], sink["conditions"]):
        ours = [
            one
            for one in conditions
            if one["type"] in {"Accepted", "ResolvedRefs", "Programmed", "Delivering"}
        ]
        assert len(ours) == 4
        for one in ours:
            assert (one["status"], one["observedGeneration"]) == ("True", generation), one
            assert one["reason"]
            assert one["lastTransitionTime"].endswith("Z")
    assert sink["lastSuccess"].endswith("Z")
    assert sink["ledger"].keys() >= {"matched", "delivered", "rejected", "expired", "dropped"}
    managers = {one["manager"]: one for one in found["metadata"]["managedFields"]}
    assert managers["telemetry-relay"]["operation"] == "Apply"
    assert managers["telemetry-relay"]["subresource"] == "status"


async def compared(kubectl: Kubectl, kind: str, origin: str) -> None:
    """Nothing differs because of a status; a change is shown, and not made."""
    for name, how in ways(kind):
        text = manifest(kind, name, f"{origin}/{kind}-{name}")
        said = await kubectl.run("diff", *how, "-f", "-", text=text)
        assert (said.status, said.out) == (0, ""), said
        changed = manifest(kind, name, f"{origin}/{kind}-{name}", metricsql="other")
        said = await kubectl.run("diff", *how, "-f", "-", text=changed)
        assert said.status == 1, said
        assert "metricsql: other" in said.out
        assert (await kubectl.get(kind, name))["metadata"]["generation"] == 1


async def edited(kubectl: Kubectl, kind: str, server: OtlpServer) -> None:
    """An editor changes where data goes; a watch shows that the new version runs."""
    (name, _), _ = ways(kind)
    async with kubectl.watching(kind, name) as watch:
        await watch.shows("True")
        began = time.monotonic()
        editor = f"sed -i s@/{kind}-{name}@/{kind}-edited@"
        said = await kubectl("edit", kind, name, KUBE_EDITOR=editor)
        assert said.endswith(f"/{name} edited\n")
        await kubectl.wait_for(kind, name, status="True")
        assert time.monotonic() - began < 15 * crowding()
        assert arrived(server, f"/{kind}-edited")
        await eventually("the watch shows it", lambda: len(watch.lines) >= 3, timeout_s=5)
    check_status(await kubectl.get(kind, name))


async def described(kubectl: Kubectl, kind: str) -> None:
    """Conditions, sinks and events in one view."""
    (name, _), _ = ways(kind)
    said = await kubectl("describe", kind, name)
    for text in ("Delivering", "Last Transition Time", "Observed Generation:   2", "Sinks:"):
        assert text in said
    events = said[said.index("\nEvents:") :]
    for reason in ("Accepted", "Programmed"):
        assert re.search(rf"Normal +{reason} .* telemetry-relay ", events), events


async def deleted(kubectl: Kubectl, kind: str, server: OtlpServer) -> None:
    """Gone at once; soon nothing is sent any more."""
    names = [name for name, _ in ways(kind)]
    began = time.monotonic()
    said = await kubectl("delete", kind, *names, f"--timeout={10 * crowding():.0f}s")
    assert said.count("deleted") == 2
    assert time.monotonic() - began < 10 * crowding()
    paths = (f"/{kind}-edited", f"/{kind}-{names[1]}")

    async def silent() -> bool:
        before = [arrived(server, path) for path in paths]
        await asyncio.sleep(1)
        return before == [arrived(server, path) for path in paths]

    await eventually("nothing is sent any more", silent, timeout_s=10)
