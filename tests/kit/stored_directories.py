"""Data directories as a revision of the relay left them, and what has to come out of them.

``python -m tests.kit.stored_directories CHECKOUT OUT`` lets the relay of a checkout write them;
the tests open copies of those in ``tests/data/data_directories``. Each has ``data`` and
``story.json``: when it was written (wall clock, s), what was acknowledged, and what each endpoint
had taken by then.

Endpoints: ``good`` and ``staging`` (metrics of namespaces that a series told to be staging) take
everything, ``increments`` wants deltas, ``behind`` answers 503.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.processes import eventually, free_port, get_json, started
from tests.kit.remote_write import prompb
from tests.kit.remote_write.raw import snappy, zstd

NAMES = ("good", "behind", "increments", "staging")
ROUNDS = range(1, 10)
"""Of samples, each a request of its own; what the first :data:`STORED_ROUNDS` brought is in the
queue on disk of ``behind``, the rest in the journal alone (after a kill)."""
STORED_ROUNDS = 6
HALF_ROUND = 10
"""Whose histogram is sent in halves, where the relay is killed in between."""
BOUNDS = (0.1, 1.0)

COUNTER, GAUGE, HISTOGRAM = 1, 2, 3

Point = tuple[str, str, str, int, Any]
"""Name, kind, value of the label ``n``, time in ms, value (of a histogram count, sum, buckets)."""

_ALL = '{__name__=~"jobs_done|temperature|latency.*"}'
_STAGING = {
    "resourceSelectors": [
        {
            "namespaceSelector": {"matchLabels": {"environment": "staging"}},
            "kinds": [{"apiGroups": ["*"], "kind": ["*"]}],
        }
    ]
}
_SETTINGS = """
exporters: {exporters}
storage: {{path: data}}
shutdown: {{drainTimeout: 2s}}
translation: {{deltaMaxAge: 168h, assemblyTimeout: 3s}}
allowPrivateEndpoints: true
{tenancy}
"""
_TENANCY = """
tenancy:
  accounts:
    - {account: "42:7", project: acme}
    - {account: "43", project: globex}
"""
TENANTS = {"": "", "acme": "/insert/42:7/prometheus", "globex": "/insert/43/prometheus"}
"""By project, the path that its requests have before ``/api/v1/write``."""


def configure(directory: Path, urls: Mapping[str, str], *, projects: Iterable[str]) -> Path:
    """Write settings and Exporters to these endpoints; returns the settings' path."""
    entries = []
    for project in projects:
        path = directory / f"exporters{project}.yaml"
        path.write_text(
            "".join(
                exporter_yaml(
                    name,
                    urls[name],
                    metrics=_STAGING if name == "staging" else _ALL,
                    otlp_http={"temporality": "delta" if name == "increments" else "cumulative"},
                    batch={"timeout": "10ms"},
                    retry={"backoff": "50ms"},
                    queue={"maxAge": "720h"},
                )
                for name in NAMES
            )
        )
        entries.append({"path": path.name, **({"project": project} if project else {})})
    tenancy = "" if "" in projects else _TENANCY
    settings = directory / "relay.yaml"
    settings.write_text(_SETTINGS.format(exporters=json.dumps(entries), tenancy=tenancy))
    return settings


def introduction(start_ms: int) -> bytes:
    """A request with metadata, a namespace's labels and a target's ``target_info``."""
    message: Any = prompb.WriteRequest()
    for name, kind, text, unit in (
        ("jobs_done", COUNTER, "Jobs that were done.", "jobs"),
        ("temperature", GAUGE, "How hot it is.", "celsius"),
        ("latency", HISTOGRAM, "How long it took.", "seconds"),
    ):
        message.metadata.add(metric_family_name=name, type=kind, help=text, unit=unit)
    _add(message, "kube_namespace_labels", 1.0, start_ms, namespace="shop", **STAGING_LABEL)
    _add(message, "target_info", 1.0, start_ms, version="1.2")
    return bytes(message.SerializeToString())


STAGING_LABEL = {"label_environment": "staging"}


