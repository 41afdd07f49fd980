"""The admin listener on loopback: every page, and that a scrape does not stop the event loop."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
import msgspec
import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from relay.api.admin import AdminServer
from relay.api.contract import EVERYTHING, StatusFilter
from relay.control.explain import ExplainQuery
from relay.runtime.errors import ConfigError, Fault
from relay.telemetry.loop_lag import WINDOW, LoopLag
from relay.telemetry.registry import SinkFigures, Snapshot, Telemetry
from tests.kit.ingest_server import LOOPBACK
from tests.own_time import patience


@dataclass
class Process:
    """What the pages show."""

    reasons: Sequence[str] = ()
    troubles: Sequence[str] = ()
    status: object = field(default_factory=lambda: {"exporters": [{"id": "acme/a"}]})
    snapshot: Snapshot = field(
        default_factory=lambda: Snapshot(
            version="1.2.3",
            sinks=(SinkFigures("acme/a", "grafana", matched_points=7, delivered=7),),
        )
    )

    async def look(self) -> Seen:
        """As of now."""
        return Seen(self)

    async def measure(self) -> Measured:
        """The figures, as of now."""
        return Measured(self)

    async def explain(self, question: ExplainQuery) -> list[str]:
        """Repeat what was asked."""
        if not question.series:
            raise ConfigError([Fault("series", "is missing")])
        return [f"{question.series} {question.tenant} {question.exporter} {question.every}"]


@dataclass
class Measured:
    """What a scrape is made of."""

    process: Process

    def snapshot(self) -> Snapshot:
        """The figures."""
        return self.process.snapshot


@dataclass
class Seen:
    """What was there when somebody looked."""

    process: Process

    def snapshot(self) -> Snapshot:
        raise AssertionError("a scrape is made of less")

    def status(self, wanted: StatusFilter) -> object:
        """The document."""
        return msgspec.structs.asdict(wanted) if wanted != EVERYTHING else self.process.status


@dataclass
class Admin:
    """A running admin listener, and a client for it."""

    server: AdminServer
    process: Process
    session: aiohttp.ClientSession

    async def get(self, path: str, **headers: str) -> tuple[int, str, Mapping[str, str]]:
        """Status, text and headers of a page."""
        async with self.session.get(path, headers=headers) as response:
            return response.status, await response.text(), response.headers


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    process = Process()
    server = AdminServer(
        LOOPBACK,
        Telemetry(),
        not_ready=lambda: process.reasons,
        degraded=lambda: process.troubles,
        measure=process.measure,
        look=process.look,
        explain=process.explain,
    )
    await server.start()
    base = f"http://{server.address.host}:{server.address.port}"
    try:
        async with aiohttp.ClientSession(base) as session:
            yield Admin(server, process, session)
    finally:
        await server.stop()


async def test_index_names_every_page(admin: Admin) -> None:
    status, text, _ = await admin.get("/")
    assert status == 200
    pages = [line for line in text.splitlines() if line.startswith("/")]
    assert pages == ["/metrics", "/healthz", "/readyz", "/status?pretty", "/explain?series=up"]
    for page in pages:
        assert (await admin.get(page))[0] == 200


async def test_status_hands_on_what_is_asked_for(admin: Admin) -> None:
    status, text, _ = await admin.get("/status?project=acme&exporter=acme/a&state=failing")
    expected = {"project": "acme", "exporter": "acme/a", "state": "failing"}
    assert (status, msgspec.json.decode(text)) == (200, expected)


async def test_an_unknown_state_is_named(admin: Admin) -> None:
    status, text, _ = await admin.get("/status?state=sad")
    assert status == 400
    assert text == "state: there is no 'sad'; one of healthy, behind, failing, paused\n"


async def test_explain_hands_the_question_on(admin: Admin) -> None:
    asked = "/explain?series=up%7Bjob%3D%22a%20b%22%7D&account=42:7&exporter=acme/a&all=yes"
    status, text, headers = await admin.get(asked)
    assert (status, text) == (200, 'up{job="a b"} 42:7 acme/a True\n')
    assert headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("query", "complaint"),
    [("", "series: is missing\n"), ("?series=up&account=none", "tenant 'none' is not <accountID>")],
)
async def test_explain_says_what_is_wrong_with_the_question(
    admin: Admin, query: str, complaint: str
) -> None:
    status, text, _ = await admin.get(f"/explain{query}")
    assert status == 400
    assert text.startswith(complaint)


async def test_health(admin: Admin) -> None:
    assert (await admin.get("/healthz"))[:2] == (200, "ok\n")


async def test_readiness(admin: Admin) -> None:
    status, text, _ = await admin.get("/readyz")
    well = {"ready": True, "reasons": [], "degraded": []}
    assert (status, msgspec.json.decode(text)) == (200, well)
    admin.process.troubles = ["storage: queues are in memory only: no space left on device"]
    status, text, _ = await admin.get("/readyz")
    assert status == 200, "a pod that serves stays in its Service"
    assert msgspec.json.decode(text) == {**well, "degraded": admin.process.troubles}
    admin.process.troubles = []
    admin.process.reasons = ["no exporter is loaded"]
    status, text, _ = await admin.get("/readyz")
    assert status == 503
    assert msgspec.json.decode(text) == {
        "ready": False,
        "reasons": ["no exporter is loaded"],
        "degraded": [],
    }


async def test_status(admin: Admin) -> None:
    status, text, headers = await admin.get("/status")
    assert (status, text) == (200, '{"exporters":[{"id":"acme/a"}]}')
    assert headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "no-store"
    _, pretty, _ = await admin.get("/status?pretty")
    assert "\n" in pretty
    assert msgspec.json.decode(pretty) == admin.process.status


async def test_status_takes_frozen_dataclasses(admin: Admin) -> None:
    admin.process.status = SinkFigures("acme/a", "grafana", dropped={"queue_full": 3})
    _, text, _ = await admin.get("/status")
    assert msgspec.json.decode(text)["dropped"] == {"queue_full": 3}


async def test_metrics_as_text(admin: Admin) -> None:
    status, text, headers = await admin.get("/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(text)}
    sample = families["relay_sink_matched_points"].samples[0]
    assert (sample.labels, sample.value) == ({"exporter": "acme/a", "sink": "grafana"}, 7)
    assert "process_resident_memory_bytes" in families


async def test_metrics_as_openmetrics_compressed(admin: Admin) -> None:
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
    encoding = {"Accept-Encoding": "gzip"}
    status, text, headers = await admin.get("/metrics", Accept=accept, **encoding)
    assert status == 200
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert headers["Content-Encoding"] == "gzip"
    names = {family.name for family in openmetrics_parser.text_string_to_metric_families(text)}
    assert {"relay_build", "relay_sink_points"} <= names


async def test_other_paths_and_methods(admin: Admin) -> None:
    assert (await admin.get("/debug"))[0] == 404
    async with admin.session.post("/status") as response:
        assert response.status == 405
    async with admin.session.head("/healthz") as response:
        assert response.status == 200


async def test_a_scrape_is_written_out_beside_the_event_loop(admin: Admin) -> None:
    """One looks on the loop, where the counters live; figures and text are made elsewhere."""
    taken_in: list[threading.Thread] = []
    made_in: list[threading.Thread] = []
    released = threading.Event()

    async def measure() -> Measured:
        taken_in.append(threading.current_thread())
        return await admin.process.measure()

    class Slow(Telemetry):
        def render(self, snapshot: Snapshot, *, accept: str = "") -> tuple[bytes, str]:
            made_in.append(threading.current_thread())
            assert released.wait(5)
            return super().render(snapshot, accept=accept)

    server = AdminServer(
        LOOPBACK,
        Slow(),
        not_ready=lambda: (),
        degraded=lambda: (),
        measure=measure,
        look=admin.process.look,
        explain=lambda _question: (),
    )
    await server.start()
    base = f"http://{server.address.host}:{server.address.port}"
    try:
        async with aiohttp.ClientSession(base) as session:
            scrapes = [asyncio.create_task(session.get("/metrics")) for _ in range(2)]
            async with session.get("/healthz") as response:
                assert response.status == 200
            released.set()
            for scrape in scrapes:
                async with await scrape as response:
                    assert response.status == 200
    finally:
        released.set()
        await server.stop()
    assert set(taken_in) == {threading.current_thread()}
    assert threading.current_thread() not in made_in


def test_lag_is_the_last_and_the_worst_of_the_window() -> None:
    lag = LoopLag()
    assert (lag.last_s, lag.max_s) == (0.0, 0.0)
    for lag_s in (0.25, 0.5, -0.001):
        lag.observe(lag_s)
    assert (lag.last_s, lag.max_s) == (0.0, 0.5)
    for _ in range(WINDOW - 1):
        lag.observe(0.125)
    assert (lag.last_s, lag.max_s) == (0.125, 0.125)


async def test_lag_is_measured_until_cancelled() -> None:
    measured = asyncio.Event()

    class Observed(LoopLag):
        def observe(self, lag_s: float) -> None:
            super().observe(lag_s)
            measured.set()

    task = asyncio.create_task(Observed(interval_s=0.001).run())
    async with patience(5):
        await measured.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_reports_are_gone_while_a_scrape_is_written(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    views: list[weakref.ref[Measured]] = []
    gone: list[bool] = []
    render = Telemetry.render

    def snapshot(view: Measured) -> Snapshot:
        views.append(weakref.ref(view))
        return view.process.snapshot

    def note(telemetry: Telemetry, figures: Snapshot, *, accept: str = "") -> tuple[bytes, str]:
        gone.extend(view() is None for view in views)
        return render(telemetry, figures, accept=accept)

    monkeypatch.setattr(Measured, "snapshot", snapshot)
    monkeypatch.setattr(Telemetry, "render", note)
    assert (await admin.get("/metrics"))[0] == 200
    assert gone == [True]
