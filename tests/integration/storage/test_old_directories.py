"""Data directories that earlier revisions wrote open, and everything in them is delivered.

``tests/kit/stored_directories.py`` says what they hold, and writes those of another revision.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay.app import Relay
from relay.config.settings.settings import ListenAddress, load_settings
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.paths import DATA
from tests.kit.processes import eventually
from tests.kit.stored_directories import (
    HALF_ROUND,
    NAMES,
    ROUNDS,
    TENANTS,
    Point,
    arrived,
    configure,
    half_histogram,
    plain_headers,
    points,
    samples,
    snappy,
)

ROOT = DATA / "data_directories"
FORMATS = sorted(path.name for path in ROOT.iterdir())
RETRIES_S = 15.0
"""Longer than the delays that the cursors of stored queues name."""
LATER = HALF_ROUND + 10
"""A round that nobody has seen."""


def hashable(point: Point | list[Any]) -> tuple[Any, ...]:
    """A point as a set takes it."""
    name, kind, n, time_ms, value = point
    return name, kind, n, time_ms, json.dumps(value)


@dataclass
class Opened:
    """A relay on a copy of a stored directory, and the endpoints as they are since."""

    relay: Relay
    servers: dict[str, OtlpServer]
    story: dict[str, Any]
    session: aiohttp.ClientSession

    def taken(self, name: str) -> Counter[tuple[Any, ...]]:
        """What an endpoint has taken since the directory was opened."""
        return Counter(map(hashable, arrived(self.servers[name].taken)))

    def taken_before(self, name: str) -> Counter[tuple[Any, ...]]:
        """What it had taken when the directory was left."""
        return Counter(map(hashable, self.story["taken"][name]))

    @property
    def acknowledged(self) -> Counter[tuple[Any, ...]]:
        """What senders were promised, once for each project."""
        points = map(hashable, self.story["acknowledged"])
        return Counter({point: len(self.story["projects"]) for point in points})

    async def post(self, body: bytes) -> None:
        """Send a request as each of the projects."""
        for project in self.story["projects"]:
            url = f"http://{self.relay.ingest_address}{TENANTS[project]}/api/v1/write"
            async with self.session.post(
                url, data=snappy(body), headers=plain_headers()
            ) as response:
                assert response.status == 204


@asynccontextmanager
async def opened(stored: Path, directory: Path) -> AsyncIterator[Opened]:
    """Open a copy of a stored directory, soon after it was left: no retry is still waited for."""
    story = json.loads((stored / "story.json").read_text())
    shutil.copytree(stored / "data", directory / "data")
    shift_s = story["writtenAt"] + RETRIES_S - time.time()
    async with AsyncExitStack() as stack:
        servers = {name: await stack.enter_async_context(OtlpServer()) for name in NAMES}
        urls = {name: server.url for name, server in servers.items()}
        settings = load_settings(configure(directory, urls, projects=story["projects"]), {})
        anywhere = ListenAddress("127.0.0.1", 0)
        settings = replace(settings, listen=anywhere, admin_listen=anywhere)
        relay = Relay(settings, clock=lambda: time.time() + shift_s)
        await relay.start()
        stack.push_async_callback(relay.stop)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Opened(relay, servers, story, session)


@pytest.fixture(params=FORMATS)
def directories(request: pytest.FixtureRequest) -> Path:
    """The stored directories of one format."""
    return ROOT / str(request.param)


@pytest.mark.parametrize("name", ["killed", "killed-tenants"])
async def test_after_a_kill_everything_acknowledged_is_delivered(
    directories: Path, tmp_path: Path, name: str
) -> None:
    async with opened(directories / name, tmp_path) as it:
        wanted = it.acknowledged
        # The rest of a histogram whose first half was acknowledged before the kill.
        start_ms = it.story["startMs"]
        await it.post(half_histogram(start_ms, HALF_ROUND, totals=True))
        (whole,) = [
            hashable(point) for point in points(start_ms, HALF_ROUND) if point[0] == "latency"
        ]
        wanted[whole] = len(it.story["projects"])
        for endpoint in ("good", "behind"):
            await eventually(
                f"{endpoint} has everything",
                lambda endpoint=endpoint: (
                    not (wanted - (it.taken(endpoint) + it.taken_before(endpoint)))
                ),
                timeout_s=20,
            )
            assert set(it.taken(endpoint)) <= set(wanted), "nothing else"


async def test_after_a_stop_everything_arrives_exactly_once(
    directories: Path, tmp_path: Path
) -> None:
    async with opened(directories / "stopped", tmp_path) as it:
        wanted = it.acknowledged
        await eventually(
            "everything is there",
            lambda: not (wanted - it.taken("behind")),
            timeout_s=15,
        )
        assert it.taken("behind") == wanted
        for endpoint in ("good", "increments", "staging"):
            assert not it.taken(endpoint), "not once more"


@pytest.mark.parametrize("name", ["killed", "killed-tenants", "stopped"])
async def test_what_was_learned_is_known(directories: Path, tmp_path: Path, name: str) -> None:
    async with opened(directories / name, tmp_path) as it:
        start_ms = it.story["startMs"]
        await eventually("it is ready", lambda: not it.relay.not_ready(), timeout_s=15)
        await it.post(samples(start_ms, LATER))
        later = Counter(map(hashable, points(start_ms, LATER)))
        projects = len(it.story["projects"])
        for endpoint in ("good", "behind"):
            await eventually(
                f"{endpoint} has the new points, typed by metadata of long ago",
                lambda endpoint=endpoint: all(
                    it.taken(endpoint)[point] == projects for point in later
                ),
                timeout_s=15,
            )
        temperature = [point for point in later if point[0] == "temperature"]
        await eventually(
            "labels that a series told are known",
            lambda: all(it.taken("staging")[point] == projects for point in temperature),
            timeout_s=15,
        )
        # Format 1 does not say which project taught a type: with tenancy it is the platform's, of
        # which projects get the type alone.
        is_owned = projects == 1 or directories.name != "format-1"
        words = ("jobs", "Jobs that were done.") if is_owned else ("", "")
        for metric in metrics_of(it.servers["good"]):
            if metric.name == "jobs_done":
                assert metric.sum.is_monotonic, metric
                assert (metric.unit, metric.description) == words, metric


async def test_deltas_go_on_after_a_stop(directories: Path, tmp_path: Path) -> None:
    async with opened(directories / "stopped", tmp_path) as it:
        start_ms = it.story["startMs"]
        await it.post(samples(start_ms, LATER))
        await eventually("5 increments", lambda: it.taken("increments").total() == 5, timeout_s=15)
        increments = {point[:4]: json.loads(point[4]) for point in it.taken("increments")}
        time_ms = start_ms + 1000 * LATER
        last = ROUNDS[-1]
        for n in range(3):
            assert increments["jobs_done", "sum", str(n), time_ms] == 100 * (LATER - last)
        # The last round, a request of 2.0, had no histogram.
        more = LATER - (last - 1)
        assert increments["latency", "histogram", "", time_ms] == [3 * more, 1.5 * more, [more] * 3]


def metrics_of(server: OtlpServer) -> Iterator[Any]:
    """Every metric that an endpoint took."""
    for request in server.taken:
        for resource in request.message.resource_metrics:
            for scope in resource.scope_metrics:
                yield from scope.metrics
