"""Usage and limits of projects in a running relay, and a project that is gone."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.app import Relay
from relay.config.exporter.types import ExporterPath
from relay.config.limits.project_limits import LimitSettings, OwnLimits, ProjectLimits
from relay.config.settings.settings import (
    ListenAddress,
    Settings,
    Shutdown,
    Storage,
    TenancySettings,
    Watch,
)
from relay.control.durability.learned_state import encode_knowledge
from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.http.otlp_server import OtlpServer, Reply
from tests.kit.processes import eventually
from tests.kit.remote_write.write_client import WriteClient
from tests.kit.stored_relay import AT_ONCE

PROJECTS = ("acme", "globex")


def write(root: Path, project: str, endpoint: str, *, paused: bool = False) -> None:
    folder = root / project
    folder.mkdir(exist_ok=True)
    (folder / "e.yaml").write_text(
        exporter_yaml("e", endpoint, sink="s", batch={"timeout": "50ms"}, paused=paused)
    )


@asynccontextmanager
async def running(
    root: Path, limits: LimitSettings, storage: Storage | None = None
) -> AsyncIterator[tuple[Relay, WriteClient]]:
    relay = Relay(
        Settings(
            translation=AT_ONCE,
            listen=ListenAddress("127.0.0.1", 0),
            admin_listen=ListenAddress("127.0.0.1", 0),
            tenancy=TenancySettings("tenant"),
            limits=limits,
            exporters=tuple(ExporterPath(root / project, project) for project in PROJECTS),
            allow_private_endpoints=True,
            watch=Watch(enabled=False),
            shutdown=Shutdown(drain_timeout_s=0.2),
            storage=storage,
        )
    )
    await relay.start()
    try:
        address = relay.ingest_address
        async with WriteClient(f"http://{address.host}:{address.port}/api/v1/write") as client:
            yield relay, client
    finally:
        await relay.stop()


def projects_of(relay: Relay) -> dict[str, dict[str, Any]]:
    document: Any = relay.status()
    return {one["project"]: one for one in document["projects"]}


def accepted(relay: Relay, project: str) -> tuple[str, str]:
    """Reason and message of the condition Accepted of the project's exporter."""
    document: Any = relay.status()
    (one,) = [one for one in document["exporters"] if one["name"].startswith(f"{project}/")]
    (found,) = [each for each in one["conditions"] if each["type"] == "Accepted"]
    return found["reason"], found["message"]


def is_over(relay: Relay, points: int) -> bool:
    """Whether answers for so many points were counted, and later looks at memory and queues have
    seen that nothing is left of them: the server knows of them earlier."""
    figures = relay.snapshot()
    is_delivered = sum(one.delivered for one in figures.sinks) == points
    is_stalled = any(one.stalled_s for one in figures.sinks)
    return is_delivered and not is_stalled and not any(figures.memory_bytes.values())


async def send(client: WriteClient, series: int) -> None:
    for project in PROJECTS:
        assert await client.send("up", series=series, labels={"tenant": project}) == 204


