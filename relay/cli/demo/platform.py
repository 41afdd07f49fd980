"""Simulate a platform: customers with gateways and workloads, and scrapes of them.

* Everything but the times is determined by the number of series and the seed.
* A *round* is one sample of every series of a scraper. A request holds some consecutive targets of
  a round; the samples of a target share their time, and no series has the same time twice.
* A workload restarts now and then: its series end with stale markers, and a new pod's begin at zero
  in the same request.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from relay.cli.demo.instruments import Counter, DemoSeries, Gauge, Histogram, Instrument, Summary
from relay.cli.demo.write_request import (
    COUNTER,
    GAUGE,
    HISTOGRAM,
    STALE,
    SUMMARY,
    DemoFamily,
    encode_metadata,
    encode_series,
    encode_value,
)

PROJECT_LABEL = "resourcemanager_datumapis_com_project_name"
CUSTOMERS = ("acme", "globex", "initech", "hooli")

SAMPLES_PER_REQUEST = 500
"""Samples after which a request ends with the current target; senders' defaults are 500 to
10,000."""

RESTART_ROUNDS = 8
"""Rounds between two restarts of a workload of one scraper."""

_REGIONS = ("eu-west", "us-east", "ap-south")
_BOUNDS_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5)

_SENT = DemoFamily("network_bytes_sent_total", COUNTER, "Bytes sent to clients.", "bytes")
_RECEIVED = DemoFamily("network_bytes_received_total", COUNTER, "Bytes from clients.", "bytes")
_BUFFERED = DemoFamily("network_bytes_buffered", GAUGE, "Bytes waiting to be sent.", "bytes")
_CONNECTIONS = DemoFamily("gateway_connections", GAUGE, "Open client connections.")
_REQUESTS = DemoFamily("http_requests_total", COUNTER, "HTTP requests by class of status.")
_LATENCY = DemoFamily("http_request_duration_seconds", HISTOGRAM, "Response times.", "seconds")
_CPU = DemoFamily("workload_cpu_seconds_total", COUNTER, "CPU time used.", "seconds")
_MEMORY = DemoFamily("workload_memory_bytes", GAUGE, "Resident memory.", "bytes")
_DEPTH = DemoFamily("workload_queue_depth", GAUGE, "Jobs waiting.")
_JOBS = DemoFamily("workload_job_duration_seconds", SUMMARY, "Time per job.", "seconds")
_FAILURES = DemoFamily("workload_failures_total", COUNTER, "Jobs that failed.")

FAMILIES = (
    *(_SENT, _RECEIVED, _BUFFERED, _CONNECTIONS, _REQUESTS, _LATENCY),
    *(_CPU, _MEMORY, _DEPTH, _JOBS, _FAILURES),
)


@dataclass(frozen=True, slots=True)
class Request:
    """One uncompressed WriteRequest, and the number of its samples."""

    body: bytes
    samples: int


class Target:
    """One scrape target. ``build`` makes its instruments from its labels."""

    def __init__(
        self,
        labels: Mapping[str, str],
        build: Callable[[Mapping[str, str]], Sequence[Instrument]],
        *,
        restarts: bool,
    ) -> None:
        self.restarts = restarts
        self._labels = dict(labels)
        self._build = build
        self._starts = 0
        self._scraped_at_ms = 0
        self._instruments: Sequence[Instrument] = ()
        self._start()

    @property
    def series(self) -> list[DemoSeries]:
        """All series that it has now."""
        return [series for instrument in self._instruments for series in instrument.series]

    def scrape(self, now_ms: int, rng: random.Random, *, restart: bool) -> list[bytes]:
        """Return ``timeseries`` fields of one sample; stale markers first if ``restart``."""
        time_ms = self._scraped_at_ms = max(now_ms, self._scraped_at_ms + 1)
        fields: list[bytes] = []
        if restart:
            fields += [encode_series(each.encoded, STALE, time_ms) for each in self.series]
            self._start()
        for instrument in self._instruments:
            instrument.step(rng)
        fields += [
            encode_series(each.encoded, encode_value(each.value), time_ms) for each in self.series
        ]
        return fields

    def _start(self) -> None:
        self._starts += 1
        labels = self._labels
        if self.restarts:
            labels = {**labels, "pod": f"{labels['resource_name']}-{self._starts:04d}"}
        self._instruments = self._build(labels)

    def __repr__(self) -> str:
        return f"<Target {self._labels['resource_name']} started {self._starts} times>"


class Scraper:
    """Turn one agent's share of the targets into an endless sequence of requests."""

    def __init__(self, targets: Sequence[Target], rng: random.Random) -> None:
        assert targets
        self._targets = tuple(targets)
        self._rng = rng
        self._next = 0
        self._round = 0
        self._restarting: Target | None = None

    def metadata(self) -> bytes:
        """Return a WriteRequest of metadata only, with every family, as agents send it."""
        return b"".join(map(encode_metadata, FAMILIES))

    def next_request(self, now_ms: int) -> Request:
        """Return the request of the next targets of the round; never beyond its end."""
        fields: list[bytes] = []
        while len(fields) < SAMPLES_PER_REQUEST:
            target = self._targets[self._next]
            restart = target is self._restarting
            fields += target.scrape(now_ms, self._rng, restart=restart)
            self._next += 1
            if self._next == len(self._targets):
                self._next = 0
                self._begin_round()
                break
        return Request(b"".join(fields), len(fields))

    def _begin_round(self) -> None:
        self._round += 1
        self._restarting = None
        if self._round % RESTART_ROUNDS == 1:
            candidates = [target for target in self._targets if target.restarts]
            self._restarting = self._rng.choice(candidates) if candidates else None

    def __repr__(self) -> str:
        return f"<Scraper {len(self._targets)} targets, round {self._round}>"


