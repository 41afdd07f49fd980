"""Make the logs and traces of the simulated platform, shaped as Datum's, by the official classes.

* A request has records of all customers: gateways' access and security logs and workloads' output,
  and traces that begin in a gateway and go on in a workload. Every few requests a resource names
  no project: its records must not arrive anywhere.
* With each request goes the tally of what globex's Exporter should select of it, by rules of this
  module's own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs, SeverityNumber
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from relay.cli.demo.platform import CUSTOMERS
from relay.cli.demo.records.tally import NO_RECORDS, Tally
from relay.codec.signal_names import RecordSignal

WATCHED: Final = "globex"
"""The customer whose Exporter has sources of logs and traces."""

SAMPLED_PART: Final = 0.5
"""The ``sampleRatio`` of that Exporter's traces."""

LOST_REQUESTS: Final = 5
"""Of so many requests one has records of no project."""

GATEWAY, WORKLOAD = "networking.datumapis.com", "compute.datumapis.com"

_PROJECT: Final = "milo.project.id"
_CATEGORY: Final = "log.category"
_RANDOM_BITS: Final = 56
_EACH: Final = 4
"""Access logs of a customer's gateway in a request, and lines of its workload."""

_STATUSES: Final = (200, 200, 200, 304, 404, 502)
_LINES: Final = ("job done", "job taken", "queue empty", "job failed: timed out")


@dataclass(frozen=True, slots=True)
class RecordRequest:
    """One uncompressed request of ``records``, ``no_tenant`` of which are of no project.

    ``expected`` is the tally of those that globex's Exporter should select.
    """

    body: bytes
    records: int
    no_tenant: int
    expected: Tally


class RecordScraper(Protocol):
    """An endless sequence of requests of one signal."""

    signal: RecordSignal

    def next_request(self, now_ns: int) -> RecordRequest:
        """Return the next request; its records are of the moment ``now_ns``."""


class LogCollector:
    """Requests of log records. Everything but the times is determined by the seed."""

    signal: RecordSignal = "logs"

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(f"{seed}/logs")  # noqa: S311 - made-up figures
        self._requests = 0

    def next_request(self, now_ns: int) -> RecordRequest:
        """Return a request of every customer's logs."""
        self._requests += 1
        message = ExportLogsServiceRequest()
        expected = NO_RECORDS
        for customer in CUSTOMERS:
            gateway = _resource(customer, "Gateway", GATEWAY)
            for category, logs in self._gateway_logs(now_ns):
                scope = ScopeLogs(log_records=logs)
                scope.scope.name = "envoy"
                scope.scope.attributes.append(_attribute(_CATEGORY, category))
                message.resource_logs.add(resource=gateway, scope_logs=[scope])
                if customer == WATCHED:
                    loud = [one for one in logs if one.severity_number >= 13]
                    expected = expected.with_records(one.SerializeToString() for one in loud)
            workload = _resource(customer, "Workload", WORKLOAD)
            output = ScopeLogs(log_records=list(self._workload_lines(now_ns)))
            message.resource_logs.add(resource=workload, scope_logs=[output])
        no_tenant = 0
        if self._requests % LOST_REQUESTS == 0:
            stray = ScopeLogs(log_records=list(self._workload_lines(now_ns)))
            message.resource_logs.add(resource=_resource("", "Node", "infra"), scope_logs=[stray])
            no_tenant = _EACH
        records = sum(
            len(scope.log_records)
            for resource in message.resource_logs
            for scope in resource.scope_logs
        )
        return RecordRequest(message.SerializeToString(), records, no_tenant, expected)

    def _gateway_logs(self, now_ns: int) -> Iterator[tuple[str, list[LogRecord]]]:
        rng = self._rng
        yield "access", [self._access(rng.choice(_STATUSES), now_ns) for _ in range(_EACH)]
        if rng.random() < 0.3:
            blocked = f"blocked by rule {rng.randrange(900_000, 999_999)}"
            record = _log(now_ns, SeverityNumber.SEVERITY_NUMBER_ERROR, "ERROR", blocked)
            yield "security", [record]

    def _access(self, status: int, now_ns: int) -> LogRecord:
        number, text = SeverityNumber.SEVERITY_NUMBER_INFO, "INFO"
        if status >= 500:
            number, text = SeverityNumber.SEVERITY_NUMBER_ERROR, "ERROR"
        elif status >= 400:
            number, text = SeverityNumber.SEVERITY_NUMBER_WARN, "WARN"
        path = f"/orders/{self._rng.randrange(10_000)}"
        record = _log(now_ns, number, text, f"GET {path} {status}")
        record.attributes.append(_attribute("url.path", path))
        record.attributes.append(
            KeyValue(key="http.response.status_code", value=AnyValue(int_value=status))
        )
        return record

    def _workload_lines(self, now_ns: int) -> Iterator[LogRecord]:
        """Yield lines of output: some have no severity, as where nothing has parsed them."""
        for _ in range(_EACH):
            line = f"{self._rng.choice(_LINES)} #{self._rng.randrange(1_000)}"
            if self._rng.random() < 0.5:
                yield _log(now_ns, SeverityNumber.SEVERITY_NUMBER_UNSPECIFIED, "", line)
            else:
                yield _log(now_ns, SeverityNumber.SEVERITY_NUMBER_WARN, "WARN", line)

    def __repr__(self) -> str:
        return f"<LogCollector {self._requests} requests>"


