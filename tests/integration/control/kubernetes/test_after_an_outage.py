"""Once a control plane answers again, what it says is known without the pauses of the outage."""

from __future__ import annotations

import asyncio
from random import Random

from relay.control.kubernetes.client import ApiClient, WatchTarget
from relay.control.kubernetes.kubeconfig import ClusterAccess
from relay.control.kubernetes.objects import ApiResource
from relay.control.kubernetes.reflector import Reflector, ReflectorLimits
from tests.kit.kubernetes.fake_api import FakeApi
from tests.kit.processes import eventually
from tests.own_time import own_time, within

EXPORTERS = ApiResource("telemetry.datumapis.com", "v1alpha1", "exporters", "Exporter")
PATH = EXPORTERS.path()
BACKOFF_S = 0.2


async def test_an_expired_version_costs_no_pause_of_the_outage() -> None:
    async with FakeApi() as api, ApiClient(ClusterAccess(api.url), rng=Random(1)) as client:
        api.put(PATH, api.new("before"))
        limits = ReflectorLimits(backoff_s=BACKOFF_S, watch_min_s=0.01)
        reflector = Reflector(client, WatchTarget(EXPORTERS), limits=limits, rng=Random(1))
        running = asyncio.ensure_future(reflector.run())
        await within(10, reflector.ready())
        await api.close()
        failures = 4
        await eventually(
            "it has failed", lambda: reflector.statistics().failures >= failures, timeout_s=20
        )
        api.put(PATH, api.new("after"))
        api.compact()
        asked = len(api.requests)
        await api.open()
        await eventually("it asks again", lambda: len(api.requests) > asked, timeout_s=20)
        answered = own_time()
        await eventually(
            "it knows", lambda: ("default", "after") in reflector.store.objects, timeout_s=20
        )
        # The next pause of the outage would be half of this at least.
        assert own_time() - answered < BACKOFF_S * 2**failures / 2
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
