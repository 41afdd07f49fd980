"""The access of relays to their Leases, while kubeconfigs change."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.config.settings.kubernetes import (
    KubernetesProjects,
    KubernetesRelays,
    KubernetesSettings,
)
from relay.config.settings.settings import ListenAddress, Settings, TenancySettings
from relay.control.cluster import plane_set, relays
from relay.control.cluster.cluster_source import ClusterSource
from relay.control.cluster.compose import make_sources
from relay.control.cluster.held_objects import HeldObjects
from relay.control.cluster.relays import make_publisher
from relay.control.cluster.status_publisher import StatusPublisher
from relay.control.replicas import presence
from tests.integration.control.cluster.test_status_publisher import Board
from tests.kit.kubernetes.fake_api import FakeApi, kubeconfig_of
from tests.kit.processes import eventually

LEASES = "/apis/coordination.k8s.io/v1/leases"


class NothingDrains:
    """A reconciler without any sink."""

    def entries(self) -> Iterator[object]:
        return iter(())


@asynccontextmanager
async def publisher_of(
    settings: Settings, api: FakeApi
) -> AsyncIterator[tuple[StatusPublisher, ClusterSource]]:
    cluster = make_sources(settings).cluster
    assert cluster is not None
    await cluster.start()
    try:
        publisher = make_publisher(
            settings,
            cluster,
            Board(api),
            HeldObjects(NothingDrains()),  # type: ignore[arg-type]
            listen=ListenAddress("127.0.0.1", 9491),
            environment={"POD_NAME": "relay-0"},
            hostname="here",
        )
        task = asyncio.create_task(publisher.run())
        try:
            yield publisher, cluster
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    finally:
        await cluster.stop()


def settings_of(folder: Path, api: FakeApi) -> Settings:
    """The Leases are where the objects of one project are."""
    planes = folder / "planes"
    planes.mkdir()
    for path in (planes / "acme", folder / "leases"):
        path.write_text(kubeconfig_of(api.url))
    return Settings(
        kubernetes=KubernetesSettings(
            projects=KubernetesProjects(kubeconfigs=planes),
            relays=KubernetesRelays(kubeconfig=folder / "leases"),
        ),
        tenancy=TenancySettings("project"),
    )


def replace_file(path: Path, text: str) -> None:
    new = path.with_name("new")
    new.write_text(text)
    os.replace(new, path)


def has_lease(api: FakeApi) -> bool:
    return ("default", "telemetry-relay-relay-0") in api.kind(LEASES).objects


async def test_another_kubeconfig_of_the_leases_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(relays, "REREAD_S", 0.1)
    monkeypatch.setattr(presence, "RENEW_S", 0.1)
    async with FakeApi() as old, FakeApi() as new, publisher_of(settings_of(tmp_path, old), old):
        await eventually("it has a Lease", lambda: has_lease(old), timeout_s=5)
        replace_file(tmp_path / "leases", "clusters: 7")
        await eventually("it is said", lambda: "is not used" in caplog.text, timeout_s=5)
        asked = len(old.requests)
        await eventually("it goes on", lambda: len(old.requests) > asked + 4, timeout_s=5)
        replace_file(tmp_path / "leases", kubeconfig_of(new.url))
        await eventually("it has another Lease", lambda: has_lease(new), timeout_s=10)
    assert not has_lease(new)
    assert caplog.text.count("is not used") == 1


async def test_a_control_plane_that_may_go_takes_no_client_of_relays_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane_set, "DIRECTORY_INTERVAL_S", 0.05)
    async with FakeApi() as api, publisher_of(settings_of(tmp_path, api), api) as (one, cluster):
        (plane,) = cluster.planes
        assert plane.access == one._client.access
        assert plane.client is not one._client
        (tmp_path / "planes" / "acme").unlink()
        await eventually("it is gone", lambda: not cluster.planes, timeout_s=5)
        await eventually("the Lease stays", lambda: has_lease(api), timeout_s=5)


async def test_the_only_control_plane_shares_its_client(tmp_path: Path) -> None:
    async with FakeApi() as api:
        (tmp_path / "kubeconfig").write_text(kubeconfig_of(api.url))
        settings = Settings(kubernetes=KubernetesSettings(tmp_path / "kubeconfig"))
        async with publisher_of(settings, api) as (one, cluster):
            assert [plane.client for plane in cluster.planes] == [one._client]