class TraceCollector:
    """Requests of spans. Everything but the times is determined by the seed."""

    signal: RecordSignal = "traces"

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(f"{seed}/traces")  # noqa: S311 - made-up figures
        self._requests = 0

    def next_request(self, now_ns: int) -> RecordRequest:
        """Return a request of two traces of each customer, of a gateway's and two other spans."""
        self._requests += 1
        message = ExportTraceServiceRequest()
        expected = NO_RECORDS
        customers: list[str] = [*CUSTOMERS]
        if self._requests % LOST_REQUESTS == 0:
            customers.append("")
        for customer in customers:
            traces = [self._trace(now_ns) for _ in range(2)]
            for kind, service, spans in (
                ("Gateway", GATEWAY, [trace[0] for trace in traces]),
                ("Workload", WORKLOAD, [span for trace in traces for span in trace[1:]]),
            ):
                resource = message.resource_spans.add(resource=_resource(customer, kind, service))
                resource.scope_spans.add(spans=spans)
                if customer == WATCHED:
                    sampled = [span for span in spans if _is_sampled(span.trace_id)]
                    expected = expected.with_records(one.SerializeToString() for one in sampled)
        no_tenant = 6 * (len(customers) - len(CUSTOMERS))
        return RecordRequest(message.SerializeToString(), 6 * len(customers), no_tenant, expected)

    def _trace(self, now_ns: int) -> list[Span]:
        rng = self._rng
        trace_id, ids = rng.randbytes(16), [rng.randbytes(8) for _ in range(3)]
        names = ("GET /orders", "orders.load", "SELECT orders")
        return [
            Span(
                trace_id=trace_id,
                span_id=ids[at],
                parent_span_id=ids[at - 1] if at else b"",
                name=names[at],
                kind=Span.SPAN_KIND_SERVER if at < 2 else Span.SPAN_KIND_CLIENT,
                start_time_unix_nano=now_ns - 3_000_000 + at * 100_000,
                end_time_unix_nano=now_ns - at * 100_000,
            )
            for at in range(3)
        ]

    def __repr__(self) -> str:
        return f"<TraceCollector {self._requests} requests>"


def expected_outputs(tallies: Mapping[str, Tally]) -> dict[tuple[str, str], Tally]:
    """Return by exporter and output what should arrive there, from the tallies of each signal."""
    return {
        ("globex/default/everything", f"collector-eu/{signal}"): tally
        for signal, tally in tallies.items()
    }


def _is_sampled(trace_id: bytes) -> bool:
    threshold = round((1 - SAMPLED_PART) * (1 << _RANDOM_BITS))
    return int.from_bytes(trace_id[-7:], "big") >= threshold


def _resource(customer: str, kind: str, service: str) -> Resource:
    """Return a resource of a customer; "": of no project."""
    named = {
        **({_PROJECT: customer} if customer else {}),
        "service.name": service,
        "resource.kind": kind,
        "resource.name": f"{kind.lower()}-0",
    }
    return Resource(attributes=[_attribute(key, value) for key, value in named.items()])


def _log(now_ns: int, number: SeverityNumber.ValueType, text: str, body: str) -> LogRecord:
    return LogRecord(
        time_unix_nano=now_ns,
        observed_time_unix_nano=now_ns,
        severity_number=number,
        severity_text=text,
        body=AnyValue(string_value=body),
    )


def _attribute(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))
