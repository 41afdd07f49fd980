"""Measure the CPU time of a log record or span through the relay, beside the Collector.

``python -m bench.micro.otlp_records [--signal traces] [--records 500] [--seconds 5]``. The sender
is this process, one request after the other; the receiver another one that only counts. Both
forwarders get the same requests, gzip in and gzip out, in one run, one after the other. The relay
is measured with all forwarded and with one service of 25, in memory and with a journal; the
Collector, which keeps nothing on disk, with all forwarded, with and without its batch processor.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import http.client
import random
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench import newest
from bench.micro.sink_cost import Receiver
from bench.process import BenchError, Process

SERVICES = 25
BODIES = 20
SETTLE_S = 2.0
"""For what is still in batches and queues, s."""

EXPORTER = """
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {{name: bench}}
spec:
  sources: [{{name: source, {signal}: {{selector: '{selector}'}}}}]
  sinks:
    - name: sink
      otlp_http: {{endpoint: "http://127.0.0.1:{port}"}}
      batch: {{timeout: 1s, maxSize: {size}}}
"""
COLLECTOR = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{listen}"}}}}}}}}
processors: {{batch: {{send_batch_size: 5000, send_batch_max_size: 5000, timeout: 1s}}}}
exporters: {{otlp_http: {{endpoint: "http://127.0.0.1:{port}", compression: gzip}}}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: error}}}}
  pipelines:
    logs: {{receivers: [otlp], {processors} exporters: [otlp_http]}}
    traces: {{receivers: [otlp], {processors} exporters: [otlp_http]}}
"""


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def request(signal: str, count: int, rng: random.Random) -> bytes:
    """Return a request of so many records of all services, protobuf."""
    made: Any = ExportLogsServiceRequest() if signal == "logs" else ExportTraceServiceRequest()
    for service in range(SERVICES):
        share = count // SERVICES + (service < count % SERVICES)
        if not share:
            continue
        resource = (made.resource_logs if signal == "logs" else made.resource_spans).add()
        texts = {
            "service.name": f"svc-{service}",
            "milo.project.id": "acme",
            "k8s.pod.name": f"svc-{service}-5f7d",
        }
        for name, text in texts.items():
            resource.resource.attributes.add(key=name).value.string_value = text
        scope = (resource.scope_logs if signal == "logs" else resource.scope_spans).add()
        for _ in range(share):
            record = _log_record(scope, rng) if signal == "logs" else _span(scope, rng)
            status = record.attributes.add(key="http.response.status_code")
            status.value.int_value = rng.choice([200, 200, 201, 404, 500])
    return bytes(made.SerializeToString())


def _log_record(scope: Any, rng: random.Random) -> Any:
    record = scope.log_records.add(
        time_unix_nano=1_764_000_000_000_000_000 + rng.randrange(10**9),
        severity_number=rng.choice([5, 9, 9, 9, 13, 17]),
        severity_text="INFO",
    )
    record.body.string_value = f"GET /api/v1/items/{rng.randrange(10000)} in {rng.randrange(500)}"
    user = record.attributes.add(key="user.id")
    user.value.string_value = f"{rng.getrandbits(32):08x}"
    return record


def _span(scope: Any, rng: random.Random) -> Any:
    start = 1_764_000_000_000_000_000 + rng.randrange(10**9)
    return scope.spans.add(
        trace_id=rng.randbytes(16),
        span_id=rng.randbytes(8),
        parent_span_id=rng.randbytes(8),
        name=rng.choice(["GET /items", "GET /items/{id}"]),
        kind=2,
        start_time_unix_nano=start,
        end_time_unix_nano=start + rng.randrange(10**7),
    )


def send(port: int, path: str, bodies: Sequence[bytes], seconds: float) -> int:
    """Send requests for so long; return how many."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        connection.request("POST", path, bodies[count % len(bodies)], headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise BenchError(f"answered {answer.status}")
        count += 1
    connection.close()
    return count


async def receive() -> None:
    """Answer every request until the process is stopped."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Receiver, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def wait_for(port: int, process: Process) -> None:
    """Wait until something listens on a port."""
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if not process.is_running():
                raise BenchError(f"{process.name}: {process.log_tail()}") from None
            time.sleep(0.05)
        else:
            return
    raise BenchError(f"{process.name} does not listen")


