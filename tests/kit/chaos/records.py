"""Logs, traces and OTLP metrics of two projects, sent until acknowledged, and what must arrive.

* A request has resources of both projects and of nobody, in any order, with unknown fields. Each
  record, with the heads of its resource and scope, arrives byte for byte as it was sent; a point of
  OTLP metrics arrives in equal messages, and at remote write with its value.
* An endpoint gets what its project's exporter selects and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import aiohttp
from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, NumberDataPoint

from tests.kit.chaos.arrivals import Arrived, Deaths
from tests.kit.chaos.endpoint import WRITE_PATH, ChaosEndpoint
from tests.kit.exporter_yaml import exporter_of
from tests.kit.http.otlp_server import decompress
from tests.kit.oracle.any_points import bits
from tests.kit.oracle.written_points import read_written
from tests.kit.otlp.metrics_requests import rows
from tests.kit.otlp.official import LOGS, METRICS, TRACES, Kind, any_value, attribute
from tests.kit.otlp.raw_records import nested, raw_records, written
from tests.kit.processes import free_port

Signal = Literal["logs", "traces", "metrics"]
SIGNALS: tuple[Signal, ...] = ("logs", "traces", "metrics")
KINDS: Mapping[Signal, Kind] = {"logs": LOGS, "traces": TRACES, "metrics": METRICS}
PROJECTS = ("acme", "rival", "")
"""Of resources; "" is nobody."""
SERVICES = ("svc-1", "svc-2")
UNKNOWN = (b"", b"\xf8\x3f\x07", b"\xfa\x3f\x03abc", b"\xfd\x3f1234")
"""Encoded fields that no message of OTLP has."""
RETRY_S = 0.05
T0_NS = 1_700_000_000 * 10**9
NUMBERS, DELTAS = "otlp.numbers", "otlp.deltas"
DELTA, CUMULATIVE = 1, 2


@dataclass(frozen=True)
class Place:
    """An endpoint: whose exporter sends to it, what that selects, and how it is sent."""

    project: str
    signals: tuple[Signal, ...] = SIGNALS
    services: tuple[str, ...] = SERVICES
    metric: str = NUMBERS
    flaky: bool = False
    otlp_http: Mapping[str, Any] | None = field(default_factory=dict)
    """None for remote write."""

    def sources(self) -> Iterator[dict[str, Any]]:
        """Yield the sources of its exporter."""
        one = len(self.services) == 1
        for signal in self.signals:
            if signal == "metrics":
                name = self.metric.replace(".", "_")
                rest = f',"service.name"="{self.services[0]}"' if one else ""
                yield {"name": signal, signal: {"metricsql": f'{{__name__="{name}"{rest}}}'}}
            else:
                selector = f'{{service_name="{self.services[0]}"}}' if one else ""
                yield {"name": signal, signal: {"selector": selector}}

    def manifest(self, name: str, origin: str) -> str:
        """Return its exporter, which sends small batches soon and tries again soon."""
        timeout = {"timeout": "500ms" if self.flaky else "30s"}
        sink: dict[str, Any] = {"name": "endpoint"}
        if self.otlp_http is None:
            sink["prometheusRemoteWrite"] = {"endpoint": origin + WRITE_PATH, **timeout}
        else:
            sink["otlp_http"] = {"endpoint": origin, **timeout, **self.otlp_http}
        sink |= {"retry": {"backoff": "20ms"}, "batch": {"timeout": "50ms", "maxSize": 200}}
        return exporter_of(name, list(self.sources()), [sink])


PLACES: Mapping[str, Place] = {
    "acme-all": Place("acme"),
    "acme-picky": Place(
        "acme", services=SERVICES[:1], flaky=True, otlp_http={"compression": "zstd"}
    ),
    "acme-deltas": Place("acme", ("metrics",), metric=DELTAS, otlp_http={"temporality": "delta"}),
    "acme-written": Place("acme", ("metrics",), otlp_http=None),
    "rival-all": Place("rival", flaky=True, otlp_http={"compression": "none"}),
}

WRITTEN = frozenset(name for name, place in PLACES.items() if place.otlp_http is None)


class Expected(NamedTuple):
    """A record or point: the request that it came in, and the endpoints that are to get it."""

    group: str
    places: frozenset[str]


class RecordsOracle:
    """Knows what was sent, and says what is wrong with what arrives."""

    def __init__(self, deaths: Deaths) -> None:
        self.arrivals = {name: Arrived() for name in PLACES}
        self.expected: dict[Hashable, Expected] = {}
        self.acknowledged = 0
        """Requests."""
        self.missing: dict[str, set[Hashable]] = {name: set() for name in PLACES}
        """What each endpoint ought to have, since it was acknowledged, and has not."""
        self.counts: dict[str, int] = defaultdict(int)
        """Records and points sent, by signal."""
        self._deaths = deaths
        self._groups: dict[str, list[Hashable]] = defaultdict(list)

    def send(self, key: Hashable, expected: Expected) -> None:
        """Know a record or point before it is sent."""
        assert key not in self.expected
        self.expected[key] = expected
        self._groups[expected.group].append(key)

    def acknowledge(self, group: str) -> None:
        """The relay answered 200 to a request."""
        self.acknowledged += 1
        for key in self._groups.pop(group):
            for name in self.expected[key].places:
                if key not in self.arrivals[name].counts:
                    self.missing[name].add(key)

    def arrive(self, endpoint: str, points: Sequence[Any]) -> None:
        """An endpoint took these. AssertionError for what was never sent to it like that."""
        now = time.monotonic()
        arrived = self.arrivals[endpoint]
        for key in points:
            expected = self.expected.get(key)
            assert expected is not None, f"{endpoint}: {key} was never sent"
            assert endpoint in expected.places, f"{endpoint} must not get {key}"
            if arrived.take(key, expected.group, now):
                self.missing[endpoint].discard(key)
            elif not PLACES[endpoint].flaky:
                arrived.again(key, expected.group, self._deaths)

    def describe(self) -> Iterator[str]:
        """Figures, a line for each endpoint."""
        yield f"sent {dict(self.counts)} in {self.acknowledged} acknowledged requests"
        for name, arrived in self.arrivals.items():
            missing = len(self.missing[name])
            yield f"{name}: {len(arrived.counts)} arrived, {missing} missing, {arrived.figures()}"

    def __repr__(self) -> str:
        return f"<RecordsOracle {len(self.expected)} sent>"


class RecordsEndpoint(ChaosEndpoint):
    """An endpoint of all signals of OTLP, or of remote write."""

    def decode(self, body: bytes, request: web.Request) -> Sequence[Any]:
        """Return the oracle's keys of what is in a request."""
        if request.path == WRITE_PATH:
            points = read_written(body, content_type=request.headers["Content-Type"])
            return [(one.name, one.value_bits) for one in points]
        plain = decompress(body, request.headers.get("Content-Encoding", ""))
        if request.path == "/v1/metrics":
            return rows(plain)
        return list(raw_records(plain))