def samples(start_ms: int, number: int) -> bytes:
    """A request with one round of samples, a whole histogram included."""
    message: Any = prompb.WriteRequest()
    for name, _, n, time_ms, value in points(start_ms, number):
        if name == "latency":
            _add_buckets(message, time_ms, value)
            _add_totals(message, time_ms, value)
        elif name == "temperature":
            _add(message, name, value, time_ms, n=n, resource_namespace="shop", **_OBJECT)
        else:
            _add(message, name, value, time_ms, n=n)
    return bytes(message.SerializeToString())


_OBJECT = {"resource_kind": "Gateway", "resource_name": "front"}


def half_histogram(start_ms: int, number: int, *, totals: bool) -> bytes:
    """A request with the buckets of a round's histogram, or with its sum and count."""
    message: Any = prompb.WriteRequest()
    for name, _, _, time_ms, value in points(start_ms, number):
        if name == "latency":
            (_add_totals if totals else _add_buckets)(message, time_ms, value)
    return bytes(message.SerializeToString())


def samples2(start_ms: int, number: int) -> bytes:
    """The same as a request of remote write 2.0, without the histogram."""
    message: Any = prompb.RequestV2()
    symbols = [""]

    def reference(text: str) -> int:
        if text not in symbols:
            symbols.append(text)
        return symbols.index(text)

    for name, _, n, time_ms, value in points(start_ms, number):
        if name == "latency":
            continue
        series = message.timeseries.add()
        labels = {"__name__": name, "instance": "api-0", "job": "api", "n": n}
        if name == "temperature":
            labels |= {"resource_namespace": "shop", **_OBJECT}
        for key in sorted(labels):
            series.labels_refs.extend((reference(key), reference(labels[key])))
        series.samples.add(value=value, timestamp=time_ms)
        series.metadata.type = COUNTER if name == "jobs_done" else GAUGE
    message.symbols.extend(symbols)
    return bytes(message.SerializeToString())


def points(start_ms: int, number: int) -> Iterator[Point]:
    """What a round of samples is to arrive as, at a cumulative endpoint."""
    time_ms = start_ms + 1000 * number
    for n in range(3):
        yield "jobs_done", "sum", str(n), time_ms, float(100 * number + n)
    yield "temperature", "gauge", "0", time_ms, 20.5 + number
    if number != ROUNDS[-1]:  # the request of 2.0
        yield "latency", "histogram", "", time_ms, [3 * number, 1.5 * number, [number] * 3]


def arrived(requests: Iterable[Received]) -> Iterator[Point]:
    """The points in requests that an endpoint took."""
    for request in requests:
        for resource in request.message.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    kind = str(metric.WhichOneof("data"))
                    for point in getattr(metric, kind).data_points:
                        labels = {one.key: one.value.string_value for one in point.attributes}
                        value = (
                            [point.count, point.sum, list(point.bucket_counts)]
                            if kind == "histogram"
                            else point.as_double
                        )
                        time_ms = point.time_unix_nano // 1_000_000
                        yield metric.name, kind, labels.get("n", ""), time_ms, value


def _add(message: Any, name: str, value: float, time_ms: int, **labels: str) -> None:
    series = message.timeseries.add()
    named = {"__name__": name, "instance": "api-0", "job": "api", **labels}
    for key in sorted(named):
        series.labels.add(name=key, value=named[key])
    series.samples.add(value=value, timestamp=time_ms)


def _add_buckets(message: Any, time_ms: int, value: Any) -> None:
    total = 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), value[2], strict=True):
        total += count
        _add(message, "latency_bucket", float(total), time_ms, le=bound)


def _add_totals(message: Any, time_ms: int, value: Any) -> None:
    _add(message, "latency_sum", value[1], time_ms)
    _add(message, "latency_count", float(value[0]), time_ms)


def plain_headers(encoding: str = "snappy", version: int = 1) -> dict[str, str]:
    """The headers of a request."""
    kind = "application/x-protobuf"
    if version == 2:
        kind += ";proto=io.prometheus.write.v2.Request"
    return {"Content-Encoding": encoding, "Content-Type": kind}


def busy(_: Received) -> Reply:
    """The answer of ``behind``."""
    return Reply(503)


