"""Run the Exporters of a large cluster: 10,000 of them with a Secret each, in 2,000 namespaces.

``python -m bench.micro.cluster_scale [late] [EXPORTERS NAMESPACES]``. The control plane is the
tests' own, and a sender posts small requests; both are processes of their own. Prints how long the
start takes, how long one change takes to have an effect, the longest turn of the event loop of
each, and the CPU of a relay in which nothing changes. With ``late`` the control plane answers only
when the relay has started, under load. No pass or fail.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from relay.app import Relay
from relay.config.settings.kubernetes import KubernetesProjects, KubernetesSettings
from relay.config.settings.settings import (
    ListenAddress,
    Settings,
    Shutdown,
    TenancySettings,
)
from relay.runtime.event_loop import run_on_uvloop
from tests.kit.kubernetes.fake_api import FakeApi, Fault, failing, kubeconfig_of
from tests.kit.remote_write.write_client import WriteClient

EXPORTERS = 10_000
NAMESPACES = 2_000
IDLE_S = 20.0
EXPORTER_PATH = "/apis/telemetry.datumapis.com/v1alpha1/exporters"
NAMESPACE_PATH = "/api/v1/namespaces"
SECRET_PATH = "/api/v1/secrets"
LABEL = "example.com/project"


def exporter(api: FakeApi, number: int, namespaces: int, code: str) -> dict[str, Any]:
    """Return an Exporter with one source, one sink and a Secret of its own."""
    made = api.new(
        f"e{number}",
        f"n{number % namespaces}",
        sources=[{"name": "all", "metrics": {"metricsql": f'{{code="{code}"}}'}}],
        sinks=[
            {
                "name": "s",
                "otlp_http": {
                    "endpoint": "https://127.0.0.1:4318",
                    "authentication": {"type": "bearerToken", "secretRef": {"name": f"s{number}"}},
                },
            }
        ],
    )
    made["metadata"]["uid"] = f"uid-of-{number}"
    return {"apiVersion": "telemetry.datumapis.com/v1alpha1", "kind": "Exporter", **made}


def namespace(api: FakeApi, number: int, **labels: str) -> dict[str, Any]:
    """Return a Namespace; ten have a project in common."""
    made = api.new(f"n{number}", "")
    made["metadata"]["uid"] = f"uid-of-namespace-{number}"
    made["metadata"]["labels"] = {LABEL: f"p{number // 10}", **labels}
    return made


def secret(api: FakeApi, number: int, namespaces: int, token: str) -> dict[str, Any]:
    """Return a Secret."""
    made = api.new(f"s{number}", f"n{number % namespaces}")
    made["metadata"]["uid"] = f"uid-of-secret-{number}"
    made.pop("spec")
    return {"apiVersion": "v1", "kind": "Secret", **made, "data": {"token": token}}


async def serve(exporters: int, namespaces: int, *, late: bool) -> None:
    """Serve the control plane; print its URL; then a line of standard input is one change."""
    api = FakeApi()
    api.bookmark_s = 30.0
    for number in range(namespaces):
        api.put(NAMESPACE_PATH, namespace(api, number))
    for number in range(exporters):
        api.put(EXPORTER_PATH, exporter(api, number, namespaces, "200"))
        api.put(SECRET_PATH, secret(api, number, namespaces, "YQ=="))
    for kind in api.kinds.values():
        kind.events.clear()
    if late:
        api.faults.append(Fault(failing(503), times=1_000_000))
    async with api:
        print(api.url, flush=True)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := (await reader.readline()).decode():
            if line == "open\n":
                api.faults.clear()
                continue
            what, number_text, text = line.split()
            number = int(number_text)
            if what == "exporter":
                api.put(EXPORTER_PATH, exporter(api, number, namespaces, text))
            elif what == "delete":
                api.delete(EXPORTER_PATH, f"e{number}", f"n{number % namespaces}")
            elif what == "secret":
                api.put(SECRET_PATH, secret(api, number, namespaces, text))
            else:
                api.put(NAMESPACE_PATH, namespace(api, number, team=text))


async def send(url: str) -> None:
    """Post requests of 100 series until the end of the process."""
    async with WriteClient(url) as client:
        for _ in itertools.count():
            assert await client.send("up", labels={"project": "p1", "code": "none"}) == 204
            await asyncio.sleep(0.02)


class Loop:
    """The longest turn of the event loop since the last look: by the clock, and by its CPU time."""

    def __init__(self) -> None:
        self._worst_s = self._worst_cpu_s = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            before, cpu_s = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            self._worst_s = max(self._worst_s, time.perf_counter() - before - 0.001)
            self._worst_cpu_s = max(self._worst_cpu_s, time.thread_time() - cpu_s)

    def take(self) -> str:
        """Return the longest turn and forget it; on a busy machine its CPU time counts."""
        worst_ms, cpu_ms = self._worst_s * 1000, self._worst_cpu_s * 1000
        self._worst_s = self._worst_cpu_s = 0.0
        return f"longest turn {worst_ms:.0f} ms, {cpu_ms:.0f} ms of CPU"


async def child(*arguments: str) -> asyncio.subprocess.Process:
    """Start this module as another process."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.micro.cluster_scale",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def until(done: Callable[[], bool], timeout_s: float, every_s: float = 0.002) -> float:
    """Return how long it takes until a condition holds, s."""
    began = time.perf_counter()
    async with asyncio.timeout(timeout_s):
        while not done():  # noqa: ASYNC110 - measured, not signalled
            await asyncio.sleep(every_s)
    return time.perf_counter() - began


