"""``relay top`` against a running relay: once where nobody looks, refreshed on a terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from pathlib import Path

import pytest

from relay.cli import main
from tests.integration.cli.test_test_command import relay_with
from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.http.otlp_server import OtlpServer, Reply
from tests.kit.remote_write.write_client import WriteClient
from tests.own_time import patience


async def test_it_prints_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with OtlpServer() as good, OtlpServer(lambda _: Reply(401, b"who?")) as bad:
        texts = [exporter_yaml("good", good.url), exporter_yaml("wrong", bad.url)]
        async with relay_with(tmp_path, *texts) as relay:
            async with WriteClient(f"http://{relay.ingest_address}/api/v1/write") as client:
                await client.send(series=10)
            arguments = ["top", "--relay", f"http://{relay.admin_address}", "--interval", "0.2"]
            for _ in range(300):
                assert await asyncio.to_thread(main.main, arguments) == 0
                lines = capsys.readouterr().out.splitlines()
                if "1 healthy, 1 paused" in lines[1]:
                    break
                await asyncio.sleep(0.1)
            names = [line.strip() for line in lines if line.startswith("  default/")]
            assert names == ["default/wrong", "default/good"]
            assert lines[1] == "  2 exporters; sinks: 1 healthy, 1 paused"
            assert lines[2] == "  received 10 samples of 10 series, 0 selected by none"
            assert any("HTTP 401 Unauthorized: who?" in line for line in lines)
            status = await asyncio.to_thread(main.main, [*arguments, "--state", "healthy"])
            assert status == 0
            out = capsys.readouterr().out
            assert "default/good" in out
            assert "default/wrong" not in out


async def test_it_refreshes_on_a_terminal(tmp_path: Path) -> None:
    async with OtlpServer() as good, relay_with(tmp_path, exporter_yaml("a", good.url)) as relay:
        reader, writer = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", "top", "--relay", f"http://{relay.admin_address}"),
            *("--interval", "0.1"),
            stdout=writer,
        )
        os.close(writer)
        out = b""
        async with patience(20):
            while out.count(b"\x1b[J") < 2:
                out += await asyncio.to_thread(os.read, reader, 4096)
        process.send_signal(2)
        assert await process.wait() == 0
        os.close(reader)
        assert out.count(b"default/a") >= 2


async def test_a_relay_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    status = await asyncio.to_thread(main.main, ["top", "--relay", "http://127.0.0.1:1"])
    assert status == 1
    assert "does not answer" in capsys.readouterr().err
