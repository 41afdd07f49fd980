"""Apply 10,000 Exporters by the relay's own API, to a whole relay with storage, beside a sender.

``python -m bench.micro.api_scale [EXPORTERS CONNECTIONS]``. Clients and sender are processes of
their own. Prints the rate and latency of the applies, the sender's latency without and beside them,
the CPU of the relay, the longest turn of its event loop, when all statuses are stored, the cost of
lists, and time and memory of a start with all of them. The stack of the event loop is printed when
a turn takes more CPU than :data:`HOLD_S`. No pass or fail.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import statistics
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from bench.micro.cluster_scale import Loop, until
from relay.app import Relay
from relay.config.settings.api import ApiAuthentication, ApiSettings
from relay.config.settings.settings import ListenAddress, Settings, Shutdown, Storage
from relay.runtime.event_loop import run_on_uvloop
from tests.kit.apiserver.running import ADMIN, EXPORTERS, tokens
from tests.kit.processes import free_port
from tests.kit.remote_write.write_client import WriteClient

COUNT = 10_000
CONNECTIONS = 20
QUIET_S = 5.0
HOLD_S = 0.04
HOLDS_SHOWN = 20
APPLY = {"Content-Type": "application/apply-patch+yaml"}
LISTS = {
    "list": "application/json",
    "list as Table": "application/json;as=Table;v=v1;g=meta.k8s.io",
}


def exporter(number: int) -> dict[str, Any]:
    """Return an Exporter with one source and one sink."""
    return {
        "apiVersion": "telemetry.datumapis.com/v1alpha1",
        "kind": "Exporter",
        "metadata": {"name": f"e{number}", "labels": {"team": f"t{number % 100}"}},
        "spec": {
            "sources": [{"name": "all", "metrics": {"metricsql": f'{{code="{number}"}}'}}],
            "sinks": [{"name": "s", "otlp_http": {"endpoint": "https://127.0.0.1:4318"}}],
        },
    }


def figures(name: str, seconds: list[float]) -> str:
    """Return quantiles of latencies as text."""
    ordered = sorted(seconds)
    p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    return (
        f"{name}: {len(ordered)} requests, p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, "
        f"worst {ordered[-1] * 1000:.0f} ms"
    )


async def apply(url: str, count: int, connections: int) -> None:
    """Apply Exporters over some connections; print the rate and the latency."""
    numbers = iter(range(count))
    took: list[float] = []

    async def client(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            made = exporter(number)
            path = f"{EXPORTERS}/{made['metadata']['name']}?fieldManager=bench"
            began = time.perf_counter()
            async with session.patch(url + path, data=json.dumps(made), headers=APPLY) as answer:
                text = await answer.text()
                assert answer.status == 201, text
            took.append(time.perf_counter() - began)

    async with new_session() as session:
        began = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(connections)))
        rate = count / (time.perf_counter() - began)
    print(f"{figures('applied', took)}, {rate:.0f}/s", flush=True)


def new_session() -> aiohttp.ClientSession:
    """Return a session of the admin that asks for no certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {ADMIN}"}, connector=connector, read_bufsize=2**20
    )


