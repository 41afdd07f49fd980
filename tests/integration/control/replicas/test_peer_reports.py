"""The leader reads reports from the admin listeners of other relays, over real connections."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from relay.api.admin import AdminServer
from relay.config.exporter.load_result import ObjectKey
from relay.config.settings.ingest_security import Admin, SenderAuthentication, ServerTls
from relay.control.explain import ExplainQuery
from relay.control.replicas import report_reader
from relay.control.replicas.members import Member
from relay.control.replicas.peer_access import PeerAccess
from relay.control.replicas.report import PAGE_OBJECTS_MAX, REPORT_PATH, ReplicaStatus
from relay.control.replicas.report_log import ReportLog
from relay.control.replicas.report_reader import PeerReports
from relay.telemetry.registry import Telemetry
from tests.integration.api.test_admin_access import look
from tests.kit.http.closing import clean_up
from tests.kit.http.hostile_server import HostileServer, never_answer
from tests.kit.ingest_server import LOOPBACK
from tests.kit.kubernetes.statuses import object_key, object_status
from tests.kit.processes import eventually

pytestmark = pytest.mark.slow  # relays are waited for

KEY = object_key("web")
GOOD = ReplicaStatus("u1", object_status())


async def explain(_question: ExplainQuery) -> list[str]:
    return []


@dataclass
class Relay:
    """A relay that only has a report."""

    server: AdminServer
    log: ReportLog
    statuses: dict[ObjectKey, ReplicaStatus]

    @property
    def url(self) -> str:
        address = self.server.address
        return f"{'https' if self.tls else 'http'}://{address.host}:{address.port}"

    tls: bool = False

    def put(self, key: ObjectKey, value: ReplicaStatus = GOOD) -> None:
        self.statuses[key] = value
        self.log.touch([key])


@asynccontextmanager
async def serving(name: str = "relay-1", *, access: Admin | None = None) -> AsyncIterator[Relay]:
    statuses: dict[ObjectKey, ReplicaStatus] = {}
    server = AdminServer(
        LOOPBACK,
        Telemetry(),
        not_ready=list,
        degraded=list,
        measure=look,
        look=look,
        explain=explain,
        access=access,
    )
    log = ReportLog(name, f"{name}-life", statuses.get)

    def report(epoch: str, since: int) -> bytes | None:
        return log.page(epoch, since, time.monotonic()) if log.ready else None

    server.report = report
    log.ready = True
    await server.start()
    try:
        yield Relay(server, log, statuses, access is not None and access.tls is not None)
    finally:
        await server.stop()


@dataclass
class Leader:
    """A leader's reports of the others, with what it was told."""

    members: list[Member]
    reports: PeerReports
    told: list[Iterable[ObjectKey] | None] = field(default_factory=list)

    def why(self) -> str:
        return next((one.why for one in self.reports.statistics()), "")

    def status(self) -> ReplicaStatus | None:
        for one in self.reports.readings(KEY, "u1"):
            return None if one.status is None else ReplicaStatus("u1", one.status)
        return None


@asynccontextmanager
async def leading(*members: Member, access: Admin | None = None) -> AsyncIterator[Leader]:
    known = [Member("relay-0", "l0", ""), *members]
    told: list[Iterable[ObjectKey] | None] = []
    reports = PeerReports(
        PeerAccess(access or Admin()), lambda: tuple(known), "l0", on_change=told.append
    )
    task = asyncio.create_task(reports.run())
    try:
        yield Leader(known, reports, told)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def at_an_address(
    page: Callable[[web.Request], Awaitable[web.Response]],
) -> AsyncIterator[str]:
    """Serve a report that is made up."""
    app = web.Application()
    app.router.add_get(REPORT_PATH, page)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await clean_up(runner)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_reader, "INTERVAL_S", 0.05)


