"""Deaths and stops under sets in pieces, new families, large blocks, and all signals of OTLP.

The senders do what Prometheus and vmagent do: whatever is not acknowledged is sent again until it
is. So every sample arrives in the end, every histogram and summary whole, and what is delivered
twice was first delivered shortly before a death. An endpoint of remote write gets the same samples
as they were sent, one by one. Beside them go logs, traces and OTLP metrics of two projects, see
:mod:`tests.kit.chaos.records`; all samples of remote write belong to the first one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from tests.kit.chaos.arrivals import Arrived, Deaths
from tests.kit.chaos.endpoint import ChaosEndpoint
from tests.kit.chaos.records import RecordsTraffic
from tests.kit.chaos.run import Report, Run, chaos_exporter
from tests.kit.oracle.any_points import AnyPoint, bits, read_points
from tests.kit.oracle.written_points import WrittenPoint, read_written
from tests.kit.processes import free_port
from tests.kit.remote_write.raw import HEADERS, snappy
from tests.kit.remote_write.sample_writes import T0_MS, histogram, write

SETTINGS = """
storage:
  path: data
tenancy: {label: tenant, accounts: [{account: "1", project: acme}]}
allowPrivateEndpoints: true
exporters:
  - {path: acme.yaml, project: acme}
  - {path: rival.yaml, project: rival}
translation:
  firstSightWait: 10s
  assemblyTimeout: 30s
shutdown:
  drainTimeout: 300ms
