"""A bug in rendering one status costs no other object its write."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from relay.control.kubernetes.client import ApiClient
from relay.control.kubernetes.objects import ApiObject, ApiResource
from relay.control.kubernetes.status_body import parts_of, status_document
from relay.control.kubernetes.status_schedule import StatusSchedule
from relay.control.kubernetes.status_writer import StatusWrite, StatusWriter
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