class RecordsTraffic:
    """Exporters of two projects, their endpoints, and senders of the three signals.

    ``retry_s``: after which time what was not acknowledged is sent again.
    """

    def __init__(self, deaths: Deaths, rng: random.Random, *, retry_s: float = RETRY_S) -> None:
        self.oracle = RecordsOracle(deaths)
        self.endpoints = {name: RecordsEndpoint(name, self.oracle, free_port()) for name in PLACES}
        self._deaths = deaths
        self._rng = rng
        self._retry_s = retry_s
        self._numbers = 0

    async def send_again_and_again(
        self, session: aiohttp.ClientSession, origin: str, goes_on: Callable[[], bool]
    ) -> None:
        """Send requests of all signals one after another, as long as it goes on."""
        while goes_on():
            await self.send(session, origin, self._rng.choice(SIGNALS))
            await asyncio.sleep(self._rng.uniform(0.0, 0.05))

    def check(self, *, slack_s: float) -> None:
        """Everything that must hold at the end; see :meth:`tests.kit.chaos.sets.SetsRun.check`."""
        story = "\n".join(self.oracle.describe())
        for name, endpoint in self.endpoints.items():
            assert not endpoint.failures, endpoint.failures[0]
            missing = self.oracle.missing[name]
            assert not missing, f"{name} misses {[*missing][:3]}\n{story}"
            assert self.oracle.arrivals[name].counts, f"{name} got nothing\n{story}"
            oldest = max(self.oracle.arrivals[name].again_despite_s, default=0.0)
            assert oldest < slack_s, f"{name}: {oldest}\n{story}"

    def manifests(self, project: str) -> str:
        """Return the exporters of a project."""
        return "".join(
            place.manifest(name, self.endpoints[name].origin)
            for name, place in PLACES.items()
            if place.project == project
        )

    async def misbehave(self) -> None:
        """Have the flaky endpoints misbehave, until cancelled; in the end they are well again."""
        async with asyncio.TaskGroup() as tasks:
            for name, place in PLACES.items():
                if place.flaky:
                    rng = random.Random(self._rng.randrange(1 << 30))
                    tasks.create_task(self.endpoints[name].misbehave(rng))

    async def send(self, session: aiohttp.ClientSession, origin: str, signal: Signal) -> None:
        """Send a request of a signal again and again until it is acknowledged."""
        self._numbers += 1
        group = f"{signal}-{self._numbers}"
        body, nobodys = self._request(signal, group)
        headers = {"Content-Type": "application/x-protobuf"}
        if self._rng.random() < 0.5:
            body = gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.post(
                    f"{origin}/v1/{signal}", data=body, headers=headers
                ) as response:
                    answer = await response.read()
                    if response.status == 200:
                        self.oracle.acknowledge(group)
                        # The same field numbers in the answers of all signals.
                        told = ExportLogsServiceResponse.FromString(answer).partial_success
                        assert told.rejected_log_records == nobodys, told
                        return
                    assert response.status == 503, f"{response.status}: {answer!r}"
            self._deaths.resent.add(group)
            await asyncio.sleep(self._retry_s)

    def _request(self, signal: Signal, group: str) -> tuple[bytes, int]:
        """Return a request that no other is like, and how many of its records are nobody's."""
        rng, body, nobodys = self._rng, b"", 0
        for number in range(rng.randint(1, 3)):
            project, service = rng.choice(PROJECTS), rng.choice(SERVICES)
            own = [attribute("service.name", service), attribute("group", f"{group}-{number}")]
            if project:
                own.insert(rng.randrange(3), attribute("milo.project.id", project))
            resource = KINDS[signal].resource()
            resource.resource.attributes.extend(own)
            counts = [rng.choice((1, 5, 40)) for _ in range(rng.randint(1, 2))]
            nobodys += 0 if project else sum(counts)
            self.oracle.counts[signal] += sum(counts)
            if signal == "metrics":
                body += self._points(resource, counts, group, project, service)
                continue
            head = rng.choice(UNKNOWN) + resource.SerializeToString() + nested(3, b"https://r")
            scopes = []
            for at, count in enumerate(counts):
                scope = KINDS[signal].scope(schema_url=f"https://s/{at}")
                scope.scope.name = "scope"
                scope_head = scope.SerializeToString() + rng.choice(UNKNOWN)
                records = [self._record(signal) for _ in range(count)]
                scopes.append((scope_head, records))
            one = written(head, scopes)
            body += one
            for key in raw_records(one):
                self.oracle.send(key, Expected(group, self._places(signal, project, service)))
        return body, nobodys

    def _record(self, signal: Signal) -> bytes:
        """Return a record that no other is like, with unknown fields in front or behind."""
        self._numbers += 1
        record = KINDS[signal].record()
        record.attributes.append(attribute("number", self._numbers))
        if signal == "logs":
            record.time_unix_nano = T0_NS + self._numbers
            record.body.CopyFrom(any_value({"text": "x" * self._rng.choice((3, 100))}))
        else:
            record.trace_id, record.name = self._numbers.to_bytes(16), "span"
        before, after = self._rng.choice(UNKNOWN), self._rng.choice(UNKNOWN)
        return before + bytes(record.SerializeToString()) + after

    def _points(
        self, resource: Any, counts: Sequence[int], group: str, project: str, service: str
    ) -> bytes:
        """Return the one resource of a request, with as many points in each scope."""
        for at, count in enumerate(counts):
            scope = resource.scope_metrics.add()
            scope.scope.name = f"scope-{at}"
            for _ in range(count):
                self._numbers += 1
                name = self._rng.choice((NUMBERS, DELTAS))
                total = scope.metrics.add(name=name).sum
                total.aggregation_temporality = DELTA if name == DELTAS else CUMULATIVE
                total.data_points.add(
                    as_double=self._numbers,
                    start_time_unix_nano=T0_NS,
                    time_unix_nano=T0_NS + self._numbers * 10**9,
                    attributes=[attribute("number", self._numbers)],
                )
        body = METRICS.request(resource_metrics=[resource]).SerializeToString()
        for key in rows(body):
            name = Metric.FromString(key.metric).name
            places = self._places("metrics", project, service, name)
            self.oracle.send(key, Expected(group, places - WRITTEN))
            value = NumberDataPoint.FromString(key.point).as_double
            sample = (name.replace(".", "_"), bits(value))
            self.oracle.send(sample, Expected(group, places & WRITTEN))
        return bytes(body)

    @staticmethod
    def _places(
        signal: Signal, project: str, service: str, metric: str = NUMBERS
    ) -> frozenset[str]:
        return frozenset(
            name
            for name, place in PLACES.items()
            if (place.project, place.metric) == (project, metric)
            and signal in place.signals
            and service in place.services
        )