"""

ENDPOINTS = {
    "steady": '{__name__!~"(block|otlp).*"}',
    "flaky": '{__name__!~"(block|otlp).*"}',
    "blocks": '{__name__=~"block.*"}',
}
WRITTEN = "written"
"""The endpoint of remote write; it gets what ``steady`` gets."""
FLAKY = frozenset({"flaky"})
BLOCK_SERIES = 60_000
FAMILIES = 6
"""Known ones of each sender; new ones come all the time besides."""
RETRY_S = 0.05
SETS_TOGETHER = 4


class Key(NamedTuple):
    """One point: its metric and the ms of its time. Names differ from sender to sender."""

    name: str
    at_ms: int


IN_FLIGHT_S = 0.25
"""How long after a death its last requests may arrive. The next process needs longer to start."""


class SetsOracle:
    """Knows what was sent, and says what is wrong with what arrives."""

    def __init__(self, deaths: Deaths) -> None:
        self.arrivals = {name: Arrived() for name in ENDPOINTS}
        self.written: Counter[WrittenPoint] = Counter()
        """Samples that arrived by remote write."""
        self.samples_sent: set[WrittenPoint] = set()
        self.samples_acknowledged: set[WrittenPoint] = set()
        self.sent: dict[Key, Any] = {}
        self.whole: set[Key] = set()
        """Points all of whose samples were acknowledged."""
        self.blocks: dict[int, int] = {}
        """Samples that arrived of each block, by its ms."""
        self.blocks_sent: set[int] = set()
        self.deaths = deaths

    def arrive(self, endpoint: str, points: Sequence[Any]) -> None:
        """An endpoint took these. AssertionError for what was never sent like that."""
        if endpoint == WRITTEN:
            for point in points:
                assert point in self.samples_sent, f"{endpoint}: {point} was never sent"
            self.written.update(points)
            return
        now = time.monotonic()
        arrived = self.arrivals[endpoint]
        for point in points:
            at_ms = point.time_ns // 1_000_000
            if point.name == "block_value":
                key = Key(dict(point.attributes)["n"], at_ms)
            else:
                key = Key(point.name, at_ms)
                expected = self.sent.get(key)
                assert expected is not None, f"{endpoint}: {key} was never sent: {point}"
                assert point.data == expected, f"{endpoint}: {key} is torn: {point.data}"
            if arrived.take(key, group_of(key), now):
                if point.name == "block_value":
                    self.blocks[at_ms] = self.blocks.get(at_ms, 0) + 1
            elif endpoint not in FLAKY:
                # A flaky endpoint takes a request, says nothing, and gets it again.
                arrived.again(key, group_of(key), self.deaths)

    def missing(self, endpoint: str) -> list[Key]:
        """Acknowledged points that an endpoint ought to have and has not."""
        if endpoint == WRITTEN:
            lost = self.samples_acknowledged - self.written.keys()
            return [Key(point.name, point.time_ns // 1_000_000) for point in lost]
        if endpoint == "blocks":
            blocks = [at for at in self.blocks_sent if self.blocks.get(at, 0) < BLOCK_SERIES]
            return [Key("block_value", at_ms) for at_ms in blocks]
        counts = self.arrivals[endpoint].counts
        return sorted(key for key in self.whole if key not in counts)

    def complete(self) -> bool:
        """Whether everything arrived wherever it belongs."""
        return not any(self.missing(name) for name in (*self.arrivals, WRITTEN))

    def describe(self) -> Iterator[str]:
        """Figures, a line for each endpoint."""
        sets = sum(not isinstance(data, int) for data in self.sent.values())
        again = self.written.total() - len(self.written)
        yield f"{WRITTEN}: {len(self.written)} samples arrived, {again} duplicates"
        yield f"sent {len(self.sent)} points, {sets} of them sets; {len(self.blocks_sent)} blocks"
        for name, arrived in self.arrivals.items():
            missing = len(self.missing(name))
            yield f"{name}: {len(arrived.counts)} arrived, {missing} missing, {arrived.figures()}"

    def __repr__(self) -> str:
        return f"<SetsOracle {len(self.sent)} sent>"


class SetsRun(Run):
    """One run; ``check`` says what must hold at its end.

    ``stops`` is the share of deaths by SIGTERM; ``typed`` the share of families with metadata.
    """

    oracle: SetsOracle  # type: ignore[assignment]

    def __init__(
        self, directory: Path, *, seed: int, stops: float = 0.4, typed: float = 0.5
    ) -> None:
        super().__init__(directory, seed=seed)
        self._stops = stops
        self._typed = typed
        deaths = Deaths()
        self.records = RecordsTraffic(deaths, random.Random(seed))
        self.oracle = SetsOracle(deaths)
        self.endpoints = {
            name: ChaosEndpoint(name, self.oracle, free_port(), _points)
            for name in (*ENDPOINTS, WRITTEN)
        }
        self.report = Report()

    async def kill_again_and_again(self, kills: int) -> Report:
        """See :class:`Run`; deaths of either kind are counted."""
        began = time.monotonic()
        self._configure()
        async with contextlib.AsyncExitStack() as stack:
            for endpoint in (*self.endpoints.values(), *self.records.endpoints.values()):
                await stack.enter_async_context(endpoint)
            session = await stack.enter_async_context(aiohttp.ClientSession())
            await stack.enter_async_context(self._running(session))
            senders = [asyncio.create_task(self._send(session, n)) for n in range(3)]
            senders.append(asyncio.create_task(self._send_blocks(session)))
            senders += [asyncio.create_task(self._send_records(session)) for _ in range(2)]
            rng = random.Random(self._rng.randrange(1 << 30))
            troubles = [
                asyncio.create_task(self.endpoints["flaky"].misbehave(rng)),
                asyncio.create_task(self.records.misbehave()),
            ]
            while self.report.kills + self.report.stops < kills:
                # At times at once, while the journal is being replayed.
                await asyncio.sleep(self._rng.choice((0.0, 0.02, 0.2, 1.0, self._rng.random() * 3)))
                await self._die(session)
            self._sending = False
            await asyncio.gather(*senders)
            for trouble in troubles:
                trouble.cancel()
            await asyncio.gather(*troubles, return_exceptions=True)
            await self._drained(session)
        self.report.seconds = time.monotonic() - began
        return self.report

    def check(self, *, slack_s: float = 1.5) -> None:
        """Everything that must hold at the end; AssertionError tells what does not.

        What a checkpoint knew as delivered does not come again. ``slack_s`` is the time from an
        endpoint's answer to a checkpoint that has it. The checkpoint's own time is taken from its
        file, since a busy machine makes it late.
        """
        story = "\n".join([*self.oracle.describe(), repr(self.report)])
        for name, endpoint in self.endpoints.items():
            assert not endpoint.failures, endpoint.failures[0]
            missing = self.oracle.missing(name)
            assert not missing, f"{name} misses {missing[:5]}\n{story}"
        assert not self.report.unbalanced, self.report.unbalanced
        for name in ("steady", "blocks"):
            oldest = max(self.oracle.arrivals[name].again_despite_s, default=0.0)
            assert oldest < slack_s, f"{name}: {oldest}\n{story}"
        self.records.check(slack_s=slack_s)
        log = self._log.read_text()
        assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]
        assert "cannot be replayed" not in log

    def _configure(self) -> None:
        manifests = [
            chaos_exporter(
                name,
                query,
                self.endpoints[name].origin,
                # An answer that comes late is no answer, and healthy endpoints may be slow here.
                timeout="500ms" if name in FLAKY else "30s",
            )
            for name, query in ENDPOINTS.items()
        ]
        written = self.endpoints[WRITTEN].origin
        manifests.append(
            chaos_exporter(WRITTEN, ENDPOINTS["steady"], written, kind="1.0", timeout="30s")
        )
        manifests.append(self.records.manifests("acme"))
        (self._directory / "acme.yaml").write_text("".join(manifests))
        (self._directory / "rival.yaml").write_text(self.records.manifests("rival"))
        (self._directory / "relay.yaml").write_text(SETTINGS)

    async def _die(self, session: aiohttp.ClientSession) -> None:
        assert self._process is not None
        steady = self.oracle.arrivals["steady"]
        self.report.duplicates_after.append(steady.duplicates - self._duplicates)
        self._duplicates = steady.duplicates
        if self._rng.random() < self._stops:
            self._process.send_signal(signal.SIGTERM)
            self.report.stops += 1
        else:
            self._process.kill()
            self.report.kills += 1
        await self._process.wait()
        # What it had handed to the kernel is still read by the endpoints, for a moment.
        self.oracle.deaths.ended.append(time.monotonic() + IN_FLIGHT_S)
        self.oracle.deaths.checkpoints.append(self._checkpointed_at())
        await self._start(session)
        await self._check_ledgers(session)

    def complete(self) -> bool:
        """Whether everything arrived wherever it belongs."""
        return self.oracle.complete() and not any(self.records.oracle.missing.values())

    async def _send_records(self, session: aiohttp.ClientSession) -> None:
        origin = f"http://127.0.0.1:{self._port}"
        await self.records.send_again_and_again(session, origin, lambda: self._sending)

    def _checkpointed_at(self) -> float:
        """Return when the newest checkpoint was written; 0.0 if there is none."""
        try:
            written = (self._directory / "data/checkpoint").stat().st_mtime
        except FileNotFoundError:
            return 0.0
        return time.monotonic() - (time.time() - written)

    async def _send(self, session: aiohttp.ClientSession, sender: int) -> None:
        rng = random.Random(self._rng.randrange(1 << 30))
        number = families = 0
        while self._sending:
            number += 1
            sets = []
            for offset in range(rng.randrange(SETS_TOGETHER)):
                if rng.random() < 0.2:
                    families += 1
                    family = f"s{sender}_new{families}"
                else:
                    family = f"s{sender}_f{rng.randrange(FAMILIES)}"
                sets.append((family, T0_MS + number * 10_000 + 2 * offset))
                if rng.random() < 0.3:  # of one family, and out of order
                    sets.append((family, T0_MS + number * 10_000 + 2 * offset + 1))
            requests = [self._numbers(sender, number, rng)]
            keys = []
            for family, at_ms in sets:
                key, bodies = self._set(family, at_ms, rng)
                keys.append(key)
                requests += bodies
            if len(requests) > 1 and rng.random() < 0.3:
                rng.shuffle(requests)  # sets out of order
            for body in requests:
                await self._post(session, body, f"s{sender}_{number}")
                await asyncio.sleep(rng.uniform(0.0, 0.01))
            self.oracle.whole.update(keys)
            self.oracle.whole.update(self._key_of_numbers(sender, number))
            await asyncio.sleep(rng.uniform(0.0, 0.05))

    def _numbers(self, sender: int, number: int, rng: random.Random) -> bytes:
        del rng
        keys = self._key_of_numbers(sender, number)
        for at, key in enumerate(keys):
            self.oracle.sent[key] = bits(float(number * 100 + at))
        lines = [f"{key.name} {number * 100 + at}" for at, key in enumerate(keys)]
        types = {key.name: "gauge" for key in keys}
        return snappy(write(*lines, at_ms=keys[0].at_ms, types=types))

    @staticmethod
    def _key_of_numbers(sender: int, number: int) -> list[Key]:
        return [Key(f"s{sender}_value{n}", T0_MS + number * 10_000) for n in range(20)]

    def _set(self, family: str, at_ms: int, rng: random.Random) -> tuple[Key, list[bytes]]:
        """A histogram's or a summary's point and the requests that it comes with, in pieces."""
        summary = hash_of(family) % 3 == 0
        value = at_ms % 997 + 3
        if summary:
            lines = [
                f'{family}{{quantile="0.5"}} {value}',
                f'{family}{{quantile="0.9"}} {value + 1}',
                f"{family}_sum {value}",
                f"{family}_count {value}",
            ]
            data = (value, float(value), ((0.5, float(value)), (0.9, float(value + 1))))
        else:
            bounds = (("1", value - 2), ("5", value - 1), ("+Inf", value))
            lines = histogram(family, "", bounds, value, value)
            data = (value, bits(float(value)), (1.0, 5.0), (value - 2, 1, 1))
        kind = {family: "summary" if summary else "histogram"}
        typed = summary or (hash_of(family + "?") % 100) / 100 < self._typed
        rng.shuffle(lines)
        pieces = rng.randint(1, len(lines))
        key = Key(family, at_ms)
        self.oracle.sent[key] = data
        bodies = [
            snappy(write(*lines[n::pieces], at_ms=at_ms, types=kind if typed else None))
            for n in range(pieces)
        ]
        return key, bodies

    async def _send_blocks(self, session: aiohttp.ClientSession) -> None:
        number = 0
        while self._sending:
            number += 1
            at_ms = T0_MS + number * 1000
            await self._post(session, _block(at_ms), f"block_{at_ms}")
            self.oracle.blocks_sent.add(at_ms)
            await asyncio.sleep(8.0)

    async def _post(self, session: aiohttp.ClientSession, body: bytes, group: str) -> None:
        """Send a request until it is acknowledged; ``group`` is that of its points."""
        url = f"http://127.0.0.1:{self._port}/insert/1/prometheus/api/v1/write"
        samples = read_written(body) if not group.startswith("block") else []
        self.oracle.samples_sent.update(samples)
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.post(url, data=body, headers=HEADERS) as response:
                    text = await response.text()
                    if response.status // 100 == 2:
                        self.oracle.samples_acknowledged.update(samples)
                        return
                    assert response.status // 100 == 5, f"{response.status}: {text}"
            self.oracle.deaths.resent.add(group)
            await asyncio.sleep(RETRY_S)


def group_of(key: Key) -> str:
    """Return the group of requests that a point came in."""
    if not key.name.startswith("s"):
        return f"block_{key.at_ms}"
    return f"{key.name.partition('_')[0]}_{(key.at_ms - T0_MS) // 10_000}"


def hash_of(text: str) -> int:
    """A number that is the same in every run."""
    return sum(map(ord, text)) * 7919


def _block(at_ms: int) -> bytes:
    lines = [f'block_value{{n="{number}"}} {number}' for number in range(BLOCK_SERIES)]
    return snappy(write(*lines, at_ms=at_ms, types={"block_value": "gauge"}))


def _points(message: ExportMetricsServiceRequest) -> list[AnyPoint]:
    return read_points(message.SerializeToString())