async def test_reports_are_read_and_followed() -> None:
    async with serving() as relay:
        for number in range(2 * PAGE_OBJECTS_MAX):
            relay.put(object_key(f"e{number}"))
        relay.put(KEY)
        async with leading(Member("relay-1", "l1", relay.url)) as leader:
            await eventually("it is read", lambda: leader.status() == GOOD, timeout_s=5)
            assert leader.reports.settled
            bad = ReplicaStatus("u1", object_status("False", "Failing", "503"))
            relay.put(KEY, bad)
            await eventually("it is followed", lambda: leader.status() == bad, timeout_s=5)
            assert {KEY} in leader.told
            (one,) = leader.reports.statistics()
            assert (one.relay, one.objects, one.why) == ("relay-1", 2 * PAGE_OBJECTS_MAX + 1, "")


async def test_an_object_of_another_uid_is_not_this_one() -> None:
    async with serving() as relay:
        relay.put(KEY)
        async with leading(Member("relay-1", "l1", relay.url)) as leader:
            await eventually("it is read", lambda: leader.status() == GOOD, timeout_s=5)
            (reading,) = leader.reports.readings(KEY, "u2")
            assert (reading.status, reading.why) == (None, "")


@pytest.mark.parametrize(
    "authentication",
    [
        SenderAuthentication("bearer", token="s3cret"),
        SenderAuthentication("basic", username="relay", password="pass:wörd"),
    ],
)
async def test_the_listeners_own_credential_is_used(authentication: SenderAuthentication) -> None:
    access = Admin(authentication=authentication)
    async with serving(access=access) as relay:
        relay.put(KEY)
        member = Member("relay-1", "l1", relay.url)
        async with leading(member, access=access) as leader:
            await eventually("it is read", lambda: leader.status() == GOOD, timeout_s=5)
        async with leading(member) as leader:
            await eventually(
                "it is refused",
                lambda: "refuses this relay's credential" in leader.why(),
                timeout_s=5,
            )


def certificate(folder: Path, name: str) -> ServerTls:
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-keyout",
            key,
            "-out",
            cert,
            "-subj",
            "/CN=relay",
            "-addext",
            "subjectAltName=DNS:relay.example",
        ],
        check=True,
        capture_output=True,
    )
    return ServerTls(cert, key)


async def test_tls_with_the_relays_own_certificate(tmp_path: Path) -> None:
    own, foreign = certificate(tmp_path, "own"), certificate(tmp_path, "foreign")
    async with serving(access=Admin(tls=own)) as relay:
        relay.put(KEY)
        member = Member("relay-1", "l1", relay.url)
        async with leading(member, access=Admin(tls=own)) as leader:
            await eventually("it is read", lambda: leader.status() == GOOD, timeout_s=5)
        async with leading(member, access=Admin(tls=foreign)) as leader:
            await eventually(
                "it is refused", lambda: "its certificate is refused" in leader.why(), timeout_s=5
            )


async def test_tls_with_client_certificates(tmp_path: Path) -> None:
    own = certificate(tmp_path, "own")
    both = ServerTls(own.cert_file, own.key_file, own.cert_file)
    async with serving(access=Admin(tls=both)) as relay:
        relay.put(KEY)
        member = Member("relay-1", "l1", relay.url)
        async with leading(member, access=Admin(tls=both)) as leader:
            await eventually("it is read", lambda: leader.status() == GOOD, timeout_s=5)


async def test_a_relay_that_cannot_be_asked_does_not_delay_another() -> None:
    async with HostileServer(never_answer) as hanging, serving() as relay:
        relay.put(KEY)
        members = (
            Member("relay-1", "l1", relay.url),
            Member("relay-2", "l2", f"http://127.0.0.1:{hanging.port}"),
        )
        async with leading(*members) as leader:
            await eventually("it is read", lambda: leader.status() == GOOD, timeout_s=3)


