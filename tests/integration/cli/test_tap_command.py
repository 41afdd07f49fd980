"""``relay tap`` of a running relay: every kind of sink, what is allowed, bounds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from relay.app import Relay
from relay.cli import main
from tests.integration.cli import test_test_command
from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.http.remote_write_server import RemoteWriteServer
from tests.kit.remote_write.write_client import WriteClient

NOT_SHOWN = "another_customers_metric"
FAST = {"timeout": "50ms"}


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        test_test_command, "SETTINGS", f"{test_test_command.SETTINGS}admin: {{tap: true}}\n"
    )


async def lines_of(
    relay: Relay, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, list[str], str]:
    """Exit status, lines and errors of a tap, while the relay is sent samples."""
    url = f"http://{relay.admin_address}"
    tap = asyncio.create_task(asyncio.to_thread(main.main, ["tap", "--relay", url, *arguments]))
    async with WriteClient(f"http://{relay.ingest_address}/api/v1/write") as client:
        while not tap.done():
            await client.send(series=3, labels={"zone": "a b"})
            await client.send(NOT_SHOWN, series=3)
            await asyncio.sleep(0.02)
    printed = capsys.readouterr()
    return tap.result(), printed.out.splitlines(), printed.err


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("version", ["", "1.0", "2.0"])
async def test_points_are_shown_as_they_are_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    async with OtlpServer() as otlp, RemoteWriteServer() as written:
        endpoint = written.origin if version else otlp.url
        query = '{__name__="requests_total"}'
        text = exporter_yaml("a", endpoint, metrics=query, version=version, batch=FAST)
        async with test_test_command.relay_with(tmp_path, text) as relay:
            status, lines, _ = await lines_of(relay, capsys, "default/a", "--points", "5")
            (report,) = relay.facts().sinks
            assert report.ledger.dropped == {}
    assert status == 0
    *points, end = lines
    assert len(points) == 5
    assert end.startswith("5 shown of ")
    assert not any(NOT_SHOWN in line for line in lines)
    assert " requests_total{" in points[0]
    for line in points:
        assert 'zone="a b"' in line
        assert line[:2] == "20"
    if version:
        assert all(line.endswith("(sample)") for line in points)
        assert otlp.received == []
    else:
        assert all('="api"' in line.partition(" of ")[2] for line in points)


@pytest.mark.usefixtures("allowed")
async def test_a_tap_of_a_sink_that_gets_nothing_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = exporter_yaml("a", "http://127.0.0.1:1", metrics='{__name__="other"}', batch=FAST)
    async with test_test_command.relay_with(tmp_path, text) as relay:
        status, lines, _ = await lines_of(relay, capsys, "default/a", "--seconds", "1")
    assert (status, lines) == (
        0,
        ["0 shown of 0 points in 0 batches", "nothing was handed to the sink meanwhile"],
    )


async def test_it_must_be_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with (
        OtlpServer() as server,
        test_test_command.relay_with(tmp_path, exporter_yaml("a", server.url)) as relay,
    ):
        status, lines, err = await lines_of(relay, capsys, "default/a")
    assert (status, lines) == (1, [])
    assert "admin.tap: is false: the operator does not allow taps of live data" in err


@pytest.fixture
async def session(tmp_path: Path, allowed: None) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        OtlpServer() as server,
        test_test_command.relay_with(tmp_path, exporter_yaml("a", server.url)) as relay,
        aiohttp.ClientSession(f"http://{relay.admin_address}") as session,
    ):
        yield session


async def test_a_tap_ends_at_its_time(session: aiohttp.ClientSession) -> None:
    async with session.get("/tap?exporter=default/a&seconds=1") as answer:
        events = [json.loads(line) async for line in answer.content]
    assert events == [{"event": "end", "batches": 0, "points": 0, "shown": 0, "unit": "points"}]


async def test_a_sink_has_one_tap(session: aiohttp.ClientSession) -> None:
    first = await session.get("/tap?exporter=default/a&seconds=1")
    async with session.get("/tap?exporter=default/a&seconds=1") as second:
        assert second.status == 429
        assert await second.text() == "sink endpoint has a tap already\n"
    await first.read()
    async with session.get("/tap?exporter=default/a&seconds=1") as third:
        assert third.status == 200


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("exporter=default/b", "exporter: there is no exporter default/b; there are default/a\n"),
        ("exporter=default/a&sink=x", "sink: there is no sink x; default/a has endpoint\n"),
        ("exporter=default/a&seconds=61", "seconds: must be from 1 to 60\n"),
        ("exporter=default/a&seconds=x", "seconds: must be a whole number, such as 30\n"),
        ("exporter=default/a&points=1001", "points: must be from 1 to 1000\n"),
    ],
)
async def test_what_cannot_be_tapped(
    session: aiohttp.ClientSession, query: str, message: str
) -> None:
    async with session.get(f"/tap?{query}") as answer:
        assert (answer.status, await answer.text()) == (400, message)
