"""The API of ``relay demo``: an Exporter by kubectl and by curl, as README and the demo say."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import stat
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from bench import newest
from tests.kit.documents import ROOT, commands
from tests.kit.kubernetes.kubectl import AGAIN_S, VERSIONS
from tests.kit.processes import binary
from tests.own_time import patience

pytestmark = [pytest.mark.slow]

CHECKOUT = ("Makefile", "pyproject.toml", "requirements", "relay")
TOLD = "Give hooli an Exporter"
OF_MAKE = frozenset({"ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"})
TIMEOUT_S = 60.0


def checkout(folder: Path) -> None:
    """Copy what ``make demo`` needs; the environment is the one that runs the tests."""
    for name in CHECKOUT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (folder / ".venv/.run").touch()


def programs(folder: Path, found: Mapping[str, str]) -> str:
    """Return a PATH with these programs and those of a shell, and no other kubectl."""
    folder.mkdir()
    shell = {name: binary(name, "coreutils") for name in ("sh", "make", "sed", "cat")}
    for name, path in {**shell, **found}.items():
        (folder / name).symlink_to(path)
    return str(folder)


@asynccontextmanager
async def running(
    place: Path, path: str, *command: str, python_path: str = ""
) -> AsyncIterator[tuple[Process, list[str]]]:
    """Run a demo in a folder until the block ends, by Ctrl-C; give what it prints before."""
    # What `make test` was called with is not for the make that is called here.
    environment = {name: text for name, text in os.environ.items() if name not in OF_MAKE}
    environment |= {"PATH": path, "PYTHONPATH": python_path, "PYTHONUNBUFFERED": "1"}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=place, env=environment, stdout=PIPE, stderr=STDOUT, start_new_session=True
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        async with patience(TIMEOUT_S):
            while not lines or not lines[-1].startswith("-- 00:"):
                line = (await process.stdout.readline()).decode()
                assert line, "".join(lines)
                lines.append(line)
        yield process, lines
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGINT)
            async with patience(TIMEOUT_S):
                rest, _ = await process.communicate()
            lines += rest.decode().splitlines(keepends=True)


async def shell(place: Path, path: str, script: str) -> str:
    """Run a script in a folder; return what it writes. It must succeed."""
    environment = {"PATH": path, "HOME": str(place / "home")}
    process = await asyncio.create_subprocess_exec(
        "sh", "-ec", script, cwd=place, env=environment, stdout=PIPE, stderr=STDOUT
    )
    async with patience(TIMEOUT_S):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


def suggested(lines: list[str]) -> str:
    """The commands that a demo says to type in another terminal."""
    text = "".join(lines).partition(TOLD)[2].partition("\n")[2].partition("\n-- ")[0]
    return "".join(line for line in text.splitlines(keepends=True) if line.startswith("  "))


def ends_well(lines: list[str]) -> None:
    """The ledger balances, with what was written through the API."""
    out = "".join(lines)
    assert "Balanced." in out, out
    ledger = out[out.index("-- ledger") :]
    assert re.search(
        r"hooli/default/gateways\n ok observatory +[1-9].*\n ok   its endpoint", ledger
    )


@pytest.mark.real
@pytest.mark.newest
@pytest.mark.parametrize("version", VERSIONS)
async def test_five_commands_lead_to_an_exporter_that_delivers(
    tmp_path: Path, version: str
) -> None:
    demo, *rest = commands_of_readme()
    assert (demo, len(rest)) == ("make demo", 4)
    place = tmp_path / "checkout"
    place.mkdir()
    checkout(place)
    path = programs(tmp_path / "bin", {"kubectl": str(newest.binary(version))})
    async with running(place, path, "make", "demo") as (_, lines):
        said = await shell(place, path, "\n".join(rest))
        assert "exporter.telemetry.datumapis.com/gateways condition met" in said
        assert re.search(r"Delivered: +[1-9]", said)
        # Events are written behind all else.
        again = "\n".join([rest[0], rest[-1]])
        await shows(place, path, again, "telemetry-relay  observatory: data is delivered")
        assert suggested(lines).split() == "\n".join(rest).split(), "the demo says the same"
    ends_well(lines)


def commands_of_readme() -> list[str]:
    """README's block in which kubectl is set up."""
    blocks = {one.block for one in commands() if one.text.startswith("export KUBECONFIG=")}
    (block,) = [one for one in blocks if one.path.name == "README.md"]
    return [one.text for one in commands() if one.block == block]


@pytest.mark.real
async def test_without_kubectl_it_says_how_curl_does_it(tmp_path: Path) -> None:
    path = programs(tmp_path / "bin", {"curl": binary("curl", "curl")})
    command = (sys.executable, "-m", "relay", "demo", "--directory", "there")
    async with running(tmp_path, path, *command, python_path=str(ROOT)) as (_, lines):
        script = suggested(lines)
        assert "kubectl" not in script
        said = await shell(tmp_path, path, script)
        assert '"observatory"' in said
        await delivers(tmp_path, path, script)
    ends_well(lines)


