"""Examples in the documents that start a relay, or ask a running one."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.kit.documents import ROOT, Block, Command, all_blocks, commands, is_live, workspace
from tests.kit.processes import relay

ADMIN = "http://127.0.0.1:9491"
"""What stands in the documents for the address of a running relay."""

STARTS = [one for one in commands() if is_live(one) and one.text.startswith("relay run ")]
ASKS = [one for one in commands() if is_live(one) and one not in STARTS]
PROGRAMS = all_blocks("python")


def named(command: Command) -> str:
    return f"{command.block.name} {command.text[:40]}"


@pytest.mark.parametrize("command", STARTS, ids=named)
async def test_a_relay_starts_and_stops(command: Command, tmp_path: Path) -> None:
    place = tmp_path / "workspace"
    place.mkdir()
    workspace(place)
    # Paths are relative to where the reader stands; processes run elsewhere.
    words = [
        str(place / one) if (place / one).exists() else one for one in shlex.split(command.text)
    ]
    words = [str(place / "data") if one == "data" else one for one in words]
    async with relay(tmp_path, *words[2:]) as (process, _, _):
        assert await process.stop() == 0, process.text()


@pytest.mark.parametrize("command", ASKS, ids=named)
async def test_a_running_relay_answers(command: Command, tmp_path: Path) -> None:
    place = tmp_path / "workspace"
    place.mkdir()
    workspace(place)
    exporter, secrets = str(place / "gateway-exporter.yaml"), str(place / "secrets")
    async with relay(tmp_path, "--exporters", exporter, "--secrets", secrets) as (_, _, admin):
        words = shlex.split(command.text.replace(ADMIN, admin))
        if words[0] == "curl":
            (url,) = [one for one in words if urlsplit(one).scheme]
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                assert answer.status == 200, await answer.text()
            return
        status, said = await python("-m", *words, cwd=place)
    assert status == 0, said


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: block.name)
async def test_a_program_runs(block: Block, tmp_path: Path) -> None:
    place = tmp_path / "workspace"
    place.mkdir()
    workspace(place)
    exporter, secrets = str(place / "gateway-exporter.yaml"), str(place / "secrets")
    async with relay(tmp_path, "--exporters", exporter, "--secrets", secrets) as (_, write, admin):
        port = urlsplit(write).port
        text = block.text.replace(ADMIN, admin).replace("127.0.0.1:9490", f"127.0.0.1:{port}")
        status, said = await python("-c", text, cwd=place)
    assert status == 0, said


async def python(*arguments: str, cwd: Path) -> tuple[int | None, str]:
    """Run this Python in a directory; return its exit status and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


def test_there_are_examples() -> None:
    assert STARTS
    assert ASKS
    assert PROGRAMS
    assert all(re.search(r"127\.0\.0\.1:949[01]", one.text) for one in PROGRAMS)
    assert ROOT.is_dir()
