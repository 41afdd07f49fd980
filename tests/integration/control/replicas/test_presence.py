"""Relays that renew Leases at a scripted API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.control.kubernetes.client import ApiClient, ClientTimings
from relay.control.kubernetes.kubeconfig import ClusterAccess
from relay.control.replicas import members, presence
from relay.control.replicas.presence import (
    GROUP_LABEL,
    REPORT_ANNOTATION,
    Presence,
    ReplicaIdentity,
)
from tests.kit.kubernetes.fake_api import Document, FakeApi, Fault, cut, failing
from tests.kit.processes import eventually

pytestmark = pytest.mark.slow  # Leases expire after a second at least

LEASES = "/apis/coordination.k8s.io/v1/leases"


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    monkeypatch.setattr(presence, "RENEW_S", 0.1)
    async with FakeApi() as api:
        yield api


class Running:
    """A relay's presence, and how to end it."""

    def __init__(self, presence: Presence, task: asyncio.Task[None]) -> None:
        self.presence = presence
        self._task = task

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def names(self) -> list[str]:
        return [one.name for one in self.presence.membership.members() if not one.left]


@asynccontextmanager
async def running(
    api: FakeApi, relay: str, *, mark: str = "1", leads: bool = False
) -> AsyncIterator[Running]:
    timings = ClientTimings(answer_s=1)
    async with ApiClient(ClusterAccess(api.url), timings=timings) as client:
        identity = ReplicaIdentity("relay", "telemetry", relay, mark, f"http://{relay}:9491")
        one = Presence(client, identity, leads=lambda: leads)
        run = Running(one, asyncio.create_task(one.run()))
        try:
            yield run
        finally:
            await run.end()


def stored(api: FakeApi, relay: str) -> Document | None:
    return api.kind(LEASES).objects.get(("relay", f"telemetry-{relay}"))


async def test_each_relay_has_a_lease_and_sees_the_others(api: FakeApi) -> None:
    async with running(api, "relay-0") as first, running(api, "relay-1"):
        await eventually(
            "both see both", lambda: first.names() == ["relay-0", "relay-1"], timeout_s=20
        )
        lease = stored(api, "relay-1")
        assert lease is not None
        assert lease["spec"]["holderIdentity"] == "relay-1_1"
        assert lease["metadata"]["labels"] == {GROUP_LABEL: "telemetry"}
        assert lease["metadata"]["annotations"] == {REPORT_ANNOTATION: "http://relay-1:9491"}
        renewed = lease["spec"]["renewTime"]
        await eventually(
            "it is renewed",
            lambda: (stored(api, "relay-1") or lease)["spec"]["renewTime"] != renewed,
            timeout_s=20,
        )
        assert {one.url for one in first.presence.membership.members()} == {
            "http://relay-0:9491",
            "http://relay-1:9491",
        }
    assert stored(api, "relay-0") is None
    assert stored(api, "relay-1") is None


async def test_a_lease_that_has_changed_is_given_back(api: FakeApi) -> None:
    """As by a renewal that was cancelled when it had come, and had not been answered."""
    async with running(api, "relay-0") as one:
        await eventually("it is there", lambda: stored(api, "relay-0") is not None, timeout_s=20)
        lease = stored(api, "relay-0")
        assert lease is not None
        api.put(LEASES, lease)
        await one.end()
    assert stored(api, "relay-0") is None


async def test_what_others_wrote_into_the_lease_stays(api: FakeApi) -> None:
    async with running(api, "relay-0"):
        await eventually("it is there", lambda: stored(api, "relay-0") is not None, timeout_s=20)
        lease = stored(api, "relay-0")
        assert lease is not None
        lease["metadata"]["labels"]["theirs"] = "x"
        lease["metadata"]["annotations"]["theirs"] = "y"
        api.put(LEASES, lease)
        seen = lease["spec"]["renewTime"]

        def renewed() -> bool:
            now = stored(api, "relay-0")
            return now is not None and now["spec"]["renewTime"] != seen

        await eventually("it is renewed", renewed, timeout_s=20)
        after = stored(api, "relay-0")
        assert after is not None
        assert after["metadata"]["labels"]["theirs"] == "x"
        assert after["metadata"]["annotations"]["theirs"] == "y"