async def delivers(place: Path, path: str, script: str) -> None:
    """Ask for the status, as the last command does, until it says that data is delivered."""
    settings = [line for line in script.splitlines() if re.match(r"  [A-Z]+=", line)]
    ask = "\n".join(script.splitlines()[-2:])
    async with patience(TIMEOUT_S):
        while True:
            said = await shell(place, path, "\n".join([*settings, ask]))
            conditions = yaml.safe_load(said).get("status", {}).get("conditions", [])
            if ("Delivering", "True") in {(one["type"], one["status"]) for one in conditions}:
                return
            await asyncio.sleep(AGAIN_S)


async def edited(place: Path, path: str, old: str, new: str) -> str:
    """Apply hooli's Exporter with another line; return what kubectl says, refusals as well."""
    script = f"sed 's|{old}.*|{new}|' hooli/exporter.yaml | kubectl apply -f - 2>&1 || true"
    return await shell(place, path, f"export KUBECONFIG=hooli.kubeconfig\n{script}")


async def shows(place: Path, path: str, script: str, text: str) -> None:
    """Run a script until it writes a text."""
    said = ""
    try:
        async with patience(TIMEOUT_S):
            while True:
                said = await shell(place, path, f"export KUBECONFIG=hooli.kubeconfig\n{script}")
                if text in said:
                    return
                await asyncio.sleep(AGAIN_S)
    except TimeoutError:
        raise AssertionError(f"{text!r} is not in {said}") from None


@pytest.mark.real
@pytest.mark.newest
async def test_what_a_reader_breaks_is_told_and_does_not_spoil_the_ledger(tmp_path: Path) -> None:
    path = programs(tmp_path / "bin", {"kubectl": str(newest.binary(VERSIONS[-1]))})
    command = (sys.executable, "-m", "relay", "demo", "--directory", ".")
    describe = "kubectl describe exporter gateways"
    async with running(tmp_path, path, *command, python_path=str(ROOT)) as (_, lines):
        said = await edited(tmp_path, path, "metricsql:", 'metricsql: "{a=}"')
        assert 'unexpected "}"; expected a quoted value at offset 3' in said
        said = await edited(tmp_path, path, "sinks:", "sinkz:")
        assert 'unknown field "spec.sinkz"' in said
        said = await edited(tmp_path, path, "endpoint:", "endpoint: nothing")
        assert "write https://nothing" in said
        await edited(tmp_path, path, "metricsql:", 'metricsql: "there_is_no_such_metric"')
        missing = "there is no such secret; create it: kubectl -n default create secret generic"
        await shows(tmp_path, path, describe, missing)
        await shows(tmp_path, path, "kubectl apply -f hooli/secret.yaml", "secret/observatory")
        await shows(tmp_path, path, "kubectl get exporters", "NoData")
        await shows(tmp_path, path, "kubectl apply -f hooli", "configured")
        await shows(tmp_path, path, "kubectl get exporters", "Delivering")
        await shows(tmp_path, path, "kubectl delete secret observatory", "deleted")
        await shows(tmp_path, path, describe, missing)
        wrong = "kubectl create secret generic observatory --from-literal=token=wrong"
        await shows(tmp_path, path, wrong, "created")
        await shows(tmp_path, path, describe, "HTTP 401 Unauthorized")
        acme = "kubectl --kubeconfig acme.kubeconfig delete exporter gateway-exporter 2>&1 || true"
        await shows(tmp_path, path, acme, "acme/gateway-exporter.yaml: change that")
    out = "".join(lines)
    assert "Balanced." in out, out
    assert "logged an error" not in out, out
    assert re.search(r"\n ok observatory .* [1-9]\d* +0\n", out), "what is dropped is shown"


async def test_tokens_are_new_at_each_start_and_for_their_owner_alone(tmp_path: Path) -> None:
    seen = []
    (tmp_path / "hooli.kubeconfig").write_text("of somebody else")
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", "demo", "--seconds", "0.3", "--series", "300"),
            *("--directory", str(tmp_path)),
            cwd=ROOT,
            stdout=PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        for customer in ("acme", "globex", "initech", "hooli"):
            file = tmp_path / f"{customer}.kubeconfig"
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            (user,) = yaml.safe_load(file.read_text())["users"]
            assert user["user"]["token"] in out.decode()
            seen.append(user["user"]["token"])
    assert len(set(seen)) == 8


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "demo", "--seconds", "0.3"),
        *("--directory", str(tmp_path / "file")),
        cwd=ROOT,
        stdout=PIPE,
        stderr=PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == 2
    assert err.decode() == f"relay: --directory: {tmp_path / 'file'}: File exists\n"