def has_written(relay: Relay, exporters: int) -> bool:
    """Return whether the first status of each Exporter was written, and its Events."""
    publishing = relay._statuses.statistics() if relay._statuses else None  # noqa: SLF001
    if publishing is None or publishing.written < exporters:
        return False
    return not publishing.replicas.events.schedule.waiting


def settings_of(url: str, folder: Path) -> Settings:
    """Return the settings of the relay."""
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(kubeconfig_of(url))
    return Settings(
        listen=ListenAddress("127.0.0.1", 0),
        admin_listen=ListenAddress("127.0.0.1", 0),
        kubernetes=KubernetesSettings(
            kubeconfig,
            projects=KubernetesProjects(LABEL),
            status_writes_per_second_max=1000,  # the first statuses are written before measuring
        ),
        tenancy=TenancySettings("project"),
        allow_private_endpoints=True,
        shutdown=Shutdown(drain_timeout_s=0),
    )


async def measure(exporters: int, namespaces: int, folder: Path, *, late: bool) -> None:
    """Print the figures."""
    api = await child("serve", str(exporters), str(namespaces), "late" if late else "")
    assert api.stdout is not None
    assert api.stdin is not None
    url = (await api.stdout.readline()).decode().strip()
    relay = Relay(settings_of(url, folder))
    loop = Loop()
    watching = asyncio.create_task(loop.run())

    def tell(line: str) -> None:
        assert api.stdin is not None
        api.stdin.write(line.encode() + b"\n")

    began, cpu_s = time.perf_counter(), time.process_time()
    await relay.start()
    count = len(list(relay.facts().exporters))
    print(
        f"start: {count} exporters after {time.perf_counter() - began:.2f} s, "
        f"{time.process_time() - cpu_s:.2f} s of CPU, {loop.take()}"
    )
    address = relay.ingest_address
    sender = await child("send", f"http://{address.host}:{address.port}/api/v1/write")
    reloader = relay._reloader  # noqa: SLF001 - what was applied, without the cost of a status
    assert reloader is not None

    def applied() -> int:
        found = reloader.statistics()
        return found.changed + found.removed

    def has_applied(before: int) -> bool:
        return applied() > before

    async def change(name: str, line: str, done: Callable[[], bool]) -> None:
        loop.take()
        tell(line)
        took_s = await until(done, 30)
        print(f"{name}: {took_s:.2f} s, {loop.take()}")
        await asyncio.sleep(1)

    if late:
        loop.take()
        tell("open")
        took_s = await until(lambda: reloader.statistics().added == exporters, 120)
        print(f"late: {exporters} exporters {took_s:.1f} s after, {loop.take()}")
    sender.kill()
    await sender.wait()
    took_s = await until(partial(has_written, relay, exporters), 400, 0.5)
    print(f"first statuses: {took_s:.0f} s, {loop.take()}")
    await asyncio.sleep(5)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    watching.cancel()
    await asyncio.sleep(IDLE_S)
    share = (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)
    print(f"idle: {share * 100:.2f} % of a core")
    watching = asyncio.create_task(loop.run())

    sender = await child("send", f"http://{address.host}:{address.port}/api/v1/write")
    await asyncio.sleep(1)
    for number in range(3):
        await change("edit", f"exporter 7 30{number}", partial(has_applied, applied()))
    await change("delete", "delete 8 -", partial(has_applied, applied()))
    state = relay._sources.state  # noqa: SLF001 - the labels of a Namespace show nowhere else
    index = state._inventory.index  # noqa: SLF001
    await change("namespace", "namespace 5 a", lambda: state._inventory.index is not index)  # noqa: SLF001
    store = reloader.secrets
    await change("secret", "secret 9 Yg==", lambda: reloader.secrets is not store)
    watching.cancel()
    sender.kill()
    await sender.wait()
    await relay.stop()
    api.kill()
    await api.wait()


def main(arguments: list[str]) -> None:
    """Run what the arguments say."""
    if arguments[:1] == ["serve"]:
        asyncio.run(serve(int(arguments[1]), int(arguments[2]), late=bool(arguments[3])))
    elif arguments[:1] == ["send"]:
        asyncio.run(send(arguments[1]))
    else:
        late = arguments[:1] == ["late"]
        exporters, namespaces = map(int, arguments[late:] or (EXPORTERS, NAMESPACES))
        with tempfile.TemporaryDirectory() as folder:
            run_on_uvloop(measure(exporters, namespaces, Path(folder), late=late))


if __name__ == "__main__":
    main(sys.argv[1:])
