"""The process as operators run it: start-up, signals, logs, exit status."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from relay.cli import main
from tests.kit.exporter_yaml import exporter_yaml, secret_yaml
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.processes import (
    ROOT,
    at_once,
    eventually,
    free_port,
    get_json,
    get_metrics,
    relay,
    started,
)
from tests.kit.remote_write.write_client import WriteClient

pytestmark = pytest.mark.slow

SEED = (ROOT / "tests/data/seed/exporter-mvp.yaml").read_text()
TOKEN = "glc-0123456789abcdef-secret"

SECRET = secret_yaml("token", {"token": TOKEN})


def manifest(server: OtlpServer, *, name: str = "all", timeout: str = "100ms") -> str:
    access = {"type": "bearerToken", "secretRef": {"name": "token", "key": "token"}}
    return exporter_yaml(
        name, server.url, otlp_http={"authentication": access}, batch={"timeout": timeout}
    )


async def test_sigterm_sends_what_is_left_before_it_stops(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        path = tmp_path / "exporters.yaml"
        path.write_text(SECRET + manifest(server, timeout="10m"))
        async with (
            relay(tmp_path, "--exporters", str(path), "--log-format", "json") as (process, url, _),
            WriteClient(url) as client,
        ):
            assert await client.send(series=123) == 204
            assert await process.stop(signal.SIGTERM) == 0
        assert len(server.values) == 123
        assert server.taken[0].headers["Authorization"] == f"Bearer {TOKEN}"
        records = [json.loads(line) for line in process.text().splitlines()]
        messages = [record["msg"] for record in records if record["level"] == "info"]
        assert messages == ["relay started", "relay stopped"], records
        assert TOKEN not in process.text()


async def test_a_refused_token_is_never_shown(tmp_path: Path) -> None:
    def refuse(received: Received) -> Reply:
        return Reply(401, f"who is {received.headers['Authorization']}?".encode())

    async with OtlpServer(refuse) as server:
        path = tmp_path / "exporters.yaml"
        path.write_text(SECRET + manifest(server))
        async with (
            relay(tmp_path, "--exporters", str(path), "--log-level", "debug") as running,
            WriteClient(running[1]) as client,
        ):
            process, _, admin = running
            await client.send()
            await eventually(
                "the log says that the sink is paused",
                lambda: "paused" in process.text(),
                timeout_s=10,
            )
            status = json.dumps(await get_json(f"{admin}/status"))
            assert "401" in status
            assert TOKEN not in status
        assert TOKEN not in process.text()


async def test_sighup_applies_what_changed_and_nothing_else(tmp_path: Path) -> None:
    async with OtlpServer() as first, OtlpServer() as second:
        path = tmp_path / "exporters.yaml"
        path.write_text(SECRET + manifest(first, timeout="10m"))
        async with (
            relay(tmp_path, *at_once(tmp_path), "--exporters", str(path)) as (process, url, admin),
            WriteClient(url) as client,
        ):
            await client.send(series=10)

            async def routed() -> bool:
                (exporter,) = (await get_json(f"{admin}/status"))["exporters"]
                return exporter["sinks"][0]["ledger"]["matched"] == 10

            await eventually("nothing waits at first sight", routed, timeout_s=10)
            path.write_text(
                SECRET + manifest(first, timeout="10m") + manifest(second, name="second")
            )
            process.send_signal(signal.SIGHUP)

            async def two_exporters() -> bool:
                return len((await get_json(f"{admin}/status"))["exporters"]) == 2

            await eventually("the second exporter runs", two_exporters, timeout_s=10)
            await client.send(series=10)
            await second.wait_until(lambda: len(second.values) == 10)
            assert first.received == [], "its open batch is not due and was not touched"
            metrics = await get_metrics(f"{admin}/metrics")
            matched = 'relay_matched_samples_total{exporter="default/all",source="all"}'
            assert metrics[matched] == 20
            # A faulty edit leaves the last good version running.
            path.write_text(
                SECRET + manifest(first, timeout="soon") + manifest(second, name="second")
            )
            process.send_signal(signal.SIGHUP)

            async def fault_is_shown() -> bool:
                return bool((await get_json(f"{admin}/status"))["faults"])

            await eventually("the fault is reported", fault_is_shown, timeout_s=10)
            await client.send(series=10)
            await second.wait_until(lambda: len(second.values) == 20)
            assert await process.stop() == 0
        assert len(first.values) == 30


@pytest.mark.parametrize("how", ["the default configuration", "an empty directory"])
async def test_without_an_exporter_it_runs_exports_nothing_and_says_so(
    tmp_path: Path, how: str
) -> None:
    (tmp_path / "empty").mkdir()
    arguments = {
        "the default configuration": ("--config", "config/relay.yaml"),
        "an empty directory": ("--exporters", str(tmp_path / "empty")),
    }[how]
    async with (
        relay(tmp_path, *arguments) as (process, url, admin),
        WriteClient(url) as client,
    ):
        await client.send(series=3)
        status = await get_json(f"{admin}/status")
        assert (status["exporters"], status["faults"]) == ([], [])
        (said,) = [line for line in process.text().splitlines() if "WARNING" in line.upper()]
        assert "nothing" in said
        assert await process.stop() == 0


async def test_a_faulty_exporter_among_good_ones_is_left_out(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        path = tmp_path / "exporters.yaml"
        path.write_text(SECRET + manifest(server) + manifest(server, name="bad", timeout="soon"))
        async with (
            relay(tmp_path, "--exporters", str(path)) as (process, url, admin),
            WriteClient(url) as client,
        ):
            await client.send(series=7)
            await server.wait_until(lambda: len(server.values) == 7)
            status = await get_json(f"{admin}/status")
            assert [exporter["name"] for exporter in status["exporters"]] == ["default/all"]
            assert [fault["path"] for fault in status["faults"]] == ["spec.sinks[0].batch.timeout"]
            assert "spec.sinks[0].batch.timeout" in process.text()


@pytest.mark.parametrize(
    ("settings", "complaints"),
    [
        ("listne: 127.0.0.1:0\nlogg: {}\n", ["listne", "listen", "logg"]),
        ("storage: {path: relay.yaml}\n", ["storage.path"]),
        ("exporters: [{path: missing.yaml}]\n", ["missing.yaml"]),
        ("listen: 192.0.2.1:9490\n", ["listen", "192.0.2.1:9490"]),
    ],
)
async def test_start_up_fails_fast_with_every_fault(
    tmp_path: Path, settings: str, complaints: list[str]
) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(settings)
    command = [sys.executable, "-m", "relay", "run", "--config", str(path)]
    command += ["--admin-listen", f"127.0.0.1:{free_port()}"]
    async with started(command, log=tmp_path / "log") as process:
        assert await process.wait() == 1
    for complaint in complaints:
        assert complaint in process.text()
    assert "Traceback" not in process.text()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["version"], 0),
        (["check", "config/examples"], 0),
        (["check", "tests/data/exporters/bad"], 1),
        (["check"], 2),
        (["run", "--no-such-flag"], 2),
        (["explain", "--exporters", "config/examples", "up{job="], 1),
        (["explain", "--exporters", "config/examples", 'up{job="x"}'], 0),
    ],
)
async def test_exit_status(tmp_path: Path, arguments: list[str], status: int) -> None:
    async with started(
        [sys.executable, "-m", "relay", *arguments], log=tmp_path / "log"
    ) as process:
        assert await process.wait() == status, process.text()
    assert "Traceback" not in process.text()


async def test_the_proposals_own_exporter_runs_verbatim(tmp_path: Path) -> None:
    """Only the endpoint is supplied, and the secret: typographic quotes and all."""
    async with OtlpServer() as server:
        endpoint = "https://otlp-gateway-prod-eu-west-0.grafana.net/otlp"
        assert endpoint in SEED
        (tmp_path / "exporter.yaml").write_text(
            SEED.replace(endpoint, server.url.removesuffix("/v1/metrics") + "/otlp")
        )
        mounted = tmp_path / "secrets" / "grafana-api-key"
        mounted.mkdir(parents=True)
        (mounted / "token").write_text(TOKEN + "\n")
        async with (
            relay(
                tmp_path,
                "--exporters",
                str(tmp_path / "exporter.yaml"),
                "--secrets",
                str(tmp_path / "secrets"),
            ) as (process, url, _),
            WriteClient(url) as client,
        ):
            labels = {"service_name": "networking.datumapis.com", "resource_kind": "Gateway"}
            assert await client.send("network_bytes_total", series=500, labels=labels) == 204
            assert await client.send("network_bytes_total", series=3) == 204
            await server.wait_until(lambda: len(server.values) == 500)
            assert server.taken[0].path == "/otlp/v1/metrics"
            assert server.taken[0].headers["Authorization"] == f"Bearer {TOKEN}"
            assert re.search(r"typographic|quote", process.text())


async def test_version_names_the_build(tmp_path: Path) -> None:
    async with started([sys.executable, "-m", "relay", "version"], log=tmp_path / "log") as process:
        assert await process.wait() == 0
    pattern = r"relay \d+\.\d+\.\d+ \(compiled, Python .*\)\n"
    assert re.fullmatch(pattern, process.text())


async def test_a_second_signal_does_not_wait_for_the_drain(tmp_path: Path) -> None:
    async with OtlpServer(lambda _: Reply(503)) as server:
        path = tmp_path / "exporters.yaml"
        path.write_text(SECRET + manifest(server))
        async with (
            relay(tmp_path, "--exporters", str(path)) as (process, url, _),
            WriteClient(url) as client,
        ):
            await client.send()
            await server.wait_until(lambda: bool(server.received))
            process.send_signal(signal.SIGTERM)
            await eventually(
                "the relay does not listen any more",
                lambda: _refuses(url),
                timeout_s=10,
            )
            await asyncio.sleep(2 * main.SIGNAL_REPEAT_S)  # only then it is a second wish
            assert await process.stop(signal.SIGTERM, timeout_s=5) == 128 + signal.SIGTERM
        assert "asked to stop twice" in process.text()


async def test_two_signals_in_the_same_instant_are_one_wish(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        path = tmp_path / "exporters.yaml"
        path.write_text(SECRET + manifest(server))
        async with (
            relay(tmp_path, "--exporters", str(path)) as (process, url, _),
            WriteClient(url) as client,
        ):
            await client.send(series=3)
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
            assert len(server.values) == 3
        assert "asked to stop twice" not in process.text()


async def test_a_reason_not_to_start_is_json_where_the_log_is(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text("exporters: [{path: missing.yaml}]\n")
    command = [sys.executable, "-m", "relay", "run", "--config", str(path)]
    command += ["--log-format", "json", "--admin-listen", f"127.0.0.1:{free_port()}"]
    async with started(command, log=tmp_path / "log") as process:
        assert await process.wait() == 1
    lines = [json.loads(line) for line in process.text().splitlines()]
    assert "missing.yaml" in lines[0]["msg"]
    assert lines[0]["level"] == "error"
    assert not any(line["msg"] == "relay stopped" for line in lines)


async def test_a_faulty_flag_is_wrong_use(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "relay", "run", "--listen", "9490x"]
    async with started(command, log=tmp_path / "log") as process:
        assert await process.wait() == 2
    assert "--listen" in process.text()


async def _refuses(url: str) -> bool:
    try:
        async with WriteClient(url) as client:
            await client.send()
    except aiohttp.ClientConnectionError:
        return True
    return False