async def test_a_new_life_takes_its_lease_over(api: FakeApi) -> None:
    async with running(api, "relay-0", mark="1") as old:
        await eventually("it is there", lambda: stored(api, "relay-0") is not None, timeout_s=20)
        api.faults.append(Fault(cut, times=1000, matches=lambda one: one.method == "DELETE"))
        await old.end()  # as if killed
        api.faults.clear()
        async with running(api, "relay-0", mark="2"):

            def taken() -> bool:
                lease = stored(api, "relay-0")
                return lease is not None and lease["spec"]["holderIdentity"] == "relay-0_2"

            await eventually("it is taken over", taken, timeout_s=20)
    assert stored(api, "relay-0") is None


async def test_two_relays_of_one_name_are_told(
    api: FakeApi, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(api, "relay-0", mark="1"), running(api, "relay-0", mark="2"):
        await eventually(
            "it is said", lambda: "another relay has this one's name" in caplog.text, timeout_s=20
        )


async def test_failures_are_told_and_gone_over(api: FakeApi) -> None:
    api.faults.append(Fault(failing(500, "InternalError"), times=2))
    api.faults.append(Fault(cut, times=2))
    async with running(api, "relay-0") as one:
        await eventually("it is there", lambda: one.names() == ["relay-0"], timeout_s=20)
        statistics = one.presence.statistics()
        assert statistics.failures >= 2
        assert statistics.last_error.startswith("cannot ")


async def test_the_leader_deletes_what_is_lost_for_long(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "LOST_S", 0.2)
    dead = api.new("telemetry-dead", "relay")
    dead["metadata"]["labels"] = {GROUP_LABEL: "telemetry"}
    dead["spec"] = {"holderIdentity": "dead_1", "leaseDurationSeconds": 1, "renewTime": "x"}
    api.put(LEASES, dead)
    other = api.new("someone-else", "relay")
    api.put(LEASES, other)
    async with running(api, "relay-0") as one:
        await eventually(
            "it is lost",
            lambda: any(m.lost_at_s is not None for m in one.presence.membership.members()),
            timeout_s=20,
        )
    assert ("relay", "telemetry-dead") in api.kind(LEASES).objects, "this one did not lead"
    async with running(api, "relay-0", leads=True):
        await eventually(
            "it is deleted",
            lambda: ("relay", "telemetry-dead") not in api.kind(LEASES).objects,
            timeout_s=20,
        )
    assert ("relay", "someone-else") in api.kind(LEASES).objects


async def test_a_list_with_anything_in_it_is_read(api: FakeApi) -> None:
    broken = api.new("telemetry-broken", "relay")
    broken["metadata"]["labels"] = {GROUP_LABEL: "telemetry"}
    broken["spec"] = {"holderIdentity": 5}
    api.put(LEASES, broken)
    async with running(api, "relay-0") as one:
        await eventually("it is there", lambda: one.names() == ["relay-0"], timeout_s=20)


async def test_more_relays_than_a_page_has_are_all_there(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "PAGE_LEASES", 3)
    for number in range(7):
        made = api.new(f"telemetry-other-{number}", "relay")
        made["metadata"]["labels"] = {GROUP_LABEL: "telemetry"}
        made["spec"] = {"holderIdentity": f"other-{number}_1", "renewTime": "x"}
        api.put(LEASES, made)
    expected = sorted(["relay-0", *(f"other-{number}" for number in range(7))])
    async with running(api, "relay-0") as one:
        await eventually("all are there", lambda: sorted(one.names()) == expected, timeout_s=20)
        # Pages of one moment cannot be had any more.
        api.faults.append(
            Fault(failing(410, "Expired"), times=1, matches=lambda got: "continue" in got.query)
        )
        await eventually("it was refused", lambda: not api.faults[0].times, timeout_s=20)
        assert sorted(one.names()) == expected, "a part of a list ends no relay"
