"""Relays over one scripted API server: one writes statuses, for all of them; then the next does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from relay.api.admin import AdminServer
from relay.config.exporter.load_result import ObjectKey, ObjectResult
from relay.config.settings.ingest_security import Admin
from relay.control.cluster.cluster_source import StatusTarget
from relay.control.cluster.status_publisher import PublisherOptions, StatusPublisher
from relay.control.explain import ExplainQuery
from relay.control.kubernetes.client import ApiClient, ClientTimings
from relay.control.kubernetes.kubeconfig import ClusterAccess
from relay.control.kubernetes.objects import ApiObject, ApiResource, read_object
from relay.control.replicas import report_reader
from relay.control.replicas.peer_access import PeerAccess
from relay.control.replicas.presence import ReplicaIdentity
from relay.control.status.conditions import StatusCondition
from relay.control.status.object_status import LedgerCounts, ObjectStatus
from relay.telemetry.registry import Telemetry
from tests.integration.api.test_admin_access import look
from tests.kit.ingest_server import LOOPBACK
from tests.kit.kubernetes.fake_api import Document, FakeApi
from tests.kit.kubernetes.statuses import object_key, object_status
from tests.kit.processes import eventually
from tests.own_time import crowding

pytestmark = pytest.mark.slow  # Leases take seconds

EXPORTERS = ApiResource("telemetry.datumapis.com", "v1alpha1", "exporters", "Exporter")
PATH = "/apis/telemetry.datumapis.com/v1alpha1/exporters"
EVENTS = "/api/v1/events"
WEB = object_key("web")
GOOD = object_status(last_success=50.0, ledger=LedgerCounts(10, 10))
NO_DATA = object_status("Unknown", "NoData", "nothing matches")
FAILING = object_status("False", "Failing", "503: it is tried again", last_success=50.0)


async def explain(_question: ExplainQuery) -> list[str]:
    return []


class Board:
    """The statuses that one relay gives."""

    def __init__(self, api: FakeApi) -> None:
        self._api = api
        self.statuses: dict[ObjectKey, ObjectStatus] = {}
        self.seeded: dict[ObjectKey, tuple[StatusCondition, ...]] = {}
        self._listeners: list[Callable[[Sequence[ObjectKey]], None]] = []

    def put(self, key: ObjectKey, status: ObjectStatus | None) -> None:
        if status is None:
            del self.statuses[key]
        else:
            self.statuses[key] = status
        for listener in self._listeners:
            listener([key])

    def subscribe(self, listener: Callable[[Sequence[ObjectKey]], None]) -> None:
        self._listeners.append(listener)

    async def look(self) -> list[ObjectKey]:
        return []

    def objects(self) -> Iterator[ObjectKey]:
        return iter(tuple(self.statuses))

    def busy(self) -> Iterator[ObjectKey]:
        return self.objects()

    def result(self, key: ObjectKey) -> ObjectResult | None:
        if key not in self.statuses:
            return None
        uid = self._api.kind(PATH).objects[key.namespace, key.name]["metadata"]["uid"]
        return ObjectResult(key, uid, 1, None)

    def status(self, key: ObjectKey) -> ObjectStatus | None:
        return self.statuses.get(key)

    def seed(
        self,
        key: ObjectKey,
        uid: str,
        conditions: tuple[StatusCondition, ...],
        sinks: Mapping[str, tuple[StatusCondition, ...]],
    ) -> None:
        assert set(sinks) <= {"out"}
        self.seeded[key] = conditions


@dataclass
class Relay:
    """One relay: what it says, and its publisher."""

    name: str
    board: Board
    publisher: StatusPublisher
    task: asyncio.Task[None]
    server: AdminServer
    client: ApiClient
    ended: bool = field(default=False)

    @property
    def leads(self) -> bool:
        return self.publisher.statistics().leader.leads

    async def end(self) -> None:
        if not self.ended:
            self.ended = True
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            await self.server.stop()

    async def die(self) -> None:
        """End without a word to the API server, as a process that is killed."""
        await self.client.close()
        self.client.request = _unreachable  # type: ignore[method-assign]
        await self.end()


async def _unreachable(*_: object, **__: object) -> bytes:
    await asyncio.sleep(3600)
    return b""


@asynccontextmanager
async def relay(api: FakeApi, name: str, *, url: str = "") -> AsyncIterator[Relay]:
    board = Board(api)
    server = AdminServer(
        LOOPBACK,
        Telemetry(),
        not_ready=list,
        degraded=list,
        measure=look,
        look=look,
        explain=explain,
    )
    async with ApiClient(ClusterAccess(api.url), timings=ClientTimings(answer_s=1)) as client:

        def target(key: ObjectKey, uid: str) -> StatusTarget | None:
            found = api.kind(PATH).objects.get((key.namespace, key.name))
            if found is None or found["metadata"]["uid"] != uid:
                return None
            one = read_object(msgspec.json.encode(found), EXPORTERS)
            assert isinstance(one, ApiObject)
            return StatusTarget(client, EXPORTERS, one)

        def report(epoch: str, since: int) -> bytes | None:
            return publisher.replicas.report(epoch, since, time.monotonic())

        server.report = report
        await server.start()
        url = url or f"http://{server.address}"
        options = PublisherOptions(
            ReplicaIdentity("relays", "telemetry", name, f"{name}-life", url),
            PeerAccess(Admin()),
            20.0,
        )
        publisher = StatusPublisher(client, options, board, target)
        one = Relay(name, board, publisher, asyncio.create_task(publisher.run()), server, client)
        try:
            yield one
        finally:
            await one.end()


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    monkeypatch.setattr(report_reader, "INTERVAL_S", 0.2)
    async with FakeApi() as api:
        api.put(PATH, api.new("web", "shop", text="x"))
        yield api


def web(api: FakeApi) -> Document:
    return api.kind(PATH).objects["shop", "web"]


def shown(api: FakeApi, kind: str = "Delivering") -> dict[str, Any]:
    conditions = web(api).get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {})


def delivering(api: FakeApi) -> tuple[str, str]:
    return shown(api).get("status", ""), shown(api).get("reason", "")


def reasons(api: FakeApi) -> list[str]:
    return sorted(one["reason"] for one in api.kind(EVENTS).objects.values())


def transitions(api: FakeApi) -> list[tuple[str, str]]:
    """Every ``Delivering`` that a watcher would have seen, without repetitions."""
    found: list[tuple[str, str]] = []
    for _, _, document in api.kind(PATH).events:
        for one in document.get("status", {}).get("conditions", []):
            state = (one["status"], one["reason"])
            if one["type"] == "Delivering" and (not found or found[-1] != state):
                found.append(state)
    return found


async def both_deliver(api: FakeApi) -> None:
    """Wait until two relays are counted, and the object delivers."""
    await eventually(
        "both are counted",
        lambda: web(api).get("status", {}).get("relays") == "2 of 2",
        timeout_s=20,
    )
    await eventually("it delivers", lambda: delivering(api)[0] == "True", timeout_s=5)


async def test_a_status_and_its_events_are_written(api: FakeApi) -> None:
    async with relay(api, "relay-0") as one:
        one.board.put(WEB, NO_DATA)
        await eventually("it is written", lambda: delivering(api)[1] == "NoData", timeout_s=8)
        assert "relays" not in web(api)["status"]
        one.board.put(WEB, GOOD)
        await eventually("it delivers", lambda: delivering(api)[0] == "True", timeout_s=3)
        one.board.put(WEB, FAILING)
        await eventually("it fails", lambda: delivering(api)[0] == "False", timeout_s=3)
        await eventually(
            "events are written",
            lambda: reasons(api) == ["Accepted", "Delivering", "Failing", "Programmed"],
            timeout_s=5,
        )


async def test_an_object_made_anew_gets_its_own_status_at_once(api: FakeApi) -> None:
    """Even one that comes before its predecessor was seen to go, and with an equal status."""
    async with relay(api, "relay-0") as one:
        one.board.put(WEB, FAILING)
        await eventually("it is written", lambda: delivering(api)[0] == "False", timeout_s=8)
        for _ in range(2):
            api.delete(PATH, "web", "shop")
            api.put(PATH, api.new("web", "shop", text="x"))
            assert not delivering(api)[0]
            one.board.put(WEB, FAILING)
            await eventually("it is written", lambda: delivering(api)[0] == "False", timeout_s=4)


async def test_an_object_that_cannot_be_offered_costs_no_other(
    api: FakeApi, caplog: pytest.LogCaptureFixture
) -> None:
    api.put(PATH, api.new("a", "shop", text="x"))
    async with relay(api, "relay-0") as one:
        bad = object_status(last_success=1e300)  # no time that can be written
        one.board.put(object_key("a"), bad)
        one.board.put(WEB, FAILING)
        await eventually("it is written", lambda: delivering(api)[0] == "False", timeout_s=8)
        one.board.put(object_key("a"), bad)
        one.board.put(WEB, GOOD)
        await eventually("it is written", lambda: delivering(api)[0] == "True", timeout_s=4)
        assert "status" not in api.kind(PATH).objects["shop", "a"]
        assert "a status was not offered" in caplog.text


async def test_a_restart_writes_and_tells_nothing_again(api: FakeApi) -> None:
    async with relay(api, "relay-0") as one:
        one.board.put(WEB, FAILING)
        await eventually("it is written", lambda: delivering(api)[0] == "False", timeout_s=8)
        await eventually("events are written", lambda: len(reasons(api)) == 3, timeout_s=5)
    version, before = web(api)["metadata"]["resourceVersion"], reasons(api)
    async with relay(api, "relay-0") as one:
        one.board.put(WEB, FAILING)
        await eventually("it leads", lambda: one.leads, timeout_s=8)
        await eventually("it is seeded", lambda: WEB in one.board.seeded, timeout_s=5)
        await asyncio.sleep(1.5)  # nothing may happen now
        assert web(api)["metadata"]["resourceVersion"] == version
        assert reasons(api) == before
        assert one.board.seeded[WEB][3].reason == "Failing"


async def test_the_leader_writes_for_all_and_the_next_one_goes_on(api: FakeApi) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(relay(api, "relay-0"))
        first.board.put(WEB, NO_DATA)
        await eventually("the first leads", lambda: first.leads, timeout_s=8)
        second = await stack.enter_async_context(relay(api, "relay-1"))
        second.board.put(WEB, GOOD)
        await both_deliver(api)
        second.board.put(WEB, FAILING)
        await eventually(
            "the second one's failure is written by the first",
            lambda: shown(api).get("message", "").startswith("out: "),
            timeout_s=5,
        )
        assert first.leads
        second.board.put(WEB, GOOD)
        await eventually("it delivers again", lambda: delivering(api)[0] == "True", timeout_s=5)
        killed_at = time.monotonic()
        await first.die()
        await eventually("the second leads", lambda: second.leads, timeout_s=25)
        second.board.put(WEB, FAILING)
        await eventually("it writes", lambda: delivering(api)[0] == "False", timeout_s=10)
        assert time.monotonic() - killed_at < 20 * crowding()
        # The one that was killed may have been named meanwhile; nothing went back and forth.
        assert [one for one in transitions(api) if one[1] != "NoReport"] == [
            ("Unknown", "NoData"),
            ("True", "Delivering"),
            ("False", "Failing"),
            ("True", "Delivering"),
            ("False", "Failing"),
        ]


async def test_a_report_of_an_earlier_version_counts(api: FakeApi) -> None:
    """Its keys name no API groups."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(relay(api, "relay-0"))
        policy = replace(WEB, kind="ExportPolicy")
        first.board.put(replace(policy, group=EXPORTERS.group), NO_DATA)
        await eventually("the first leads", lambda: first.leads, timeout_s=8)
        old = await stack.enter_async_context(relay(api, "relay-1"))
        old.board.put(policy, GOOD)
        await both_deliver(api)
        old.board.put(policy, FAILING)
        await eventually(
            "a change is written", lambda: delivering(api) == ("False", "Failing"), timeout_s=5
        )


