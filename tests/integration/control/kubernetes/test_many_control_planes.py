"""Two hundred control planes at once, four kinds each, on at most three connections each."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from random import Random

import pytest

from relay.control.kubernetes.client import ApiClient, WatchTarget
from relay.control.kubernetes.kubeconfig import ClusterAccess
from relay.control.kubernetes.objects import ApiResource
from relay.control.kubernetes.reflector import Reflector, ReflectorLimits
from relay.control.kubernetes.slots import Use
from relay.sink.http.tls import TlsContexts
from tests.kit.kubernetes.fake_api import FakeApi
from tests.kit.processes import eventually
from tests.own_time import crowding, own_time

pytestmark = pytest.mark.slow

PLANES = 200
EXPORTERS = ApiResource("telemetry.datumapis.com", "v1alpha1", "exporters", "Exporter")
POLICIES = ApiResource("telemetry.miloapis.com", "v1alpha1", "exportpolicies", "ExportPolicy")
NAMESPACES = ApiResource("", "v1", "namespaces", "Namespace", namespaced=False)
SECRETS = ApiResource("", "v1", "secrets", "Secret")
TARGETS = (
    WatchTarget(EXPORTERS),
    WatchTarget(POLICIES),
    WatchTarget(NAMESPACES, use=Use.SPARE_WATCH),
    WatchTarget(SECRETS, use=Use.SPARE_WATCH, metadata_only=True),
)


async def test_two_hundred_control_planes() -> None:
    async with FakeApi() as api, AsyncExitStack() as stack:
        api.bookmark_s = 60
        for target in TARGETS:
            namespace = "default" if target.resource.namespaced else ""
            api.put(target.resource.path(), api.new("first", namespace))
        contexts = TlsContexts()
        reflectors: list[Reflector] = []
        clients: list[ApiClient] = []
        tasks: list[asyncio.Task[None]] = []

        async def end() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        stack.push_async_callback(end)
        for number in range(PLANES):
            access = ClusterAccess(f"{api.url}/projects/p{number}")
            client = await stack.enter_async_context(ApiClient(access, contexts=contexts))
            # Shorter turns need more requests than a busy machine answers.
            client.slots.turn_s = 0.5 * crowding()
            clients.append(client)
            for target in TARGETS:
                limits = ReflectorLimits(backoff_s=0.1)
                reflector = Reflector(client, target, limits=limits, rng=Random(number))
                reflectors.append(reflector)
                tasks.append(asyncio.ensure_future(reflector.run()))
        await eventually(
            "everything is known",
            lambda: all(one.freshness == "synced" for one in reflectors),
            timeout_s=60,
        )
        began = own_time()
        for target in TARGETS:
            namespace = "default" if target.resource.namespaced else ""
            api.put(target.resource.path(), api.new("second", namespace))
        await eventually(
            "every change is known, those of spare watches in their turn",
            lambda: all(len(one.store.objects) == 2 for one in reflectors),
            timeout_s=30,
        )
        assert own_time() - began < 20 * crowding()
        assert max(api.connections_by_prefix.values()) <= 3
        assert len(api.connections_by_prefix) == PLANES
        assert sum(one.statistics().failures for one in reflectors) == 0
        await end()
        assert all(client.slots.in_use == 0 for client in clients)
