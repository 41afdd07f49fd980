"""``relay check``, ``explain``, ``preview``, ``test``, ``tap`` and ``top`` over the own API."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.kit.apiserver.running import EDITOR, VIEWER
from tests.kit.apiserver.whole_relay import NEIGHBOUR, SECRET, exporter_text, projects_relay
from tests.kit.kubernetes.kubectl import VERSIONS, Said
from tests.own_time import patience

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]


async def command(*words: str) -> Said:
    """Run a command of the relay."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with patience(90):
        out, errors = await process.communicate()
    assert process.returncode is not None
    return Said(process.returncode, out.decode(), errors.decode())


async def test_commands(tmp_path: Path) -> None:
    async with projects_relay(tmp_path, admin={"tap": True}) as found:
        kubectl = await found.kubectl(EDITOR, VERSIONS[-1])
        await kubectl.apply(SECRET, exporter_text("acme", found.server.origin))
        await kubectl("wait", "--for=condition=Delivering", "exporter/acme", "--timeout=60s")
        editor = ("--kubeconfig", str(await found.kubeconfig(EDITOR)))
        viewer = ("--kubeconfig", str(await found.kubeconfig(VIEWER)))

        said = await command("check", *viewer)
        assert said.status == 0, said
        assert "acme" in said.out
        assert "secretive" not in said.out

        for one in (("--exporter", "acme"), ("--exporter", "default/acme")):
            said = await command("preview", *viewer, "--measure", "0", *one)
            assert said.status == 0, said
            assert said.out.startswith("acme/default/acme takes 10 of 10 series now\n")
        edited = tmp_path / "edited.yaml"
        edited.write_text(
            exporter_text("acme", found.server.origin).replace("numbered", "numbered_not")
        )
        said = await command("preview", *viewer, "--measure", "0", str(edited))
        assert said.status == 0, said
        assert "takes 0 of 10 series now" in said.out
        assert "  10 fewer than its running version\n" in said.out
        said = await command("preview", *viewer, "--measure", "20", "--exporter", "acme")
        assert "samples a minute: estimated from arrivals in" in said.out, said
        said = await command("preview", *viewer, "--exporter", "none")
        assert said.status == 1
        assert 'spec.exporter: Not found: "none"' in said.errors
        # The admin listener counts it where that is asked for, with the object of the API.
        words = ("--relay", found.admin, "--project", "acme", "--measure", "0")
        said = await command("preview", *viewer, *words, "--exporter", "default/acme")
        assert said.out.startswith("acme/default/acme takes 10 of 10 series now\n"), said

        said = await command("test", *editor, "--exporter", "acme")
        assert said.status == 0, said
        assert "ok   credentials " in said.out
        assert "bearerToken from Secret tok" in said.out
        assert "good: delivered: HTTP 200" in said.out
        tests = [
            one for one in found.server.received if one.headers["Authorization"] != "Bearer s3cret"
        ]
        assert tests == []
        said = await command("test", *viewer, "--exporter", "acme")
        assert said.status == 1
        assert "forbidden" in said.errors

        for words in (("--kubernetes", *viewer), viewer):
            said = await command("explain", *words, 'numbered{n="1"}')
            assert said.status == 0, said
            assert said.out.startswith("acme/default/acme\n  yes: source some takes it")
            assert "secretive" not in said.out
        said = await command("explain", *viewer, "--exporter", "acme", "other")
        assert "  no: source some\n" in said.out
        said = await command("explain", *viewer, 'numbered{tenant="globex"}')
        assert said.status == 1
        assert "names another project" in said.errors
        other = ("--kubeconfig", str(await found.kubeconfig(NEIGHBOUR, "globex")))
        said = await command("explain", *other, "numbered")
        assert "acme" not in said.out

        said = await command("top", "--relay", found.admin, "--once", "--project", "acme")
        assert "acme/default/acme" in said.out
        said = await command("tap", "--relay", found.admin, "acme/default/acme", "--points", "3")
        assert said.status == 0, said
        assert said.out.splitlines()[-1].startswith("3 shown of ")


async def test_ways_to_ask(tmp_path: Path) -> None:
    said = await command("explain", "up")
    assert said.status == 2
    assert "--relay: or --config, --exporters or --kubernetes is required" in said.errors
    said = await command("explain", "--relay", "http://x", "--kubeconfig", "x", "up")
    assert said.status == 2
    assert "--kubernetes: does not go with --relay" in said.errors
    said = await command("explain", "--kubeconfig", str(tmp_path / "none"), "up")
    assert said.status == 1
    assert "cannot be read" in said.errors