class _Writer:
    """Lets a relay write one directory."""

    def __init__(self, session: aiohttp.ClientSession, url: str, projects: Iterable[str]) -> None:
        self._session = session
        self._url = url
        self._projects = tuple(projects)

    async def post(self, body: bytes, headers: Mapping[str, str]) -> None:
        for project in self._projects:
            url = f"{self._url}{TENANTS[project]}/api/v1/write"
            async with self._session.post(url, data=body, headers=headers) as response:
                assert response.status == 204, (response.status, await response.text())

    async def round(self, start_ms: int, number: int) -> None:
        if number == ROUNDS[-1]:
            await self.post(snappy(samples2(start_ms, number)), plain_headers(version=2))
        elif number == ROUNDS[-2]:
            await self.post(zstd(samples(start_ms, number)), plain_headers("zstd"))
        else:
            await self.post(snappy(samples(start_ms, number)), plain_headers())


async def write_directory(
    checkout: Path, work: Path, *, number: signal.Signals, projects: tuple[str, ...]
) -> None:
    """Let the relay of a checkout run below ``work`` until it gets the signal."""
    async with AsyncExitStack() as stack:
        servers = {name: await stack.enter_async_context(OtlpServer()) for name in NAMES}
        servers["behind"].answer = busy
        urls = {name: server.url for name, server in servers.items()}
        settings = configure(work, urls, projects=projects)
        ports = free_port(), free_port()
        command = ["env", "-C", str(checkout), str(checkout / ".venv/bin/python"), "-m", "relay"]
        command += ["run", "--config", str(settings), "--listen", f"127.0.0.1:{ports[0]}"]
        command += ["--admin-listen", f"127.0.0.1:{ports[1]}"]
        admin = f"http://127.0.0.1:{ports[1]}"
        relay = await stack.enter_async_context(
            started(command, log=work / "log", ready_url=f"{admin}/readyz")
        )
        session = await stack.enter_async_context(aiohttp.ClientSession())
        writer = _Writer(session, f"http://127.0.0.1:{ports[0]}", projects)
        start_ms = int(time.time()) * 1000 - 60_000
        await writer.post(snappy(introduction(start_ms)), plain_headers())
        for k in ROUNDS[:STORED_ROUNDS]:
            await writer.round(start_ms, k)

        async def stored() -> bool:
            queues = [
                sink["queue"]["storedBytes"]
                for exporter in (await get_json(f"{admin}/status"))["exporters"]
                for sink in exporter["sinks"]
                if exporter["name"].endswith("/behind")
            ]
            return all(queues)

        await eventually("behind stores its queue", stored, timeout_s=30)
        for k in ROUNDS[STORED_ROUNDS:]:
            await writer.round(start_ms, k)
        acknowledged = [point for k in ROUNDS for point in points(start_ms, k)]
        wanted = len(acknowledged) * len(projects)
        await eventually(
            "good has everything",
            lambda: len(list(arrived(servers["good"].taken))) == wanted,
            timeout_s=30,
        )
        # At least one checkpoint later, whose file is then newer than all of that.
        delivered_at = time.time()
        await writer.post(snappy(introduction(start_ms)), plain_headers())
        await eventually(
            "a checkpoint",
            lambda: (work / "data/checkpoint").stat().st_mtime > delivered_at,
            timeout_s=30,
        )
        if number == signal.SIGKILL:
            await writer.post(
                snappy(half_histogram(start_ms, HALF_ROUND, totals=False)), plain_headers()
            )
        await relay.stop(number)
        story = {
            "writtenAt": time.time(),
            "startMs": start_ms,
            "projects": projects,
            "acknowledged": acknowledged,
            "taken": {name: list(arrived(server.taken)) for name, server in servers.items()},
        }
    (work / "story.json").write_text(json.dumps(story, separators=(",", ":")) + "\n")


async def main(checkout: Path, out: Path) -> None:
    """Write every directory below ``out``."""
    for name, number, projects in (
        ("killed", signal.SIGKILL, ("",)),
        ("stopped", signal.SIGTERM, ("",)),
        ("killed-tenants", signal.SIGKILL, ("acme", "globex")),
    ):
        work = out / name
        work.mkdir(parents=True)
        await write_directory(checkout, work, number=number, projects=projects)
        print((work / "log").read_text())
        for path in work.iterdir():
            if path.name not in ("data", "story.json"):
                path.unlink()
        (work / "data/lock").unlink()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