async def send(url: str) -> None:
    """Post requests of 100 series; print a line, then the latency since for each line of input."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    took: list[float] = []

    async def tell() -> None:
        while name := (await reader.readline()).decode().strip():
            print(figures(name, took), flush=True)
            took.clear()

    async with WriteClient(url) as client:
        assert await client.send("up", labels={"code": "none"}) // 100 == 2
        print("it is taken", flush=True)
        telling = asyncio.create_task(tell())
        while not telling.done():
            began = time.perf_counter()
            assert await client.send("up", labels={"code": "none"}) // 100 == 2
            took.append(time.perf_counter() - began)
            await asyncio.sleep(0.02)


async def child(*arguments: str) -> asyncio.subprocess.Process:
    """Start this module as another process."""
    command = (sys.executable, "-m", "bench.micro.api_scale", *arguments)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)


async def said(process: asyncio.subprocess.Process, line: str = "") -> str:
    """Send a line, if there is one, and return the next that a process prints."""
    assert process.stdin is not None
    assert process.stdout is not None
    if line:
        process.stdin.write(f"{line}\n".encode())
    return (await process.stdout.readline()).decode().strip()


class HoldWatch:
    """Prints where the event loop is when one of its turns takes much CPU: once a turn."""

    def __init__(self) -> None:
        self._beat = time.thread_time()
        self._loop_thread = threading.get_ident()
        self._clock = time.pthread_getcpuclockid(self._loop_thread)
        self._left = HOLDS_SHOWN
        threading.Thread(target=self._run, daemon=True).start()

    async def run(self) -> None:
        """Tell that the loop runs, until cancelled."""
        while True:
            self._beat = time.thread_time()
            await asyncio.sleep(0.005)

    def _run(self) -> None:
        while self._left:
            time.sleep(0.005)
            beat = self._beat
            if time.clock_gettime(self._clock) - beat < HOLD_S:
                continue
            frame = sys._current_frames()[self._loop_thread]  # noqa: SLF001 - its stack
            self._left -= 1
            print(f"a hold:\n{''.join(traceback.format_stack(frame)[-6:])}", flush=True)
            while self._beat == beat:
                time.sleep(0.005)


def settings_of(folder: Path) -> Settings:
    """Return the settings of the relay."""
    (folder / "tokens.yaml").write_text(yaml.safe_dump(tokens()))
    return Settings(
        listen=ListenAddress("127.0.0.1", 0),
        admin_listen=ListenAddress("127.0.0.1", 0),
        storage=Storage(folder / "data"),
        api=ApiSettings(
            folder / "api.db",
            ListenAddress("127.0.0.1", free_port()),
            authentication=ApiAuthentication("tokens", folder / "tokens.yaml"),
        ),
        allow_private_endpoints=True,
        shutdown=Shutdown(drain_timeout_s=0),
    )


def are_stored(relay: Relay, count: int) -> bool:
    """Return whether each Exporter has the condition that it runs, and nothing waits."""
    assert relay.own_api is not None
    objects = relay.own_api._server.objects  # noqa: SLF001 - without the cost of a list
    kind = "exporters.telemetry.datumapis.com"
    found = sum(
        b'"Programmed"' in one.raw
        for project in objects.projects(kind)
        for one in objects.listed(kind, project)
    )
    return found == count and not objects.statistics().commits.waiting


async def events_end(relay: Relay) -> float:
    """Wait until nothing is written any more; return when it was for the last time."""
    assert relay.own_api is not None
    objects = relay.own_api._server.objects  # noqa: SLF001
    version, since = -1, time.perf_counter()
    while time.perf_counter() - since < QUIET_S:
        if objects.version != version:
            version, since = objects.version, time.perf_counter()
        await asyncio.sleep(0.1)
    return since


async def measure_lists(url: str, loop: Loop) -> None:
    """Print how long lists take, and hold the loop."""
    async with new_session() as session:
        for name, accept in LISTS.items():
            loop.take()
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            async with session.get(url + EXPORTERS, headers={"Accept": accept}) as answer:
                size = len(await answer.read())
            wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
            print(
                f"{name}: {size / 1e6:.1f} MB in {wall_s:.2f} s, {cpu_s:.2f} s of CPU with the "
                f"client's, {loop.take()}"
            )


def memory_mb() -> float:
    """Return the resident memory of this process."""
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in one]
    return int(line.split()[1]) / 1024


async def measure(count: int, connections: int, folder: Path) -> None:
    """Print the figures of the applies."""
    settings = settings_of(folder)
    relay = Relay(settings)
    await relay.start()
    loop, holds = Loop(), HoldWatch()
    watching = [asyncio.create_task(one.run()) for one in (loop, holds)]
    assert settings.api is not None
    url = f"https://{settings.api.listen}"
    ingest = relay.ingest_address
    sender = await child("send", f"http://{ingest.host}:{ingest.port}/api/v1/write")
    await said(sender)
    await asyncio.sleep(QUIET_S)
    print(await said(sender, "sender alone"))
    loop.take()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    client = await child("apply", url, str(count), str(connections))
    print(await said(client))
    spent_s = time.process_time() - cpu_s
    print(await said(sender, "sender beside applies"))
    print(f"applies: {spent_s / count * 1000:.2f} ms of CPU each, {loop.take()}")
    await until(lambda: are_stored(relay, count), 600, 0.5)
    spent_s, took_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    print(f"statuses: all stored {took_s:.0f} s after the first apply, {spent_s:.0f} s of CPU")
    took_s = await events_end(relay) - wall_s
    assert relay.own_api is not None
    made = relay.own_api._server.objects.statistics()  # noqa: SLF001 - figures
    spent_s = time.process_time() - cpu_s
    print(
        f"Events: the last {took_s:.0f} s after the first apply, {spent_s:.0f} s of CPU, "
        f"{made.commits.changes} changes in {made.commits.transactions} transactions, "
        f"{loop.take()}, {memory_mb():.0f} MB"
    )
    print(await said(sender, "sender beside statuses"))
    loop.take()
    await measure_lists(url, loop)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    await asyncio.sleep(QUIET_S)
    share = (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)
    print(f"after: {share * 100:.1f} % of a core beside the sender, {loop.take()}")
    sender.kill()
    await sender.wait()
    for one in watching:
        one.cancel()
    await relay.stop()


async def measure_start(folder: Path) -> None:
    """Print time and memory of a start with what is stored."""
    relay = Relay(settings_of(folder))
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    await relay.start()
    found = len(list(relay.facts().exporters))
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    print(f"start: {found} run after {wall_s:.1f} s, {cpu_s:.1f} s of CPU, {memory_mb():.0f} MB")
    await relay.stop()


def main(arguments: list[str]) -> None:
    """Run what the arguments say."""
    if arguments[:1] == ["apply"]:
        asyncio.run(apply(arguments[1], *map(int, arguments[2:])))
    elif arguments[:1] == ["send"]:
        asyncio.run(send(arguments[1]))
    elif arguments[:1] == ["start"]:
        run_on_uvloop(measure_start(Path(arguments[1])))
    else:
        count, connections = map(int, arguments or (COUNT, CONNECTIONS))
        with tempfile.TemporaryDirectory() as folder:
            run_on_uvloop(measure(count, connections, Path(folder)))
            command = (sys.executable, "-m", "bench.micro.api_scale", "start", folder)
            asyncio.run(_run(*command))


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


if __name__ == "__main__":
    main(sys.argv[1:])
