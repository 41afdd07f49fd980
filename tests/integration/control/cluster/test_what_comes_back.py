"""A kind that is deleted and made again, and a right that is taken and given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.control.cluster import control_plane
from relay.control.cluster.control_plane import ControlPlane, PlaneOptions
from relay.control.cluster.resources import EXPORTERS, SECRETS
from relay.control.kubernetes.kubeconfig import ClusterAccess
from relay.control.kubernetes.objects import ApiResource
from relay.control.kubernetes.reflector import ReflectorLimits
from relay.control.kubernetes.slots import Use
from relay.sink.http.tls import TlsContexts
from tests.kit.kubernetes.fake_api import FakeApi, Fault, failing
from tests.kit.processes import eventually


@asynccontextmanager
async def plane_of(api: FakeApi) -> AsyncIterator[ControlPlane]:
    limits = ReflectorLimits(backoff_s=0.05, watch_min_s=0.05)
    plane = ControlPlane(
        "",
        "",
        ClusterAccess(api.url),
        options=PlaneOptions(limits=limits, turn_s=0.05),
        contexts=TlsContexts(),
    )
    task = asyncio.create_task(plane.run())
    try:
        await eventually("all is known", lambda: plane.is_ready, timeout_s=10)
        yield plane
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    monkeypatch.setattr(control_plane, "HEALTH_S", 0.1)
    async with FakeApi() as api:
        api.watch_s_max = 0.3
        api.put(EXPORTERS.path(), api.new("a"))
        yield api


def refuse(api: FakeApi, resource: ApiResource, code: int, reason: str) -> None:
    api.faults.append(Fault(failing(code, reason), 10_000, lambda one: one.path == resource.path()))


def use_of_exporters(plane: ControlPlane) -> Use:
    reflector = plane._kinds[EXPORTERS].reflector
    assert reflector is not None
    return reflector.target.use


async def test_a_kind_that_is_made_again_has_its_own_connection(api: FakeApi) -> None:
    async with plane_of(api) as plane:
        assert use_of_exporters(plane) is Use.MAIN_WATCH
        refuse(api, EXPORTERS, 404, "NotFound")
        await eventually(
            "it is absent", lambda: use_of_exporters(plane) is Use.SPARE_WATCH, timeout_s=10
        )
        api.faults.clear()
        await eventually(
            "it is there", lambda: use_of_exporters(plane) is Use.MAIN_WATCH, timeout_s=10
        )
        assert not plane._kinds[EXPORTERS].is_absent
        api.put(EXPORTERS.path(), api.new("b"))
        await eventually("it is watched", lambda: len(plane.objects(EXPORTERS)) == 2, timeout_s=10)


async def test_secrets_that_may_be_watched_again_are_not_polled(api: FakeApi) -> None:
    async with plane_of(api) as plane:
        refuse(api, SECRETS, 403, "Forbidden")
        await eventually(
            "they are polled", lambda: plane.statistics().secrets.polling, timeout_s=10
        )
        await asyncio.sleep(0.5)  # some looks
        assert plane.statistics().secrets.polling
        api.faults.clear()
        await eventually(
            "they are watched", lambda: not plane.statistics().secrets.polling, timeout_s=15
        )