class Platform:
    """All targets of all customers, divided among ``scrapers`` agents."""

    def __init__(self, *, series: int, scrapers: int, seed: int) -> None:
        """Make about ``series`` series, in whole pairs of targets.

        Each customer and each agent has at least one pair.

        Every scraper has a generator of its own, so that its figures do not depend on the order in
        which the agents run.
        """
        per_pair = sum(len(target.series) for target in _pair(CUSTOMERS[0], 0))
        pairs = max(round(series / per_pair), len(CUSTOMERS) * scrapers)
        shares: list[list[Target]] = [[] for _ in range(scrapers)]
        for number in range(pairs):
            customer = CUSTOMERS[number % len(CUSTOMERS)]
            shares[number // len(CUSTOMERS) % scrapers] += _pair(customer, number)
        self.series = pairs * per_pair
        self.scrapers = tuple(
            Scraper(share, random.Random(f"{seed}/{number}"))  # noqa: S311 - made-up figures
            for number, share in enumerate(shares)
        )

    def __repr__(self) -> str:
        return f"<Platform {self.series} series>"


def example_series() -> str:
    """Return a series of every demo in text form: ``name{label="value",…}``."""
    labels = dict(_gateway(CUSTOMERS[0], 0).series[0].labels)
    name = labels.pop("__name__")
    pairs = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{pairs}}}"


def _pair(customer: str, number: int) -> tuple[Target, Target]:
    return _gateway(customer, number), _workload(customer, number)


def _gateway(customer: str, number: int) -> Target:
    labels = _labels("Gateway", "networking", customer, number, port=9443)
    return Target(labels, _gateway_instruments, restarts=False)


def _workload(customer: str, number: int) -> Target:
    labels = _labels("Workload", "compute", customer, number, port=8080)
    return Target(labels, _workload_instruments, restarts=True)


def _labels(kind: str, service: str, customer: str, number: int, *, port: int) -> dict[str, str]:
    return {
        PROJECT_LABEL: customer,
        "job": f"{service}/{kind.lower()}",
        "instance": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:{port}",
        "region": _REGIONS[number % len(_REGIONS)],
        "resource_kind": kind,
        "resource_name": f"{kind.lower()}-{number}",
        "service_name": f"{service}.datumapis.com",
    }


def _gateway_instruments(labels: Mapping[str, str]) -> list[Instrument]:
    codes = ("2xx", "3xx", "4xx", "5xx")
    return [
        Counter(_SENT, labels, mean=40_000),
        Counter(_RECEIVED, labels, mean=8_000),
        Gauge(_BUFFERED, labels, top=65_536),
        Gauge(_CONNECTIONS, labels, top=200),
        *(Counter(_REQUESTS, {**labels, "code": code}, mean=3) for code in codes),
        Histogram(_LATENCY, labels, bounds=_BOUNDS_S),
    ]


def _workload_instruments(labels: Mapping[str, str]) -> list[Instrument]:
    return [
        Counter(_CPU, labels, mean=1),
        Gauge(_MEMORY, labels, top=1 << 30),
        Gauge(_DEPTH, labels, top=20),
        Summary(_JOBS, labels),
        Counter(_FAILURES, labels, mean=1),
    ]
