"""Kills and restarts a real relay under load, for an oracle to say what came of it.

Everything that is chosen is drawn from one seed: when the relay dies and how, which endpoint fails
when and how, how large requests are. The interleaving of processes is the machine's, so a seed
reproduces the script of a run rather than its every byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import aiohttp

from tests.kit.chaos.endpoint import ChaosEndpoint
from tests.kit.chaos.oracle import Oracle
from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.processes import ROOT, free_port
from tests.kit.remote_write.raw import HEADERS
from tests.own_time import patience

SETTINGS = """
storage:
  path: data
  fsync: {fsync}
exporters:
  - path: exporters.yaml
shutdown:
  drainTimeout: 500ms
watch:
  interval: 250ms
"""

SENDERS = 3
SinkKind = Literal["otlp_http", "1.0", "2.0"]
"""OTLP, or a version of remote write."""

EVERY = ("{}", frozenset(range(SENDERS)))
SOME = ('{sender=~"0|2"}', frozenset({0, 2}))
ENDPOINTS: dict[str, tuple[str, frozenset[int], SinkKind]] = {
    "steady": (*EVERY, "otlp_http"),
    "flaky": (*EVERY, "otlp_http"),
    "choosy": (*SOME, "otlp_http"),
    "steady-1": (*EVERY, "1.0"),
    "flaky-1": (*EVERY, "1.0"),
    "flaky-2": (*SOME, "2.0"),
}
"""By name: what its exporter selects, the senders whose samples that means, and the sink's kind."""
STEADY = ("steady", "steady-1")

READY_TIMEOUT_S = 30.0
DRAIN_STALL_S = 60.0
"""How long nothing may move while queues drain. A busy machine makes that last long."""


@dataclass
class Report:
    """What a run came to."""

    kills: int = 0
    stops: int = 0
    paused: int = 0
    """Sinks, each time that it was."""
    seconds: float = 0.0
    duplicates_after: list[int] = field(default_factory=list)
    """At the steady endpoint, between each start and the death that follows."""
    unbalanced: list[str] = field(default_factory=list)
    startups_s: list[float] = field(default_factory=list)
    ledgers: dict[str, Any] = field(default_factory=dict)


def chaos_exporter(
    name: str,
    query: str,
    origin: str,
    *,
    kind: SinkKind = "otlp_http",
    timeout: str = "500ms",
    paused: bool = False,
) -> str:
    """An Exporter that sends small batches soon, and tries again soon."""
    return exporter_yaml(
        name,
        origin,
        metrics=query,
        version="" if kind == "otlp_http" else kind,
        otlp_http={"timeout": timeout},
        retry={"backoff": "20ms"},
        batch={"timeout": "50ms", "maxSize": 200},
        **({"paused": True} if paused else {}),
    )


