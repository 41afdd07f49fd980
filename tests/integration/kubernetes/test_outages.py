"""An API server that is away under load, and a leader that dies."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.kit.http.otlp_server import OtlpServer
from tests.kit.kubernetes.kubectl import Kubectl, object_text
from tests.kit.kubernetes.relays import ClusterRelay, Load
from tests.kit.kubernetes.servers import KUBERNETES, OWN_READ, ObjectServer
from tests.kit.processes import answers, eventually
from tests.own_time import crowding

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.newest,
]

API = "telemetry.datumapis.com/v1alpha1"
STEADY = '{range .status.conditions[*]}{.type}={.status}@{.lastTransitionTime} {end}{"\\n"}'
TAKEOVER_S = 20
RELAYS = {"kubernetes": {"relays": {"group": "relays", "namespace": "default"}}}


def exporter(name: str, endpoint: str) -> str:
    """An Exporter of everything, with one sink."""
    sink = {
        "name": "collector",
        "otlp_http": {"endpoint": endpoint},
        "batch": {"timeout": "100ms"},
    }
    spec = {"sources": [{"name": "all", "metrics": {"metricsql": ""}}], "sinks": [sink]}
    return object_text("Exporter", name, {"spec": spec}, api=API)


def taken_at(server: OtlpServer, path: str) -> int:
    """Requests that were taken at a path."""
    return sum(one.path == f"{path}/v1/metrics" for one in server.taken)


async def steady(kubectl: Kubectl, name: str) -> str:
    """The conditions of an Exporter with the times of their last transitions."""
    return await kubectl("get", "exporter", name, "-o", f"jsonpath={STEADY}")


async def delivers_for(server: OtlpServer, relay: ClusterRelay, seconds: float) -> None:
    """Watch requests arrive in every second, from a relay that says that it is ready."""
    assert relay.process is not None
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen = len(server.taken)
        await server.wait_until(lambda seen=seen: len(server.taken) > seen, timeout_s=5)
        assert relay.process.returncode is None, relay.log()[-2000:]
        assert await answers(f"{relay.admin}/readyz")
        await asyncio.sleep(0.5)


@pytest.mark.parametrize("api", [KUBERNETES, OWN_READ], indirect=True)
@pytest.mark.parametrize(
    "seconds", [20, pytest.param(600, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
async def test_the_api_server_is_away_under_load(
    api: ObjectServer, kubectl: Kubectl, tmp_path: Path, seconds: int
) -> None:
    async with (
        OtlpServer() as server,
        api.relay(tmp_path / "relay") as relay,
    ):
        await kubectl.apply(exporter("one", f"{server.origin}/one"))
        async with Load(relay.url).running() as load:
            await kubectl.wait_for("exporter", "one", status="True")
            before = await steady(kubectl, "one")
            since = max(load.sent)

            await api.stop()
            await delivers_for(server, relay, seconds)
            await api.start()

            await kubectl.apply(exporter("two", f"{server.origin}/two"))
            await kubectl.wait_for("exporter", "two", status="True", timeout_s=40)
            assert taken_at(server, "/two")
            assert await steady(kubectl, "one") == before
        await arrives(server, load, "/one", since)


async def arrives(server: OtlpServer, load: Load, path: str, since: float) -> None:
    """Every sample after one arrives at a path, and arrives once."""
    wanted = {value for value in load.sent if value > since}

    def found() -> list[float]:
        taken = [one for one in server.taken if one.path == f"{path}/v1/metrics"]
        return [value for one in taken for value in one.values() if value > since]

    await server.wait_until(lambda: set(found()) >= wanted, timeout_s=20)
    assert len(found()) == len(set(found()))


@pytest.mark.parametrize("api", [KUBERNETES, OWN_READ], indirect=True)
async def test_a_relay_starts_while_the_api_server_is_away(
    api: ObjectServer, kubectl: Kubectl, tmp_path: Path
) -> None:
    async with OtlpServer() as server:
        secret = object_text("Secret", "token", {"stringData": {"token": "right"}})
        await kubectl.apply(secret, exporter("one", f"{server.origin}/one"))
        async with api.relay(tmp_path / "relay") as relay:
            async with Load(relay.url).running():
                await kubectl.wait_for("exporter", "one", status="True")
            await api.stop()
            assert await relay.stop() == 0
            await relay.start()
            async with Load(relay.url, again="yes").running() as load:
                seen = len(server.taken)
                await server.wait_until(lambda: len(server.taken) > seen + 3, timeout_s=20)
                await api.start()
                await kubectl.apply(exporter("one", f"{server.origin}/changed"))
                await kubectl.wait_for("exporter", "one", status="True", timeout_s=40)
            assert load.sent
            assert taken_at(server, "/changed")


async def test_the_other_relay_writes_after_the_leader_has_died(
    api: ObjectServer, kubectl: Kubectl, tmp_path: Path
) -> None:
    relays = {
        name: ClusterRelay(tmp_path / name, api.kubeconfig, pod=name, **RELAYS)
        for name in ("relay-0", "relay-1")
    }
    async with OtlpServer() as server:
        try:
            for relay in relays.values():
                await relay.start()
            await eventually("both have a Lease", lambda: both_are_there(kubectl), timeout_s=20)
            first, second = relays.values()
            async with Load(first.url).running(), Load(second.url, half="other").running():
                await kubectl.apply(exporter("one", f"{server.origin}/one"))
                await kubectl.wait_for("exporter", "one", status="True")
                await eventually("both report", lambda: both_report(kubectl), timeout_s=70)
                leader = await leading(kubectl, relays)
                (other,) = relays.keys() - {leader}
            async with Load(relays[other].url, half="last").running():
                before = await steady(kubectl, "one")
                async with kubectl.watching("exporter", "one", "-o", f"jsonpath={STEADY}") as watch:
                    await relays[leader].stop(signal.SIGKILL)
                    died = time.monotonic()
                    await kubectl.apply(exporter("two", f"{server.origin}/two"))
                    await kubectl.wait_for("exporter", "two", kind="Accepted", status="True")
                    assert time.monotonic() - died < TAKEOVER_S * crowding()
                    assert {line for _, line in watch.lines} == {before.strip()}
                assert await leading(kubectl, relays) == other
        finally:
            for relay in relays.values():
                await relay.close()
        for relay in relays.values():
            assert "Traceback" not in relay.log()


async def both_are_there(kubectl: Kubectl) -> bool:
    """Whether there are the two Leases of the relays, and the leader's."""
    return len((await kubectl.get("-n", "default", "leases"))["items"]) == 3


async def both_report(kubectl: Kubectl) -> bool:
    """Whether the status has what two relays report."""
    return (await kubectl.get("exporter", "one"))["status"].get("relays") == "2 of 2"


async def leading(kubectl: Kubectl, relays: dict[str, ClusterRelay]) -> str:
    """The relay that holds the leader's Lease."""
    lease = await kubectl.get("-n", "default", "lease", "relays")
    holder = lease["spec"]["holderIdentity"]
    (found,) = [name for name in relays if name in holder]
    return found
