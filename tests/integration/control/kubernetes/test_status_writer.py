"""The writer against scripted faults: what is due arrives, bounded, and failures cost no other."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import web

from relay.control.kubernetes.client import ApiClient
from relay.control.kubernetes.kubeconfig import ClusterAccess
from relay.control.kubernetes.objects import ApiObject, ApiResource, read_object
from relay.control.kubernetes.status_body import parts_of, status_document
from relay.control.kubernetes.status_schedule import StatusSchedule
from relay.control.kubernetes.status_writer import StatusWrite, StatusWriter
from relay.control.status.conditions import StatusCondition
from relay.control.status.object_status import ObjectStatus, SinkStatus
from tests.kit.kubernetes.fake_api import FakeApi, Fault, cut, failing
from tests.kit.processes import eventually

EXPORTERS = ApiResource("telemetry.datumapis.com", "v1alpha1", "exporters", "Exporter")
PATH = EXPORTERS.path()
COUNT = 10


class Statuses:
    """What every object's status should be."""

    def __init__(self, api: FakeApi, client: ApiClient, schedule: StatusSchedule[str]) -> None:
        self.api = api
        self.client = client
        self.schedule = schedule
        self.wanted: dict[str, ObjectStatus] = {}
        self.gone: dict[str, ApiObject] = {}
        self.stale = 0  # so many times a target is of a version that is over

    def target(self, name: str) -> ApiObject:
        stored = self.api.kind(PATH).objects.get(("default", name))
        if stored is None:
            return self.gone[name]
        found = read_object(json.dumps(stored).encode(), EXPORTERS)
        assert isinstance(found, ApiObject)
        self.gone[name] = found
        return found

    def want(self, name: str, reason: str) -> None:
        one = StatusCondition("Delivering", "False", reason, "", 1, 0)
        self.wanted[name] = ObjectStatus((one,), (SinkStatus("s", (one,)),))
        parts = parts_of(status_document(self.wanted[name]))
        self.schedule.offer(name, parts, time.monotonic())

    def render(self, name: str) -> StatusWrite | None:
        if name not in self.wanted:
            return None
        target = self.target(name)
        if self.stale:
            self.stale -= 1
            target = msgspec.structs.replace(target, resource_version="1")
        document = status_document(self.wanted[name])
        return StatusWrite(self.client, EXPORTERS, target, document)

    def arrived(self) -> bool:
        stored = self.api.kind(PATH).objects
        return all(
            stored["default", name].get("status") == status_document(status)
            for name, status in self.wanted.items()
        )


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with FakeApi() as api:
        yield api


@asynccontextmanager
async def writing(
    api: FakeApi, rate: float = 1000
) -> AsyncIterator[tuple[Statuses, StatusWriter[str]]]:
    async with ApiClient(ClusterAccess(api.url)) as client:
        schedule: StatusSchedule[str] = StatusSchedule(rate)
        statuses = Statuses(api, client, schedule)
        writer = StatusWriter(schedule, statuses.render)
        for number in range(COUNT):
            api.put(PATH, api.new(f"e{number}"))
        task = asyncio.ensure_future(writer.run())
        try:
            yield statuses, writer
        finally:
            task.cancel()
            (ended,) = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(ended, asyncio.CancelledError)


async def all_arrive(statuses: Statuses, reason: str, writer: StatusWriter[str]) -> None:
    for number in range(COUNT):
        statuses.want(f"e{number}", reason)
    writer.wake()
    await eventually("all are written", statuses.arrived, timeout_s=10)


async def test_statuses_arrive_and_nothing_is_written_twice(api: FakeApi) -> None:
    async with writing(api) as (statuses, writer):
        await all_arrive(statuses, "Failing", writer)
        await all_arrive(statuses, "Failing", writer)
        await all_arrive(statuses, "Behind", writer)
        patches = api.seen(method="PATCH")
        assert len(patches) == 2 * COUNT
        assert patches[0].query == {"fieldManager": "telemetry-relay", "force": "true"}
        assert patches[0].headers["Content-Type"] == "application/apply-patch+yaml"
        assert api.connections_max <= 3


async def test_the_rate_is_kept(api: FakeApi) -> None:
    async with writing(api, rate=20) as (statuses, writer):
        began = time.monotonic()
        await all_arrive(statuses, "Failing", writer)
        assert time.monotonic() - began >= (COUNT - 1) / 20 - 0.02


def only(name: str) -> Callable[[web.Request], bool]:
    return lambda request: f"/{name}/status" in request.path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "failures"),
    [
        (Fault(failing(500), 1, only("e3")), 1),
        (Fault(cut, 1, only("e3")), 1),
        (Fault(failing(403, "Forbidden"), 1, only("e3")), 1),
    ],
)
async def test_a_failure_is_tried_again(api: FakeApi, fault: Fault, failures: int) -> None:
    async with writing(api) as (statuses, writer):
        api.faults.append(fault)
        await all_arrive(statuses, "Failing", writer)
        statistics = writer.statistics()
        assert (statistics.written, statistics.failed) == (COUNT, failures)
        assert statistics.last_error.startswith("default/e3: ")


@pytest.mark.slow
async def test_the_server_can_hold_all_writes_back(api: FakeApi) -> None:
    async with writing(api, rate=20) as (statuses, writer):
        api.faults.append(Fault(failing(429, "TooManyRequests", retry_after="1")))
        began = time.monotonic()
        await all_arrive(statuses, "Failing", writer)
        assert time.monotonic() - began >= 1
        assert len(api.seen(method="PATCH")) <= COUNT + 4


async def test_a_version_that_is_over_gets_no_status(api: FakeApi) -> None:
    async with writing(api) as (statuses, writer):
        statuses.stale = 2
        await all_arrive(statuses, "Failing", writer)
        assert writer.statistics().failed == 2
        assert "409 Conflict" in writer.statistics().last_error


async def test_an_object_that_is_gone_is_forgotten(api: FakeApi) -> None:
    async with writing(api) as (statuses, writer):
        statuses.target("e3")
        api.delete(PATH, "e3")
        statuses.want("e3", "Failing")
        statuses.schedule.offer("unknown", parts_of({}), time.monotonic())
        writer.wake()
        await eventually(
            "it is forgotten", lambda: writer.statistics().schedule.objects == 0, timeout_s=5
        )
        assert writer.statistics().failed == 1
