"""Electors against a scripted API server: one leads, the next follows, time alone ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.control.kubernetes.client import ApiClient, ClientTimings
from relay.control.kubernetes.kubeconfig import ClusterAccess
from relay.control.kubernetes.leader import LEASES, LeaderElector
from relay.control.kubernetes.lease import DURATION_S, RENEW_DEADLINE_S
from tests.kit.kubernetes.fake_api import FakeApi, Fault, cut, failing
from tests.kit.processes import eventually

pytestmark = pytest.mark.slow  # candidates rest for two seconds


class Clock:
    """Monotonic time that a test can move on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead_s


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with FakeApi() as api:
        yield api


class Member:
    """An elector, and what it was told."""

    def __init__(self, elector: LeaderElector, task: asyncio.Task[None], told: list[bool]) -> None:
        self.elector = elector
        self.task = task
        self.told = told

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@asynccontextmanager
async def member(api: FakeApi, identity: str, clock: Clock) -> AsyncIterator[Member]:
    timings = ClientTimings(answer_s=1)
    async with ApiClient(ClusterAccess(api.url), timings=timings) as client:
        told: list[bool] = []
        elector = LeaderElector(
            client,
            namespace="relay",
            name="status",
            identity=identity,
            on_change=told.append,
            clock=clock,
        )
        found = Member(elector, asyncio.ensure_future(elector.run()), told)
        try:
            yield found
        finally:
            await found.stop()


def holder(api: FakeApi) -> str:
    return api.kind(LEASES.path()).objects["relay", "status"]["spec"]["holderIdentity"]


async def test_one_leads_and_gives_back(api: FakeApi) -> None:
    clock = Clock()
    async with member(api, "one", clock) as one:
        await eventually("one leads", lambda: one.elector.leads, timeout_s=5)
        async with member(api, "two", clock) as two:
            await eventually(
                "two sees it",
                lambda: two.elector.statistics().holder == "one",
                timeout_s=5,
            )
            assert not two.elector.leads
            await one.stop()
            assert one.told == [True, False]
            assert holder(api) == ""
            await eventually("two leads", lambda: two.elector.leads, timeout_s=5)
            assert two.elector.statistics().transitions == 1
            assert two.told == [True]


async def test_a_lease_of_the_leader_that_has_changed_is_given_back(api: FakeApi) -> None:
    """As by a renewal that was cancelled when it had come, and had not been answered."""
    async with member(api, "one", Clock()) as one:
        await eventually("one leads", lambda: one.elector.leads, timeout_s=5)
        api.put(LEASES.path(), api.kind(LEASES.path()).objects["relay", "status"])
        await one.stop()
        assert holder(api) == ""


async def test_a_leader_that_is_cut_off_stops_by_itself(api: FakeApi) -> None:
    clock = Clock()
    async with member(api, "one", clock) as one:
        await eventually("one leads", lambda: one.elector.leads, timeout_s=5)
        api.faults.append(Fault(cut, 10**6))
        clock.ahead_s += RENEW_DEADLINE_S
        assert not one.elector.leads
        await eventually("it is told", lambda: one.told == [True, False], timeout_s=5)
        assert "connection broke" in one.elector.statistics().last_error
        api.faults.clear()
        assert holder(api) == "one"
        clock.ahead_s += DURATION_S
        await eventually("it leads again", lambda: one.elector.leads, timeout_s=10)


async def test_the_lease_of_a_dead_leader_is_taken(api: FakeApi) -> None:
    clock = Clock()
    api.put(
        LEASES.path(),
        {
            "metadata": {"name": "status", "namespace": "relay", "uid": "u", "labels": {"a": "b"}},
            "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 15, "leaseTransitions": 4},
        },
    )
    async with member(api, "one", clock) as one:
        await eventually(
            "it is seen", lambda: one.elector.statistics().holder == "dead", timeout_s=5
        )
        assert not one.elector.leads
        clock.ahead_s += 15
        await eventually("one leads", lambda: one.elector.leads, timeout_s=5)
        stored = api.kind(LEASES.path()).objects["relay", "status"]
        assert stored["spec"]["leaseTransitions"] == 5
        assert stored["metadata"]["labels"] == {"a": "b"}


async def test_a_lost_race_is_no_leadership(api: FakeApi) -> None:
    api.faults.append(Fault(failing(409, "AlreadyExists"), 1, lambda one: one.method == "POST"))
    async with member(api, "one", Clock()) as one:
        await eventually(
            "it is refused", lambda: one.elector.statistics().failures == 1, timeout_s=5
        )
        assert one.told == []
        await eventually("it leads after all", lambda: one.elector.leads, timeout_s=5)