class Run:
    """One run; ``oracle`` knows everything that was sent and has arrived.

    ``pauses``: some sinks are paused, others each time that the relay dies, none in the end.
    """

    def __init__(
        self, directory: Path, *, seed: int, fsync: str = "interval", pauses: bool = False
    ) -> None:
        self._directory = directory
        self._rng = random.Random(seed)
        self._port = free_port()
        self._admin = f"http://127.0.0.1:{free_port()}"
        self._process: asyncio.subprocess.Process | None = None
        self._sending = True
        self._duplicates = 0
        self._log = directory / "relay.log"
        self._fsync = fsync
        self._pauses = pauses
        self.oracle = Oracle({name: wants for name, (_, wants, _) in ENDPOINTS.items()})
        self.endpoints = {name: ChaosEndpoint(name, self.oracle, free_port()) for name in ENDPOINTS}
        self.report = Report()

    async def kill_again_and_again(self, kills: int) -> Report:
        """Kill the relay so many times under load, and stop it now and then in between; then let
        everything arrive."""
        began = time.monotonic()
        self._configure()
        async with contextlib.AsyncExitStack() as stack:
            for endpoint in self.endpoints.values():
                await stack.enter_async_context(endpoint)
            session = await stack.enter_async_context(aiohttp.ClientSession())
            await stack.enter_async_context(self._running(session))
            senders = [asyncio.create_task(self._send(session, n)) for n in range(SENDERS)]
            troubles = [
                asyncio.create_task(self.endpoints[name].misbehave(random.Random(number)))
                for number, name in enumerate(
                    sorted(ENDPOINTS.keys() - STEADY), self._rng.randrange(1 << 30)
                )
            ]
            while self.report.kills < kills:
                if self._pauses:
                    self._configure(self._rng.sample(sorted(ENDPOINTS), k=len(ENDPOINTS) // 2))
                await asyncio.sleep(self._rng.uniform(0.0, 1.2))
                await self._die(session)
            self._sending = False
            if self._pauses:
                self._configure()
            await asyncio.gather(*senders)
            for trouble in troubles:
                trouble.cancel()
            await asyncio.gather(*troubles, return_exceptions=True)
            await self._drained(session)
        self.report.seconds = time.monotonic() - began
        return self.report

    def check(self) -> None:
        """Everything that must hold at the end; AssertionError tells what does not."""
        story = "\n".join([*self.oracle.describe(), repr(self.report)])
        for name, endpoint in self.endpoints.items():
            assert not endpoint.failures, endpoint.failures[0]
            assert not self.oracle.missing(name), f"{name} misses samples\n{story}"
            late = self.oracle.arrivals[name].out_of_order
            assert not late, f"{late[0]} and {len(late) - 1} more\n{story}"
        assert not self.report.unbalanced, self.report.unbalanced
        log = self._log.read_text()
        assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]

    def complete(self) -> bool:
        """Whether everything arrived wherever it belongs."""
        return self.oracle.complete()

    def _configure(self, paused: Sequence[str] = ()) -> None:
        self.report.paused += len(paused)
        manifests = [
            chaos_exporter(
                name, query, self.endpoints[name].origin, kind=kind, paused=name in paused
            )
            for name, (query, _, kind) in ENDPOINTS.items()
        ]
        (self._directory / "exporters.yaml").write_text("".join(manifests))
        (self._directory / "relay.yaml").write_text(SETTINGS.format(fsync=self._fsync))

    async def _die(self, session: aiohttp.ClientSession) -> None:
        assert self._process is not None
        steady = self.oracle.arrivals["steady"]
        self.report.duplicates_after.append(steady.duplicates - self._duplicates)
        self._duplicates = steady.duplicates
        if self._rng.random() < 0.9:
            self._process.kill()
            self.report.kills += 1
        else:
            self._process.send_signal(signal.SIGTERM)
            self.report.stops += 1
        await self._process.wait()
        await self._start(session)
        await self._check_ledgers(session)

    @asynccontextmanager
    async def _running(self, session: aiohttp.ClientSession) -> AsyncIterator[None]:
        await self._start(session)
        try:
            yield
        finally:
            assert self._process is not None
            if self._process.returncode is None:
                self._process.send_signal(signal.SIGTERM)
            await self._process.wait()

    async def _start(self, session: aiohttp.ClientSession) -> None:
        began = time.monotonic()
        command = [sys.executable, "-m", "relay", "run"]
        command += ["--config", str(self._directory / "relay.yaml")]
        command += ["--listen", f"127.0.0.1:{self._port}"]
        command += ["--admin-listen", self._admin.removeprefix("http://")]
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdout=output, stderr=output, cwd=ROOT
            )
        async with patience(READY_TIMEOUT_S):
            while not await self._answers(session):
                assert self._process.returncode is None, self._log.read_text()[-3000:]
                await asyncio.sleep(0.02)
        self.report.startups_s.append(time.monotonic() - began)

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(f"{self._admin}/healthz") as response:
                return response.status == 200
        return False

    async def _ledgers(self, session: aiohttp.ClientSession) -> dict[str, Any]:
        """Return the ledgers of all outputs."""
        async with session.get(f"{self._admin}/status") as response:
            document = await response.json()
        ledgers = {}
        for exporter in document["exporters"]:
            (sink,) = exporter["sinks"]
            for output in (sink, *sink.get("signals", ())):
                name = f"{exporter['name']} {output.get('signal', 'metrics')}"
                ledgers[name] = output["ledger"]
        return ledgers

    async def _check_ledgers(self, session: aiohttp.ClientSession) -> None:
        for name, ledger in (await self._ledgers(session)).items():
            if not ledger["balanced"]:
                self.report.unbalanced.append(f"{name}: {ledger}")

    async def _send(self, session: aiohttp.ClientSession, sender: int) -> None:
        """Send one request after another; what is not acknowledged is never sent again."""
        url = f"http://127.0.0.1:{self._port}/api/v1/write"
        rng = random.Random(self._rng.randrange(1 << 30))
        number = 0
        while self._sending:
            number += 1
            series = rng.choice((1, 10, 60))
            numbers, body = self.oracle.request(sender, series=series, number=number)
            with contextlib.suppress(aiohttp.ClientError):
                async with session.post(url, data=body, headers=HEADERS) as response:
                    await response.read()
                    if response.status // 100 == 2:
                        self.oracle.acknowledge(numbers)
            await asyncio.sleep(rng.uniform(0.0, 0.02))

    async def _drained(self, session: aiohttp.ClientSession) -> None:
        """Wait until nothing is missing or queued any more, or moves."""
        before, moved_at = -1, time.monotonic()
        while time.monotonic() < moved_at + DRAIN_STALL_S:  # check() says what is missing
            self.report.ledgers = await self._ledgers(session)
            queued = sum(ledger["queued"] for ledger in self.report.ledgers.values())
            if not queued and self.complete():
                break
            if queued != before:
                before, moved_at = queued, time.monotonic()
            await asyncio.sleep(0.05)
        await self._check_ledgers(session)
