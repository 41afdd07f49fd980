"""A relay that knows no object of Kubernetes yet asks for no samples: it could only lose them."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.app import Relay
from relay.config.settings.kubernetes import KubernetesSettings
from relay.config.settings.settings import Settings, Storage
from relay.control.cluster import cluster_source
from tests.integration.control.cluster.test_cluster_source import put_exporter
from tests.kit.ingest_server import LOOPBACK
from tests.kit.kubernetes.fake_api import FakeApi, Fault, failing, kubeconfig_of
from tests.kit.processes import eventually


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_source, "START_S", 0.3)


def settings_of(folder: Path, api: FakeApi) -> Settings:
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(kubeconfig_of(api.url))
    return Settings(
        listen=LOOPBACK,
        admin_listen=LOOPBACK,
        storage=Storage(folder / "data"),
        kubernetes=KubernetesSettings(kubeconfig),
    )


async def test_it_is_not_ready_before_it_knows_any(tmp_path: Path) -> None:
    async with FakeApi() as api:
        put_exporter(api, "a")
        settings = settings_of(tmp_path, api)
        await api.close()
        relay = Relay(settings)
        try:
            await relay.start()
            (reason,) = relay.not_ready()
            assert reason.startswith("no objects of Kubernetes are known yet: ")
            await api.open()
            await eventually("it is ready", lambda: relay.not_ready() == [], timeout_s=20)
            await eventually("it runs", lambda: bool(list(relay._running())), timeout_s=5)
            await api.close()
            assert relay.not_ready() == []
        finally:
            await relay.stop()
        again = Relay(settings)  # what is on disk is enough
        try:
            await again.start()
            await eventually("it is ready", lambda: again.not_ready() == [], timeout_s=10)
            await eventually("it runs", lambda: bool(list(again._running())), timeout_s=5)
        finally:
            await again.stop()


async def test_a_cluster_without_objects_is_known(tmp_path: Path) -> None:
    async with FakeApi() as api:
        relay = Relay(settings_of(tmp_path, api))
        try:
            await relay.start()
            assert relay.not_ready() == []
        finally:
            await relay.stop()


async def test_a_server_without_any_kind_is_not_one(tmp_path: Path) -> None:
    async with FakeApi() as api:
        everything = Fault(failing(404, "NotFound"), times=10_000)
        api.faults.append(everything)
        relay = Relay(settings_of(tmp_path, api))
        try:
            await relay.start()
            (reason,) = relay.not_ready()
            assert f"there is no such API at {api.url}: is the path right?" in reason
            everything.times = 0
            await eventually("it is ready", lambda: relay.not_ready() == [], timeout_s=20)
        finally:
            await relay.stop()
