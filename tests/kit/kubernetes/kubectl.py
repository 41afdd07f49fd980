"""kubectl as a customer has it, two versions of it, built by ``make peers``."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import newest
from tests.kit.processes import eventually
from tests.own_time import patience

VERSIONS = ("kubectl-1.32", "kubectl-1.37")
TIMEOUT_S = 60.0
AGAIN_S = 1.5
"""Between two starts of the same command, which takes a tenth of that of a processor."""


@dataclass(frozen=True)
class Said:
    """What one command wrote, and its exit status."""

    status: int
    out: str
    errors: str


class Kubectl:
    """One version of kubectl against one API server.

    ``folder`` is where its caches are: discovery is asked for anew where another one is given.
    """

    def __init__(self, kubeconfig: Path, folder: Path, version: str = VERSIONS[-1]) -> None:
        self.version = version
        self._environment = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],  # of diff
            "KUBECONFIG": str(kubeconfig),
        }
        self._last: tuple[str, ...] = ()
        self._last_at = 0.0

    async def run(self, *words: str, text: str = "", **environment: str) -> Said:
        """Run a command with a text on its standard input; the same one again after a moment."""
        if words == self._last:
            await asyncio.sleep(self._last_at + AGAIN_S - time.monotonic())
        self._last, self._last_at = words, time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *self._command(*words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment | environment,
        )
        try:
            async with patience(TIMEOUT_S):
                out, errors = await process.communicate(text.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Said(process.returncode, out.decode(), errors.decode())

    async def __call__(self, *words: str, text: str = "", **environment: str) -> str:
        """Run a command that must succeed; return what it wrote to its standard output."""
        said = await self.run(*words, text=text, **environment)
        assert said.status == 0, f"{self.version} {' '.join(words)}: {said.out}{said.errors}"
        return said.out

    async def apply(self, *manifests: str, server_side: bool = False) -> str:
        """Apply manifests."""
        how = ("--server-side",) if server_side else ()
        return await self("apply", *how, "-f", "-", text="\n".join(manifests))

    async def get(self, *words: str) -> dict[str, Any]:
        """Return one object."""
        found: dict[str, Any] = json.loads(
            await self("get", *words, "-o", "json", "--show-managed-fields")
        )
        return found

    async def condition(self, *words: str, kind: str = "Delivering") -> dict[str, Any]:
        """Return one condition of an object; an empty one where there is none."""
        return _condition(await self.get(*words), kind)

    async def wait_for(
        self, *words: str, kind: str = "Delivering", timeout_s: float = 30, **wanted: str
    ) -> dict[str, Any]:
        """Wait until a condition of an object's present generation has these fields; return it."""
        seen: dict[str, Any] = {}

        async def has_them() -> bool:
            found = await self.get(*words)
            seen.clear()
            seen.update(_condition(found, kind))
            current = seen.get("observedGeneration") == found["metadata"]["generation"]
            return current and wanted.items() <= seen.items()

        try:
            await eventually(f"{words}: {kind} {wanted}", has_them, timeout_s=timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {seen}") from None
        return dict(seen)

    @asynccontextmanager
    async def watching(self, *words: str) -> AsyncIterator[Watched]:
        """Run ``get --watch`` for the duration of the block."""
        process = await asyncio.create_subprocess_exec(
            *self._command("get", "--watch", *words),
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
        )
        watched = Watched(process)
        reading = asyncio.ensure_future(watched.read())
        try:
            yield watched
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await reading

    def _command(self, *words: str) -> list[str]:
        return [str(newest.binary(self.version)), *words]


class Watched:
    """Lines that a watch has shown, each with the time when it came."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[tuple[float, str]] = []

    async def read(self) -> None:
        """Read until the command ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.lines.append((time.monotonic(), line.decode().rstrip()))

    async def shows(self, text: str, *, timeout_s: float = 15) -> None:
        """Wait until a line has a text."""
        await eventually(
            f"a line with {text!r}",
            lambda: any(text in line for _, line in self.lines),
            timeout_s=timeout_s,
        )


def _condition(found: Mapping[str, Any], kind: str) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = found.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {})


def object_text(kind: str, name: str, fields: Mapping[str, Any], *, api: str = "v1") -> str:
    """Return the JSON text of an object, which is YAML as well."""
    metadata = {"name": name, **fields.get("metadata", {})}
    rest = {key: value for key, value in fields.items() if key != "metadata"}
    return "---\n" + json.dumps({"apiVersion": api, "kind": kind, "metadata": metadata, **rest})