async def test_a_relay_whose_report_cannot_be_fetched(api: FakeApi) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(relay(api, "relay-0"))
        first.board.put(WEB, GOOD)
        await eventually("the first leads", lambda: first.leads, timeout_s=8)
        for name, url in (("relay-1", ""), ("relay-2", "http://127.0.0.1:1")):
            one = await stack.enter_async_context(relay(api, name, url=url))
            one.board.put(WEB, GOOD)
        await eventually(
            "it is named",
            lambda: delivering(api) == ("Unknown", "NoReport"),
            timeout_s=25,
        )
        assert web(api)["status"]["relays"] == "2 of 3"
        message = "relay-2 cannot be asked: no connection: Connection refused"
        assert shown(api)["message"].startswith(message)
        assert shown(api, "Programmed")["status"] == "True"
        assert transitions(api) == [("True", "Delivering"), ("Unknown", "NoReport")]


async def test_nothing_is_kept_of_objects_while_another_relay_leads(api: FakeApi) -> None:
    async with relay(api, "relay-0") as first, relay(api, "relay-1") as second:
        await eventually("one leads", lambda: first.leads or second.leads, timeout_s=8)
        follower = second if first.leads else first
        for number in range(50):
            key = object_key(f"gone{number}")
            api.put(PATH, api.new(key.name, key.namespace, text="x"))
            follower.board.put(key, GOOD)
            follower.board.put(key, None)
        await eventually(
            "they are forgotten",
            lambda: not follower.publisher._dirty,
            timeout_s=5,
        )


async def test_a_status_that_cannot_be_written_or_told_costs_no_other(
    api: FakeApi, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, worse = object_key("bad"), object_key("worse")
    for key in (bad, worse):
        api.put(PATH, api.new(key.name, "shop", text="x"))
    told = Board.status

    def status(self: Board, key: ObjectKey) -> ObjectStatus | None:
        if key == worse:
            raise LookupError(key)
        return told(self, key)

    monkeypatch.setattr(Board, "status", status)
    async with relay(api, "relay-0") as one:
        one.board.put(worse, GOOD)
        one.board.put(bad, object_status(last_success=1e300))  # a time that no calendar has
        one.board.put(WEB, GOOD)
        await eventually("the other is written", lambda: delivering(api)[0] == "True", timeout_s=8)
    assert "a status was not offered" in caplog.text
    assert "a status cannot be told" in caplog.text
    assert "begins anew" not in caplog.text
