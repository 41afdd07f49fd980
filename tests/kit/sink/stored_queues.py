"""A data directory with queues of remote write, as a revision of the relay left it.

``python -m tests.kit.sink.stored_queues CHECKOUT OUT`` lets the relay of a checkout write ``data``
and ``story.json`` (when, in s, and the samples) below OUT. Sinks ``1.0`` and ``2.0`` send to
endpoints that answered 503 until the relay was stopped.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from tests.kit.exporter_yaml import exporter_of
from tests.kit.http.otlp_server import Reply
from tests.kit.http.remote_write_server import RemoteWriteServer
from tests.kit.processes import eventually, free_port, get_json, started
from tests.kit.remote_write.prompb import WriteRequest
from tests.kit.remote_write.raw import snappy

VERSIONS = ("1.0", "2.0")
ROUNDS, SERIES = 5, 4

_SETTINGS = """
exporters: [{path: exporters.yaml}]
storage: {path: data}
shutdown: {drainTimeout: 1s}
allowPrivateEndpoints: true
"""


def configure(directory: Path, urls: Mapping[str, str]) -> Path:
    """Write settings and an Exporter with a sink of each version; returns the settings' path."""
    sinks = [
        {
            "name": f"version-{version[0]}",
            "prometheusRemoteWrite": {"endpoint": urls[version], "protocolVersion": version},
            "batch": {"timeout": "10ms"},
            "retry": {"backoff": "50ms"},
            "queue": {"maxAge": "720h"},
        }
        for version in VERSIONS
    ]
    source = {"name": "all", "metrics": {"metricsql": ""}}
    (directory / "exporters.yaml").write_text(exporter_of("written", [source], sinks))
    settings = directory / "relay.yaml"
    settings.write_text(_SETTINGS)
    return settings


def body(start_ms: int, number: int) -> bytes:
    """A request of one sample of each series."""
    message: Any = WriteRequest()
    for n in range(SERIES):
        series = message.timeseries.add()
        for name, value in (("__name__", "temperature"), ("job", "api"), ("n", str(n))):
            series.labels.add(name=name, value=value)
        series.samples.add(value=float(10 * number + n), timestamp=start_ms + 1000 * number)
    return snappy(message.SerializeToString())


async def write_directory(checkout: Path, work: Path) -> None:
    """Let the relay of a checkout run below ``work``, and stop it with all data queued."""
    async with AsyncExitStack() as stack:
        servers = {one: await stack.enter_async_context(RemoteWriteServer()) for one in VERSIONS}
        for server in servers.values():
            server.script = [Reply(503)] * 10_000
        settings = configure(work, {one: server.url for one, server in servers.items()})
        ports = free_port(), free_port()
        command = ["env", "-C", str(checkout), str(checkout / ".venv/bin/python"), "-m", "relay"]
        command += ["run", "--config", str(settings), "--listen", f"127.0.0.1:{ports[0]}"]
        command += ["--admin-listen", f"127.0.0.1:{ports[1]}"]
        admin = f"http://127.0.0.1:{ports[1]}"
        relay = await stack.enter_async_context(
            started(command, log=work / "log", ready_url=f"{admin}/readyz")
        )
        start_ms = int(time.time()) * 1000 - 60_000
        headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
        async with aiohttp.ClientSession() as session:
            for number in range(ROUNDS):
                url = f"http://127.0.0.1:{ports[0]}/api/v1/write"
                data = body(start_ms, number)
                async with session.post(url, data=data, headers=headers) as response:
                    assert response.status == 204, await response.text()

        async def queued() -> bool:
            (exporter,) = (await get_json(f"{admin}/status"))["exporters"]
            ledgers = [sink["ledger"] for sink in exporter["sinks"]]
            return all(one["queued"] == one["matched"] == ROUNDS * SERIES for one in ledgers)

        await eventually("everything is queued", queued, timeout_s=30)
        await relay.stop()
    story = {"writtenAt": time.time(), "startMs": start_ms}
    (work / "story.json").write_text(json.dumps(story) + "\n")


def main(checkout: Path, work: Path) -> None:
    """Write the directory to ``work``, and print what the relay logged."""
    work.mkdir(parents=True)
    asyncio.run(write_directory(checkout, work))
    print((work / "log").read_text())
    (work / "data/lock").unlink()
    for path in work.iterdir():
        if path.name not in ("data", "story.json"):
            path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
