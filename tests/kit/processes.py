"""Real programs on loopback: started on free ports, waited for, stopped by their own process id."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.kit.paths import ROOT
from tests.own_time import patience

STARTUP_TIMEOUT_S = 60.0
POLL_S = 0.05


PORTS = range(10_000, 32_000)
"""Below those that a system gives to outgoing connections, which would take one meanwhile."""
PROCESS_PORTS = 500


@functools.cache
def _own_ports() -> tuple[socket.socket, Iterator[int]]:
    """Return ports that no other process of tests gives out, and what says so while it is open.

    Lanes start relays side by side: a port that one has given out, and nothing listens on yet,
    would be free to another. None comes a second time before all others.
    """
    starts = PORTS[::PROCESS_PORTS]
    # Hypothesis seeds the common generator alike in all processes.
    for start in secrets.SystemRandom().sample(starts, len(starts)):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0relay-tests-ports-{start}")
        except OSError:
            claim.close()
        else:
            return claim, itertools.cycle(range(start, start + PROCESS_PORTS))
    raise AssertionError(f"{len(starts)} processes of tests have all ports")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago, another one at each call."""
    _, ports = _own_ports()
    while True:
        port = next(ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def binary(name: str, package: str) -> str:
    """Path of one of Debian's programs; a missing one fails the test, saying what to install."""
    path = shutil.which(name)
    assert path is not None, f"{name} is not installed: apt-get install {package}"
    return path


async def eventually(
    what: str, condition: Callable[[], bool | Awaitable[bool]], *, timeout_s: float
) -> None:
    """Poll until the condition holds; fail with its description after the deadline."""
    try:
        async with patience(timeout_s):
            while True:
                held = condition()
                if not isinstance(held, bool):
                    held = await held
                if held:
                    return
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s:g} s: {what}") from None


async def answers(url: str) -> bool:
    """Whether a GET of the URL is answered with 200."""
    with contextlib.suppress(aiohttp.ClientError):
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status == 200
    return False


def whole_lines(log: Path) -> list[str]:
    """The lines of a file that is written meanwhile, without one that has not ended yet."""
    return log.read_text(errors="replace").rpartition("\n")[0].splitlines()


class Process:
    """A running program and what it wrote; ``log`` holds both its streams."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self.log = log

    @property
    def returncode(self) -> int | None:
        """The exit status, None while it runs."""
        return self._process.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to this very process."""
        self._process.send_signal(number)

    async def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout_s: float = 20) -> int:
        """Ask it to stop and wait; kill it where it does not. Returns the exit status."""
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self.wait(timeout_s=timeout_s)

    async def wait(self, *, timeout_s: float = 20) -> int:
        """Wait for its end; kill it where that does not come."""
        try:
            async with patience(timeout_s):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise AssertionError(f"did not stop within {timeout_s:g} s: {self.text()}") from None

    def cpu_s(self) -> float:
        """CPU time of all its threads so far, s; also of those that have ended."""
        # The clock of another process: ~pid and CPUCLOCK_SCHED (Linux, posix-timers.h).
        return time.clock_gettime(~self._process.pid << 3 | 2)

    def text(self) -> str:
        """What it wrote so far."""
        return self.log.read_text(errors="replace")


@asynccontextmanager
async def started(
    command: Sequence[str], *, log: Path, ready_url: str = "", **environment: str
) -> AsyncIterator[Process]:
    """Run a program for the duration of the block; wait until ``ready_url`` answers, if given."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
    running = Process(process, log)
    try:
        if ready_url:
            await eventually(
                f"{ready_url} answers",
                lambda: _ready_or_dead(running, ready_url),
                timeout_s=STARTUP_TIMEOUT_S,
            )
            assert running.returncode is None, running.text()
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _ready_or_dead(process: Process, url: str) -> bool:
    return process.returncode is not None or await answers(url)


@asynccontextmanager
async def relay(
    directory: Path,
    *arguments: str,
    port: int | None = None,
    nofile: int = 0,
    module: str = "relay",
) -> AsyncIterator[tuple[Process, str, str]]:
    """Run ``relay run``; gives the process, its remote-write URL and its admin URL.

    ``nofile`` is how many descriptors it may open at most, 0 for as many as the tests. ``module``
    is what Python runs.
    """
    port = port or free_port()
    admin_port = free_port()
    command = [sys.executable, "-m", module, "run"]
    if nofile:
        command = ["sh", "-c", f'ulimit -n {nofile}; exec "$@"', "sh", *command]
    command += ["--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin_port}"]
    admin = f"http://127.0.0.1:{admin_port}"
    async with started(
        [*command, *arguments], log=directory / "relay.log", ready_url=f"{admin}/readyz"
    ) as process:
        yield process, f"http://127.0.0.1:{port}/api/v1/write", admin


def at_once(directory: Path) -> tuple[str, str]:
    """Arguments of a relay in which new families do not wait for their metadata."""
    path = directory / "at-once.yaml"
    path.write_text("translation: {firstSightWait: 0s}\n")
    return "--config", str(path)


async def get_json(url: str) -> dict[str, Any]:
    """The JSON document at a URL."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200, await response.text()
        document: dict[str, Any] = await response.json()
        return document


async def get_metrics(url: str) -> dict[str, float]:
    """The samples of an exposition by their full text (name and labels)."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        lines = (await response.text()).splitlines()
    samples = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            samples[name] = float(value)
    return samples
