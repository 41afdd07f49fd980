"""Neither a bug in one status nor a control plane that throttles costs others their writes."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from relay.control.kubernetes.client import ApiClient
from relay.control.kubernetes.errors import ThrottledError
from relay.control.kubernetes.objects import ApiObject, ApiResource
from relay.control.kubernetes.status_body import parts_of, status_document
from relay.control.kubernetes.status_schedule import StatusSchedule
from relay.control.kubernetes.status_writer import StatusWrite, StatusWriter
from relay.sink.retry.backoff import RETRY_AFTER_S_MAX
from tests.kit.kubernetes.statuses import object_status
from tests.kit.processes import eventually

EXPORTERS = ApiResource("telemetry.datumapis.com", "v1alpha1", "exporters", "Exporter")


class Client:
    """Accepts every write."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def request(self, method: str, path: str, **_: object) -> bytes:
        self.paths.append(path)
        return b"{}"


async def test_a_bug_costs_one_object(caplog: pytest.LogCaptureFixture) -> None:
    client = Client()
    document = status_document(object_status())
    rendered: list[str] = []

    def render(name: str) -> StatusWrite | None:
        rendered.append(name)
        if name == "bad" and rendered.count("bad") == 1:
            raise LookupError("first")
        target = ApiObject("n", name, name, "1", 1, b"{}")
        return StatusWrite(cast("ApiClient", client), EXPORTERS, target, document)

    schedule = StatusSchedule[str](1000.0)
    writer = StatusWriter(schedule, render)
    for name in ("bad", "good"):
        schedule.offer(name, parts_of(document), 0.0)
    task = asyncio.create_task(writer.run())
    await eventually("both are written", lambda: writer.statistics().written == 2, timeout_s=5)
    assert [path.split("/")[-2] for path in client.paths] == ["good", "bad"]
    assert writer.statistics().failed == 1
    assert "bug in the relay" in caplog.text
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Throttling(Client):
    """Asks for no more writes, for years."""

    async def request(self, method: str, path: str, **_: object) -> bytes:
        self.paths.append(path)
        raise ThrottledError("too many", status=429, retry_after_s=999_999_999)


async def test_a_control_plane_that_throttles_holds_no_other() -> None:
    good, bad = Client(), Throttling()
    document = status_document(object_status())

    def render(name: str) -> StatusWrite | None:
        client = bad if name.startswith("bad") else good
        target = ApiObject("n", name, name, "1", 1, b"{}")
        return StatusWrite(cast("ApiClient", client), EXPORTERS, target, document)

    schedule = StatusSchedule[str](100.0)
    now = 0.0
    writer = StatusWriter(schedule, render, clock=lambda: now)
    for name in ("bad", "good", *(f"bad{number}" for number in range(100)), "good2"):
        schedule.offer(name, parts_of(document), 0.0)
    task = asyncio.create_task(writer.run())

    def both() -> bool:
        nonlocal now
        now += 0.01
        writer.wake()
        return len(good.paths) == 2

    await eventually("the other one's are written", both, timeout_s=5)
    assert len(bad.paths) == 1
    assert writer.statistics().failed == 1
    assert schedule.next_at(now) == pytest.approx(RETRY_AFTER_S_MAX, abs=1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
