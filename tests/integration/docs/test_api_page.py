"""docs/api.md from top to bottom: its files are good, and its commands do what it shows."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest
import yaml

from bench import newest
from relay.config.settings.settings import load_settings
from tests.kit.documents import ROOT, all_blocks, commands, matches
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.kubernetes.relays import Load
from tests.kit.processes import binary, free_port, relay
from tests.own_time import patience

PAGE = ROOT / "docs/api.md"
FILES = {
    found[1]: block.text
    for block in all_blocks("text")
    if block.path == PAGE and (found := re.match(r"# (\S+)\n", block.text))
}
COMMANDS = [one for one in commands() if one.block.path == PAGE]
WRITTEN = ("relay.yaml", "tokens.yaml", "exporter.yaml", "preview.yaml", "why.yaml")
RUN = "relay run --config relay.yaml"
ADDRESS = re.compile(r"127\.0\.0\.1:(949\d)")
TIMEOUT_S = 60.0


def test_all_files_are_known() -> None:
    assert FILES.keys() == {*WRITTEN, "oidc.yaml"}
    assert [one.text for one in COMMANDS].count(RUN) == 1


def test_settings_of_an_issuer_are_good(tmp_path: Path) -> None:
    (tmp_path / "oidc.yaml").write_text(FILES["oidc.yaml"])
    api = load_settings(tmp_path / "oidc.yaml").api
    assert api is not None
    assert api.authentication.oidc is not None


class Reader:
    """Types what the page says, in one folder, with ports that are free."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self._folder = folder
        self._ports: dict[str, int] = {}
        self._exported: list[str] = []
        (folder / "bin").mkdir()
        self._path = f"{folder / 'bin'}:{os.environ['PATH']}"
        (folder / "bin/kubectl").symlink_to(newest.binary("kubectl-1.37"))
        relays = folder / "bin/relay"
        relays.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m relay "$@"\n')
        relays.chmod(0o755)
        for name in WRITTEN:
            text = self.local(FILES[name]).replace("https://otlp.example.com", endpoint)
            if name == "relay.yaml":
                text += "allowPrivateEndpoints: true\n"  # the endpoint of the test is here
            (folder / name).write_text(text)

    def local(self, text: str) -> str:
        """Return a text of the page with ports of this run."""
        return ADDRESS.sub(lambda found: f"127.0.0.1:{self._port(found[1])}", text)

    def _port(self, shown: str) -> int:
        return self._ports.setdefault(shown, free_port())

    async def types(self, text: str) -> str:
        """Run a command; return what it writes. It must succeed."""
        if text.startswith("export "):
            self._exported.append(self.local(text))
        script = "\n".join([*self._exported, self.local(text)])
        process = await asyncio.create_subprocess_exec(
            *("sh", "-ec", script),
            cwd=self._folder,
            env={"PATH": self._path, "HOME": str(self._folder), "PYTHONPATH": str(ROOT)},
            stdout=PIPE,
            stderr=STDOUT,
        )
        async with patience(TIMEOUT_S):
            said, _ = await process.communicate()
        assert process.returncode == 0, f"{text}: {said.decode()}"
        return said.decode()

    async def follows(self, first: int, last: int) -> None:
        """Run some of the page's commands, and compare what they write."""
        for one in COMMANDS[first:last]:
            said = await self.types(one.text)
            if not said.endswith("\n"):
                said += "\n"
            assert not one.output or matches(one.output, said), f"{one.text}: {said}"


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.newest
async def test_the_page_can_be_followed(tmp_path: Path) -> None:
    assert binary("curl", "curl")
    start = [one.text for one in COMMANDS].index(RUN)
    place = tmp_path / "reader"
    place.mkdir()
    async with OtlpServer() as server:
        reader = Reader(place, server.origin)
        await reader.follows(0, start)
        config = str(place / "relay.yaml")
        async with relay(tmp_path, "--config", config) as (process, url, _):
            async with Load(url, project="acme").running():
                await reader.follows(start + 1, len(COMMANDS))
            assert server.taken[0].headers["Authorization"] == "Bearer a-token-that-opens-nothing"
            assert "audit" in process.text()
            assert "a-token-of-jane-of-acme" not in process.text()
            await process.stop()
        # The key was rotated on the way: what the old one encrypted is there.
        keys = (place / "api.keys").read_text().split()
        assert [len(base64.b64decode(key)) for key in keys] == [32, 32]
        async with relay(tmp_path, "--config", config):
            found = yaml.safe_load(await reader.types("kubectl get secret collector -o yaml"))
            assert found["metadata"]["annotations"] == {"owner": "jane"}
        (place / "api.keys").write_text(f"{keys[0]}\n")
        async with relay(tmp_path, "--config", config):
            assert "collector" in await reader.types("kubectl get secrets")
    stored = (place / "data/api.db").read_bytes()
    assert b"a-token-that-opens-nothing" not in stored
