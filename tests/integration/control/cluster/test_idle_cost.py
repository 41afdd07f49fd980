"""A whole relay beside many objects of a control plane: what it does while nothing happens."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType

import pytest

import relay
from relay.app import Relay
from relay.config.settings.kubernetes import KubernetesSettings
from relay.config.settings.settings import ListenAddress, Settings, Shutdown
from relay.control.cluster.resources import EXPORTERS
from tests.kit.kubernetes.fake_api import FakeApi, kubeconfig_of
from tests.kit.processes import eventually

FEW, MANY = 50, 550
MEASURED_S = 8.0
CALLS_MAX = 6.0
"""Most calls of functions a second and object: judging each every second would be 15 and more."""
OURS = str(Path(relay.__file__).parent)
SPEC = {
    "sources": [{"name": "all", "metrics": {"metricsql": "up"}}],
    "sinks": [{"name": "out", "otlp_http": {"endpoint": "https://a.example"}}],
}


@asynccontextmanager
async def settled_relay(folder: Path, exporters: int) -> AsyncIterator[tuple[Relay, FakeApi]]:
    """Run a relay whose first statuses and Events are written."""
    async with FakeApi() as api:
        for number in range(exporters):
            head = {"apiVersion": EXPORTERS.api_version, "kind": "Exporter"}
            made = {**head, **api.new(f"e{number}", "default"), "spec": SPEC}
            made["metadata"]["uid"] = f"uid-{number}"
            api.put(EXPORTERS.path(), made)
        kubeconfig = folder / f"kubeconfig-{exporters}"
        kubeconfig.write_text(kubeconfig_of(api.url))
        running = Relay(
            Settings(
                listen=ListenAddress("127.0.0.1", 0),
                admin_listen=ListenAddress("127.0.0.1", 0),
                kubernetes=KubernetesSettings(kubeconfig, status_writes_per_second_max=1000),
                allow_private_endpoints=True,
                shutdown=Shutdown(drain_timeout_s=0),
            )
        )
        await running.start()
        try:

            def is_settled() -> bool:
                found = running._statuses.statistics() if running._statuses else None
                return (
                    found is not None
                    and found.written >= exporters
                    and not found.replicas.events.schedule.waiting
                )

            await eventually("statuses are written", is_settled, timeout_s=60)
            await asyncio.sleep(2)
            yield running, api
        finally:
            await running.stop()


async def calls_a_second() -> float:
    """Return how many of the relay's functions are called each second on the event loop."""
    calls = 0

    def count(frame: FrameType, event: str, _what: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(OURS)

    sys.setprofile(count)
    try:
        await asyncio.sleep(MEASURED_S)
    finally:
        sys.setprofile(None)
    return calls / MEASURED_S


@pytest.mark.slow
async def test_objects_cost_next_to_nothing_while_nothing_changes(tmp_path: Path) -> None:
    async with settled_relay(tmp_path, FEW):
        few = await calls_a_second()
    async with settled_relay(tmp_path, MANY):
        many = await calls_a_second()
    assert few > 100, "the relay lives"
    assert (many - few) / (MANY - FEW) < CALLS_MAX


@pytest.mark.slow
async def test_an_edit_reads_no_other_object_again(tmp_path: Path) -> None:
    async with settled_relay(tmp_path, FEW) as (running, api):
        reloader = running._reloader
        assert reloader is not None
        before = reloader.loaded
        sent = {**SPEC, "sources": [{"name": "all", "metrics": {"metricsql": "down"}}]}
        known = api.kind(EXPORTERS.path()).objects["default", "e7"]
        api.put(EXPORTERS.path(), {**known, "spec": sent})
        await eventually("applied", lambda: reloader.statistics().changed == 1, timeout_s=10)
        after = reloader.loaded
        pairs = zip(before.objects, after.objects, strict=True)
        assert [one.key.name for one, now in pairs if one is not now] == ["e7"]
        assert after.secrets is before.secrets
