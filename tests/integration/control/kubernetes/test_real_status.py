"""A customer's walk on a real kube-apiserver: at each step the status says what to do next."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from relay.app import Relay
from tests.integration.control.kubernetes.test_real_source import (
    EXPORTER,
    SECRET,
    Cluster,
    client_of,
    cluster_in,
    relay_of,
)
from tests.kit.http.otlp_server import Received, Reply
from tests.kit.processes import eventually, free_port

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]

ACCESS = ", authentication: {type: bearerToken, secretRef: {name: token}}"


def refusing(received: Received) -> Reply:
    """Take nothing but the right token."""
    is_right = received.headers.get("Authorization") == "Bearer right"
    return Reply() if is_right else Reply(401, b"invalid token")


async def status_of(cluster: Cluster, name: str = "web") -> dict[str, Any]:
    text = await cluster.kubectl("get", "exporter", name, "-o", "json")
    return dict(json.loads(text).get("status", {}))


async def condition(cluster: Cluster, kind: str, name: str = "web") -> dict[str, Any]:
    found = (await status_of(cluster, name)).get("conditions", ())
    return next((one for one in found if one["type"] == kind), {})


async def becomes(
    cluster: Cluster, kind: str, status: str, reason: str, *, generation: int, timeout_s: float = 5
) -> str:
    """Wait until a condition is so for a generation; return its message."""
    last: dict[str, Any] = {}

    async def is_so() -> bool:
        nonlocal last
        last = await condition(cluster, kind)
        seen = last.get("status"), last.get("reason"), last.get("observedGeneration")
        return seen == (status, reason, generation)

    await eventually(f"{kind} is {status} ({reason}), not {last}", is_so, timeout_s=timeout_s)
    return str(last["message"])


async def apply(
    cluster: Cluster, endpoint: str, *, metrics: str = "{metricsql: up}", access: str = ""
) -> None:
    await cluster.apply(
        EXPORTER.format(
            name="web", namespace="default", metrics=metrics, endpoint=endpoint, access=access
        )
    )


async def sending(relay: Relay) -> None:
    """Send a series of ``up`` again and again."""
    async with client_of(relay) as client:
        while True:
            await client.send("up", series=3)
            await asyncio.sleep(0.2)


async def test_a_customers_walk(tmp_path: Path) -> None:
    async with cluster_in(tmp_path) as cluster, relay_of(cluster) as relay:
        endpoint = cluster.server.url.removesuffix("/v1/metrics")
        sender = asyncio.ensure_future(sending(relay))
        try:
            await apply(cluster, endpoint, metrics="{metricsql: 'upp{job=\"x\"}'}")
            said = await becomes(cluster, "Delivering", "Unknown", "NoData", generation=1)
            assert "relay preview" in said

            await apply(cluster, endpoint, access=ACCESS)
            said = await becomes(cluster, "ResolvedRefs", "False", "RefNotUsable", generation=2)
            assert "secret default/token, key token" in said
            assert (await condition(cluster, "Accepted"))["status"] == "True"

            cluster.server.answer = refusing
            await cluster.apply(SECRET.format(namespace="default", token="wrong"))
            await becomes(cluster, "ResolvedRefs", "True", "ResolvedRefs", generation=2)
            said = await becomes(
                cluster, "Delivering", "False", "Failing", generation=2, timeout_s=15
            )
            assert "401" in said
            assert "check secret default/token, key token" in said

            await cluster.apply(SECRET.format(namespace="default", token="right"))
            await becomes(cluster, "Delivering", "True", "Delivering", generation=2, timeout_s=15)

            dead = f"http://127.0.0.1:{free_port()}"
            await apply(cluster, dead, access=ACCESS)
            said = await becomes(cluster, "Delivering", "False", "Failing", generation=3)
            assert f"check the address {dead}" in said

            await apply(cluster, endpoint, access=ACCESS)
            await becomes(cluster, "Delivering", "True", "Delivering", generation=4, timeout_s=15)
            wide = await cluster.kubectl("get", "exporter", "web", "-o", "wide")
            assert wide.split()[:2] == ["NAME", "ACCEPTED"]
            out = (await status_of(cluster))["sinks"][0]
            assert out["ledger"]["delivered"] > 0
            assert out["lastSuccess"]
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)


async def test_a_restart_changes_no_condition(tmp_path: Path) -> None:
    async with cluster_in(tmp_path) as cluster:
        async with relay_of(cluster) as relay:
            sender = asyncio.ensure_future(sending(relay))
            await apply(cluster, cluster.server.url.removesuffix("/v1/metrics"))
            await becomes(cluster, "Delivering", "True", "Delivering", generation=1)
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        before = (await status_of(cluster))["conditions"]
        async with relay_of(cluster) as relay:
            await asyncio.sleep(8)  # it leads, and has had the time to write
            assert relay._statuses is not None
            assert (await status_of(cluster))["conditions"] == before
