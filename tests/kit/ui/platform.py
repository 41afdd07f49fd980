"""A whole relay with pages, two customers, their series, and endpoints of every mood."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.kit.apiserver.running import ADMIN, EDITOR, VIEWER
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.processes import Process, free_port, relay
from tests.kit.remote_write.raw import HEADERS, join, snappy, text_series

PROJECT_LABEL = "resourcemanager_datumapis_com_project_name"
GLOBEX = "token-of-globex-editor"
USERS = [
    {"token": ADMIN, "user": "root", "role": "admin", "projects": ["*"]},
    {"token": EDITOR, "user": "ann@acme.example", "role": "editor", "projects": ["acme"]},
    {"token": VIEWER, "user": "vic@acme.example", "role": "viewer", "projects": ["acme"]},
    {"token": GLOBEX, "user": "gus@globex.example", "role": "editor", "projects": ["globex"]},
]
GROUP = "/projects/acme/apis/telemetry.datumapis.com/v1alpha1/namespaces/default"


def series_of(project: str) -> list[dict[str, str]]:
    """Labels of a customer's series: gateways and workloads."""
    found = []
    for region in ("eu-west", "us-east"):
        base = {PROJECT_LABEL: project, "region": region, "gateway_name": "web"}
        found += [
            {**base, "__name__": "http_requests_total", "code": code, "method": method}
            for code in ("200", "404", "500")
            for method in ("GET", "POST")
        ]
        found += [
            {**base, "__name__": name, "pod": f"api-{number}"}
            for name in ("workload_cpu_seconds_total", "workload_memory_bytes")
            for number in range(4)
        ]
    return found


class Traffic:
    """Sends the series of all customers once an interval; ``extra`` are series besides."""

    def __init__(self, url: str, *, every_s: float = 0.5) -> None:
        self._url = url
        self._every_s = every_s
        self.extra: list[dict[str, str]] = []

    def _body(self, number: int) -> bytes:
        now_ms = int(time.time() * 1000)
        everything = [*series_of("acme"), *series_of("globex"), *self.extra]
        return snappy(join(text_series(labels, (float(number), now_ms)) for labels in everything))

    async def _send(self) -> None:
        number = 0
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.post(
                        self._url, data=self._body(number), headers=HEADERS
                    ) as response:
                        await response.read()
                except aiohttp.ClientError:
                    await asyncio.sleep(0.2)  # the relay is being restarted
                number += 1
                await asyncio.sleep(self._every_s)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Traffic]:
        """Send for the duration of the block."""
        task = asyncio.create_task(self._send())
        try:
            yield self
        finally:
            task.cancel()


@dataclass
class Platform:
    """The parts of it; ``url`` is where pages and API are."""

    folder: Path
    config: Path
    url: str
    process: Process
    traffic: Traffic
    good: OtlpServer
    unauthorized: OtlpServer
    admin_url: str
    port: int

    async def ask(
        self, method: str, path: str, body: Any = None, token: str = ADMIN
    ) -> tuple[int, Any]:
        """Ask the API, as kubectl would."""
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                method, self.url + path, json=body, headers=headers, ssl=False
            ) as response,
        ):
            return response.status, await response.json()

    async def make(self, name: str, endpoint: str, selector: str = "{}", **more: Any) -> None:
        """Make an Exporter of acme."""
        code, answer = await self.ask(
            "POST", f"{GROUP}/exporters", exporter_of(name, endpoint, selector, **more)
        )
        assert code == 201, answer


def exporter_of(name: str, endpoint: str, selector: str = "{}", **sink: Any) -> dict[str, Any]:
    """An Exporter with one sink."""
    return {
        "apiVersion": "telemetry.datumapis.com/v1alpha1",
        "kind": "Exporter",
        "metadata": {"name": name},
        "spec": {
            "sources": [{"name": "all", "metrics": {"metricsql": selector}}],
            "sinks": [
                {
                    "name": "collector",
                    "otlp_http": {"endpoint": endpoint},
                    "batch": {"timeout": "200ms"},
                    **sink,
                }
            ],
        },
    }


def refusing(status: int, body: bytes) -> OtlpServer:
    """An endpoint that refuses everything."""

    def answer(_: Received) -> Reply:
        return Reply(status, body, {"Content-Type": "text/plain"})

    return OtlpServer(answer)


def _settings(folder: Path, port: int, plain: int, more: dict[str, Any]) -> Iterator[Path]:
    settings = {
        "storage": {"path": "data"},
        "tenancy": {"label": PROJECT_LABEL},
        "translation": {"firstSightWait": "0s"},
        "shutdown": {"drainTimeout": "2s"},
        "allowPrivateEndpoints": True,
        "api": {
            "listen": f"127.0.0.1:{port}",
            "httpListen": f"127.0.0.1:{plain}",
            "authentication": {"type": "tokens", "file": "tokens.yaml"},
        },
        **more,
    }
    file = folder / "relay.yaml"
    file.write_text(yaml.safe_dump(settings))
    yield file


@asynccontextmanager
async def platform(
    folder: Path,
    *,
    module: str = "relay",
    users: Sequence[Mapping[str, Any]] = USERS,
    **more: Any,
) -> AsyncIterator[Platform]:
    """Run all of it for the duration of the block; ``more`` are settings, ``module`` is run."""
    (folder / "tokens.yaml").write_text(yaml.safe_dump(list(users)))
    port = free_port()
    ingest = free_port()
    (config,) = _settings(folder, port, free_port(), more)
    async with AsyncExitStack() as stack:
        good = await stack.enter_async_context(OtlpServer())
        unauthorized = await stack.enter_async_context(
            refusing(401, b"invalid API token: it was revoked on 2026-11-01")
        )
        process, write, admin = await stack.enter_async_context(
            relay(folder, "--config", str(config), port=ingest, module=module)
        )
        traffic = await stack.enter_async_context(Traffic(write).running())
        yield Platform(
            folder,
            config,
            f"https://127.0.0.1:{port}",
            process,
            traffic,
            good,
            unauthorized,
            admin,
            ingest,
        )