@pytest.mark.parametrize(
    ("objects", "why"), [([], "a page of its report is empty"), ([{}], "more than 5 pages")]
)
async def test_a_report_without_an_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch, objects: list[object], why: str
) -> None:
    monkeypatch.setattr(report_reader, "PAGES_MAX", 5)
    asked = 0

    async def page(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        reset = request.query["epoch"] != "e"
        return web.json_response(
            {"format": 1, "relay": "x", "epoch": "e", "position": asked, "reset": reset}
            | {"more": True, "objects": objects}
        )

    async with at_an_address(page) as url, leading(Member("relay-1", "l1", url)) as leader:
        await eventually("it is given up", lambda: why in leader.why(), timeout_s=5)
        await eventually("others go on", lambda: leader.reports.settled, timeout_s=15)
        assert asked < 60
        assert leader.status() is None


async def test_a_report_that_trickles_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_reader, "READING_S", 0.5)
    position = 0

    async def page(request: web.Request) -> web.Response:
        nonlocal position
        reset = request.query["epoch"] != "e"
        position += 1
        await asyncio.sleep(0.2)
        return web.json_response(
            {"format": 1, "relay": "x", "epoch": "e", "position": position, "reset": reset}
            | {"more": position < 20, "objects": [{}]}
        )

    async with at_an_address(page) as url, leading(Member("relay-1", "l1", url)) as leader:
        await eventually("it is named", lambda: leader.why() == "no answer in time", timeout_s=5)
        await eventually("others go on", lambda: leader.reports.settled, timeout_s=15)


async def test_reasons_say_what_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "relay.control.replicas")
    async with serving() as relay:
        relay.log.ready = False
        async with leading(Member("relay-1", "l1", relay.url)) as leader:
            started = asyncio.get_running_loop().time()
            await eventually("it starts", lambda: leader.why() == "it is starting", timeout_s=8)
            assert asyncio.get_running_loop().time() - started > report_reader.START_S / 2
            relay.put(KEY)
            relay.log.ready = True
            await eventually("it is read", lambda: leader.status() == GOOD, timeout_s=20)
            await eventually("it is told", lambda: "is read again" in caplog.text, timeout_s=5)
            assert caplog.text.count("cannot be read: it is starting") == 1
        relay.server.report = None
        async with leading(Member("relay-1", "l1", relay.url)) as leader:
            await eventually("it has none", lambda: "has no report" in leader.why(), timeout_s=8)
    async with leading(Member("relay-1", "l1", "")) as leader:
        await eventually("no address", lambda: "has no address" in leader.why(), timeout_s=8)
        assert leader.reports.settled


async def test_a_relay_that_falls_silent_is_shown_as_it_was_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report_reader, "FRESH_S", 1.0)
    async with serving() as relay:
        relay.put(KEY)
        member = Member("relay-1", "l1", relay.url)
        async with leading(member) as leader:
            await eventually("it is read", lambda: leader.status() == GOOD, timeout_s=5)
            await relay.server.stop()
            await asyncio.sleep(0.3)
            assert leader.status() == GOOD
            await eventually("it is given up", lambda: "no connection" in leader.why(), timeout_s=5)
            assert leader.status() is None
            assert leader.told[-1] is None, "every object is judged anew"


async def test_a_lost_relay_is_named_and_one_that_ended_is_not() -> None:
    async with serving() as relay:
        relay.put(KEY)
        member = Member("relay-1", "l1", relay.url)
        async with leading(member) as leader:
            await eventually("it is read", lambda: leader.status() == GOOD, timeout_s=5)
            leader.members[1] = Member("relay-1", "l1", relay.url, left=True)
            assert leader.status() == GOOD
            leader.members[1] = Member("relay-1", "l1", relay.url, lost_at_s=1.0)
            assert leader.why() == "its Lease has expired"
            del leader.members[1]
            assert list(leader.reports.readings(KEY, "u1")) == []


async def test_the_page_checks_what_is_asked() -> None:
    async with serving() as relay:
        reports = leading()
        async with reports as leader:
            session = leader.reports._client()
            for since in ("x", "-1", "9" * 40, ""):
                async with session.get(f"{relay.url}{REPORT_PATH}?since={since}") as answer:
                    assert answer.status == 400, since
            async with session.get(f"{relay.url}{REPORT_PATH}") as answer:
                assert answer.status == 200
                assert (await answer.json())["format"] == 1
