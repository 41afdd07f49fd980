"""Events at a scripted API server: created, counted on, tried again, and given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from relay.config.exporter.load_result import ObjectKey
from relay.control.cluster.cluster_source import StatusTarget
from relay.control.kubernetes.client import ApiClient, ClientTimings
from relay.control.kubernetes.kubeconfig import ClusterAccess
from relay.control.kubernetes.objects import ApiObject, ApiResource
from relay.control.replicas import event_schedule
from relay.control.replicas.event_writer import MESSAGE_CHARS_MAX, EventWriter
from relay.control.replicas.transitions import Happening
from tests.kit.kubernetes.fake_api import Document, FakeApi, Fault, cut, failing
from tests.kit.kubernetes.statuses import object_key
from tests.kit.processes import eventually

EVENTS = "/api/v1/events"
EXPORTERS = ApiResource("telemetry.datumapis.com", "v1alpha1", "exporters", "Exporter")
WEB = object_key("web")
FAILING = Happening("Warning", "Failing", "out: 503", "out")


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with FakeApi() as api:
        yield api


@asynccontextmanager
async def writer(
    api: FakeApi,
    *,
    uid: str = "u1",
    mark: str = "1",
    spend: Callable[[float], float] = lambda _: 0.0,
) -> AsyncIterator[EventWriter]:
    async with ApiClient(ClusterAccess(api.url), timings=ClientTimings(answer_s=1)) as client:
        target = ApiObject("shop", "web", uid, "7", 1, b"{}")

        def find(key: ObjectKey, _uid: str) -> StatusTarget | None:
            return StatusTarget(client, EXPORTERS, target) if key == WEB else None

        one = EventWriter(find, spend, relay="relay-0", mark=mark)
        task = asyncio.create_task(one.run())
        try:
            yield one
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def events(api: FakeApi) -> list[Document]:
    return list(api.kind(EVENTS).objects.values())


async def test_an_event_is_about_its_object(api: FakeApi) -> None:
    async with writer(api) as one:
        one.add(WEB, "u1", FAILING)
        await eventually("it is written", lambda: len(events(api)) == 1, timeout_s=5)
    (event,) = events(api)
    assert event["metadata"]["namespace"] == "shop"
    assert event["metadata"]["name"].startswith("web.")
    assert event["involvedObject"] == {
        "apiVersion": "telemetry.datumapis.com/v1alpha1",
        "kind": "Exporter",
        "namespace": "shop",
        "name": "web",
        "uid": "u1",
        "resourceVersion": "7",
    }
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "Failing", "out: 503")
    assert event["source"] == {"component": "telemetry-relay", "host": "relay-0"}
    assert event["count"] == 1
    assert event["firstTimestamp"] == event["lastTimestamp"]


async def test_what_happens_again_is_counted_by_the_same_event(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_schedule, "SERIES_INTERVAL_S", 0.0)
    async with writer(api) as one:
        for number, message in enumerate(("out: 503", "out: 502", "out: " + "x" * 2000), 1):
            one.add(WEB, "u1", Happening("Warning", "Failing", message, "out"))
            await eventually(
                "it is written",
                lambda number=number: one.statistics().written == number,
                timeout_s=5,
            )
        (event,) = events(api)
        assert event["count"] == 3
        assert len(event["message"]) == MESSAGE_CHARS_MAX
        api.kind(EVENTS).objects.clear()  # they are kept for an hour
        one.add(WEB, "u1", FAILING)
        await eventually("it is there again", lambda: len(events(api)) == 1, timeout_s=5)
    assert events(api)[0]["count"] == 4


async def test_an_answer_that_got_lost_makes_no_second_event(api: FakeApi) -> None:
    async with writer(api) as one:
        one.add(WEB, "u1", FAILING)
        await eventually("it is written", lambda: one.statistics().written == 1, timeout_s=5)
    async with writer(api) as one:  # of the same life, but it knows nothing of it
        one.add(WEB, "u1", FAILING)
        await eventually("it is written", lambda: one.statistics().written == 1, timeout_s=5)
    assert [one["count"] for one in events(api)] == [1]


async def test_another_leader_writes_its_own(api: FakeApi) -> None:
    for mark in ("1", "2"):
        async with writer(api, mark=mark) as one:
            one.add(WEB, "u1", FAILING)
            await eventually("it is written", lambda: one.statistics().written == 1, timeout_s=5)
    assert [one["count"] for one in events(api)] == [1, 1]
    assert not api.seen(), "nothing is read"


async def test_events_of_different_reasons_sinks_and_objects_are_apart(api: FakeApi) -> None:
    async with writer(api) as one:
        one.add(WEB, "u1", FAILING)
        one.add(WEB, "u1", Happening("Warning", "Failing", "b: 503", "b"))
        one.add(WEB, "u1", Happening("Normal", "Recovered", "out: it delivers again", "out"))
        await eventually("they are written", lambda: len(events(api)) == 3, timeout_s=5)


async def test_nothing_is_told_of_an_object_that_is_gone(api: FakeApi) -> None:
    async with writer(api, uid="u2") as one:
        one.add(object_key("gone"), "u1", FAILING)
        one.add(WEB, "u1", FAILING)  # another one has its name now
        one.add(WEB, "u2", FAILING)
        await eventually("one is written", lambda: one.statistics().written == 1, timeout_s=5)
        assert one.statistics().schedule.waiting == 0
    assert [one["involvedObject"]["uid"] for one in events(api)] == ["u2"]


@pytest.mark.slow
async def test_a_failed_write_is_tried_again_and_given_up(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_schedule, "RETRY_S", 0.02)
    api.faults = [Fault(failing(500, "InternalError")), Fault(cut)]
    async with writer(api) as one:
        one.add(WEB, "u1", FAILING)
        await eventually("it is written", lambda: len(events(api)) == 1, timeout_s=5)
        assert one.statistics().failed == 2
        assert one.statistics().last_error.startswith("shop/web: ")
        api.faults = [Fault(failing(403, "Forbidden"), times=100)]
        one.add(WEB, "u1", Happening("Normal", "Accepted", "the object is valid"))
        await eventually(
            "it is given up", lambda: one.statistics().schedule.given_up == 1, timeout_s=5
        )
    assert len(events(api)) == 1


async def test_nothing_is_written_without_room_in_the_budget(api: FakeApi) -> None:
    asked: list[float] = []
    room = [0.05, 0.05, 0.0]

    def spend(now: float) -> float:
        asked.append(now)
        return room[min(len(asked), len(room)) - 1]

    async with writer(api, spend=spend) as one:
        one.add(WEB, "u1", FAILING)
        await eventually("it is written", lambda: len(events(api)) == 1, timeout_s=5)
    assert len(asked) == 3
    assert asked[2] - asked[0] >= 0.09