async def test_series_above_a_limit_are_refused_for_their_project_alone(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        for project in PROJECTS:
            write(tmp_path, project, server.url)
        limits = LimitSettings(projects=(OwnLimits(series_max=4, project="acme"),))
        async with running(tmp_path, limits) as (relay, client):
            await send(client, 10)
            await send(client, 10)
            found = projects_of(relay)
            acme, globex = found["acme"], found["globex"]
            assert acme["usage"]["activeSeries"] == 4
            assert (acme["refusedSeries"], acme["refusedSamples"]) == (6, 12)
            assert acme["usage"]["samplesPerMinute"] == 8
            assert acme["limits"] == {"maxSeries": 4}
            assert globex["usage"]["activeSeries"] == 10
            assert (globex["refusedSeries"], globex["refusedSamples"]) == (0, 0)
            await eventually("sent", lambda: is_over(relay, 28), timeout_s=20)
            assert len(server.values) == 28
            document: Any = relay.status()
            exporters = {one["name"]: one for one in document["exporters"]}
            (sink,) = exporters["acme/default/e"]["sinks"]
            assert sink["ledger"]["balanced"]
            assert sink["unexported"]["samples"] == 12
            assert {one["reason"] for one in sink["unexported"]["families"]} == {"project_limit"}
            assert sink["usage"]["activeSeries"] == 4
            snapshot = relay.snapshot()
            measured = (await relay.measure()).snapshot()
            assert replace(measured, loop_lag=snapshot.loop_lag) == snapshot, "as in whole facts"
            figures = {one.project: one for one in snapshot.projects}
            assert (figures["acme"].series, figures["acme"].refused_series) == (4, 6)
            assert figures["globex"].samples == 20
            assert figures["globex"].sent_bytes > 0
            await send(client, 10)
            await eventually(
                "said", lambda: accepted(relay, "acme")[0] == "LimitExceeded", timeout_s=40
            )
            assert "4 series, its limit" in accepted(relay, "acme")[1]
            assert accepted(relay, "globex")[0] == "Accepted"


async def test_the_same_series_are_taken_after_a_restart(tmp_path: Path) -> None:
    data = Storage(tmp_path / "data")
    limits = LimitSettings(ProjectLimits(series_max=3))
    async with OtlpServer() as server:
        for project in PROJECTS:
            write(tmp_path, project, server.url)
        names = ["d", "b", "e", "c", "a"]
        for order in (names, sorted(names)):
            del server.taken[:], server.received[:]
            async with running(tmp_path, limits, data) as (relay, client):
                for name in order:
                    assert await client.send(name, series=1, labels={"tenant": "acme"}) == 204
                await eventually(
                    "refused",
                    lambda: "acme" in relay._projects._refusing,  # type: ignore[union-attr]
                    timeout_s=10,
                )
                await eventually("sent", lambda: len(server.values) == 3, timeout_s=5)
            sent = {
                metric.name
                for one in server.received
                for resource in one.message.resource_metrics
                for scope in resource.scope_metrics
                for metric in scope.metrics
            }
            assert sent == {"b", "d", "e"}


async def test_the_queues_of_a_project_share_its_limit(tmp_path: Path) -> None:
    async with OtlpServer(lambda _: Reply(503)) as server:
        for project in PROJECTS:
            write(tmp_path, project, server.url, paused=True)
        limits = LimitSettings(projects=(OwnLimits(queue_bytes_max=1_000, project="acme"),))
        async with running(tmp_path, limits) as (relay, client):
            for _ in range(30):
                await send(client, 20)
            assert relay._reconciler is not None
            workers = {one.exporter_id: one for one in relay._reconciler.workers()}
            acme, globex = workers["acme/default/e"], workers["globex/default/e"]

            def is_cut() -> bool:
                return bool(acme.statistics().ledger.dropped) and acme.queue_bytes <= 1_000

            await eventually("cut", is_cut, timeout_s=10)
            assert set(acme.statistics().ledger.dropped) == {"project_queue_full"}
            assert not globex.statistics().ledger.dropped
            assert not server.received


async def test_a_project_that_is_gone_takes_all_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    data = Storage(tmp_path / "data", orphan_retention_s=0.0)
    async with OtlpServer() as server:
        for project in PROJECTS:
            write(tmp_path, project, server.url)
        async with running(tmp_path, LimitSettings(), data) as (relay, client):
            for project in PROJECTS:
                labels = {"tenant": project, "__type__": "counter"}
                assert await client.send("learned", series=2, labels=labels) == 204
            engine = relay._engine
            assert b"acme" in encode_knowledge(engine.export_metadata())
            assert relay._projects is not None
            await relay._projects.watch.mark()
            await eventually("seen", lambda: "acme" in projects_of(relay), timeout_s=5)
            (tmp_path / "acme" / "e.yaml").unlink()
            await relay.reload()
            await eventually("gone", lambda: relay.facts().usage.forgotten == 1, timeout_s=15)
            knowledge = encode_knowledge(engine.export_metadata())
            assert b"acme" not in knowledge
            assert b"globex" in knowledge
            assert set(projects_of(relay)) == {"globex"}
            assert relay.snapshot().projects_forgotten == 1
    (line,) = [one for one in caplog.records if one.message.startswith("project is gone")]
    assert line.project == "acme"  # type: ignore[attr-defined]
    assert line.families == 1  # type: ignore[attr-defined]


async def test_an_exporter_too_many_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        for project in PROJECTS:
            write(tmp_path, project, server.url)
        more = (tmp_path / "acme" / "e.yaml").read_text().replace("name: e\n", "name: f\n", 1)
        (tmp_path / "acme" / "f.yaml").write_text(more)
        limits = LimitSettings(ProjectLimits(exporters_max=1))
        async with running(tmp_path, limits) as (relay, _):
            document: Any = relay.status()
            assert [one["name"] for one in document["exporters"]] == [
                "acme/default/e",
                "globex/default/e",
            ]
            (refused,) = document["notRunning"]
            conditions = {one["type"]: one for one in refused["conditions"]}
            assert conditions["Accepted"]["status"] == "False"
            assert conditions["Accepted"]["reason"] == "LimitExceeded"
            assert "2 exporters, at most 1" in conditions["Accepted"]["message"]
            assert projects_of(relay)["acme"]["exporters"] == 1