def measure(
    name: str, process: Process, port: int, arguments: argparse.Namespace, bodies: list[bytes]
) -> float:
    """Print and return the CPU time of a record in µs."""
    path = f"/v1/{arguments.signal}"
    wait_for(port, process)
    send(port, path, bodies, 1.5)
    time.sleep(SETTLE_S)
    before = process.usage()
    records = send(port, path, bodies, arguments.seconds) * arguments.records
    time.sleep(SETTLE_S)
    after = process.usage()
    cost_us: float = (after.cpu_s - before.cpu_s) / records * 1e6
    rss = after.rss_peak_bytes >> 20
    print(f"{name:28s} {records:12,d} records {cost_us:8.3f} us each {rss:6d} MiB", flush=True)
    return cost_us


def relay(
    directory: Path, listen: int, *, signal: str, selector: str, port: int, size: int
) -> Path:
    """Write an Exporter and the settings of a relay; return their path."""
    exporter = directory / "exporter.yaml"
    exporter.write_text(EXPORTER.format(signal=signal, selector=selector, port=port, size=size))
    settings = {
        "listen": f"127.0.0.1:{listen}",
        "adminListen": f"127.0.0.1:{free_port()}",
        "exporters": [{"path": str(exporter)}],
    }
    path = directory / "relay.json"
    path.write_bytes(msgspec.json.encode(settings))
    return path


def main() -> None:
    """Measure everything and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signal", choices=["logs", "traces"], default="logs")
    parser.add_argument("--records", type=int, default=500, help="records of a request")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--batch", type=int, default=500, help="records of the relay's batches")
    parser.add_argument("--receiver", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.receiver:
        uvloop.run(receive())
        return
    rng = random.Random(1)
    plain = [request(arguments.signal, arguments.records, rng) for _ in range(BODIES)]
    bodies = [gzip.compress(body, 1) for body in plain]
    each = arguments.records * BODIES
    sizes = sum(map(len, plain)) / each, sum(map(len, bodies)) / each
    print(f"{arguments.signal}: {sizes[0]:.0f} bytes a record, {sizes[1]:.0f} gzipped")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        receiver = [sys.executable, "-m", "bench.micro.otlp_records", "--receiver"]
        sink = stack.enter_context(
            Process("receiver", receiver, directory=directory, pipe_stdout=True)
        )
        port = int(sink.read_line())
        costs: dict[str, float] = {}
        for name, processors in (("collector", ""), ("collector, batch", "processors: [batch],")):
            listen = free_port()
            config = directory / "collector.yaml"
            text = COLLECTOR.format(listen=listen, port=port, processors=processors)
            config.write_text(text)
            command = [str(newest.binary("otelcol")), "--config", str(config)]
            with Process(name.replace(", ", "-"), command, directory=directory) as process:
                costs[name] = measure(name, process, listen, arguments, bodies)
        for what, selector in (("all", "{}"), ("one of 25", '{service_name="svc-3"}')):
            for stored in (False, True):
                listen = free_port()
                settings = relay(
                    directory,
                    listen,
                    signal=arguments.signal,
                    selector=selector,
                    port=port,
                    size=arguments.batch,
                )
                command = [sys.executable, "-m", "relay", "run", "--config", str(settings)]
                if stored:
                    command += ["--data", str(directory / f"data-{what[:3]}")]
                name = f"relay, {what}, {'journal' if stored else 'memory'}"
                with Process("relay", command, directory=directory) as process:
                    costs[name] = measure(name, process, listen, arguments, bodies)
    best = min(costs["collector"], costs["collector, batch"])
    for name, cost in costs.items():
        print(f"{name:28s} {best / cost:6.1f} times the records a CPU-second")


if __name__ == "__main__":
    main()
