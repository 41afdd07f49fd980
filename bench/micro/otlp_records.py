"""Measure the CPU time of a log record or span through the relay, beside the Collector.

``python -m bench.micro.otlp_records [--signal traces] [--records 500] [--turns 12]
[--senders 1]``. The sender is this process, one request after the other over each connection; the
receiver another one that only counts. All forwarders run at once and get the same requests in
turns, gzip in and gzip out, so that a busy machine is as busy for each; of the turns' CPU times the
lower quartile counts. The relay is measured with all forwarded and with one service of 25, in
memory and with a journal; the Collector, which keeps nothing on disk, with all forwarded, with its
batch processor and without. The last line is the memory of a Python with nothing but uvloop and
aiohttp's server.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import gzip
import math
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
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
TURN_RECORDS, TURN_REQUESTS_MAX = 60_000, 500
"""Of one turn."""
FLUSH_S = 0.06
"""At the end of a turn, for what is still on its way; s."""
SETTLE_S = 2.0
"""After the start and the first requests, s."""
FLOOR = "import sys, uvloop, aiohttp.web; print(flush=True); sys.stdin.read()"

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
BATCH = 5000
"""Records of a batch of the Collector's processor, and of the relay where nothing else is said."""

COLLECTOR = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{listen}"}}}}}}}}
processors: {{batch: {{send_batch_size: {batch}, send_batch_max_size: {batch}, timeout: 1s}}}}
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


class Forwarder:
    """One process, its connections, and the CPU time of a request in each turn, s."""

    def __init__(self, process: Process, port: int, path: str, senders: int = 1) -> None:
        self.process = process
        self.costs_s: list[float] = []
        self.rest_bytes = 0
        self._path = path
        wait_for(port, process)
        self._connections = [HTTPConnection("127.0.0.1", port) for _ in range(senders)]
        self._threads = ThreadPoolExecutor(senders)

    def send(self, bodies: Sequence[bytes], count: int) -> None:
        """Send so many requests over all connections, and note what they cost."""
        before_s = self.process.cpu_s()
        share = math.ceil(count / len(self._connections))
        send = functools.partial(self._send_over, bodies=bodies, count=share)
        list(self._threads.map(send, self._connections))
        time.sleep(FLUSH_S)
        self.costs_s.append((self.process.cpu_s() - before_s) / (share * len(self._connections)))

    def _send_over(self, connection: HTTPConnection, bodies: Sequence[bytes], count: int) -> None:
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        for number in range(count):
            connection.request("POST", self._path, bodies[number % len(bodies)], headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise BenchError(f"{self.process.name} answered {answer.status}")

    def cost_s(self) -> float:
        """Return the lower quartile of all turns."""
        return statistics.quantiles(self.costs_s, n=4)[0]

    def __repr__(self) -> str:
        return f"<Forwarder {self.process.name}>"


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


def collectors(directory: Path, port: int) -> Iterator[tuple[str, list[str], int]]:
    """Yield name, command and port of the Collector, without and with its batch processor."""
    for name, processors in (("collector", ""), ("collector-batch", "processors: [batch],")):
        listen = free_port()
        config = directory / f"{name}.yaml"
        text = COLLECTOR.format(listen=listen, port=port, processors=processors, batch=BATCH)
        config.write_text(text, encoding="utf-8")
        yield name, [str(newest.binary("otelcol")), "--config", str(config)], listen


def commands(
    arguments: argparse.Namespace, directory: Path, port: int
) -> Iterator[tuple[str, list[str], int]]:
    """Yield name, command and port of every forwarder; the receiver listens at ``port``."""
    yield from collectors(directory, port)
    for what, selector in (("all", "{}"), ("one-of-25", '{service_name="svc-3"}')):
        for store in ("memory", "journal"):
            name, listen = f"relay-{what}-{store}", free_port()
            own = directory / name
            own.mkdir()
            settings = relay(
                own,
                listen,
                signal=arguments.signal,
                selector=selector,
                port=port,
                size=arguments.batch,
            )
            command = [sys.executable, "-m", "relay", "run", "--config", str(settings)]
            stored = ["--data", str(own / "data")] if store == "journal" else []
            yield name, command + stored, listen


def report(forwarders: Sequence[Forwarder], records: int) -> None:
    """Print what a record costs each forwarder, beside the cheaper Collector."""
    best_s = min(one.cost_s() for one in forwarders if one.process.name.startswith("collector"))
    print(f"{'':26} us a record  records a CPU-second  MiB at rest  at the peak")
    for one in forwarders:
        cost_s = one.cost_s()
        rest, peak = one.rest_bytes >> 20, one.process.rss_bytes()[1] >> 20
        print(
            f"{one.process.name:26} {cost_s / records * 1e6:11.3f} {best_s / cost_s:19.1f} x"
            f" {rest:12d} {peak:12d}"
        )


def floor_bytes() -> int:
    """Return the memory of a Python with what serves HTTP, and nothing else."""
    with subprocess.Popen(
        [sys.executable, "-c", FLOOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as bare:
        assert bare.stdout is not None
        bare.stdout.readline()
        status = Path(f"/proc/{bare.pid}/status").read_text(encoding="utf-8")
        bare.communicate(b"")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def main() -> None:
    """Measure everything and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signal", choices=["logs", "traces"], default="logs")
    parser.add_argument("--records", type=int, default=500, help="records of a request")
    parser.add_argument("--turns", type=int, default=12, help="of each forwarder")
    parser.add_argument("--batch", type=int, default=BATCH, help="records of the relay's batches")
    parser.add_argument(
        "--senders", type=int, default=1, help="connections, one request after the other on each"
    )
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
    count = max(4, min(TURN_REQUESTS_MAX, TURN_RECORDS // arguments.records))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        receiver = [sys.executable, "-m", "bench.micro.otlp_records", "--receiver"]
        sink = stack.enter_context(
            Process("receiver", receiver, directory=directory, pipe_stdout=True)
        )
        forwarders = [
            Forwarder(
                stack.enter_context(Process(name, command, directory=directory)),
                listen,
                f"/v1/{arguments.signal}",
                arguments.senders,
            )
            for name, command, listen in commands(arguments, directory, int(sink.read_line()))
        ]
        time.sleep(SETTLE_S)
        for one in forwarders:
            one.rest_bytes = one.process.rss_bytes()[0]
            one.send(bodies, count)
        time.sleep(SETTLE_S)
        for one in forwarders:
            one.costs_s.clear()
        for _ in range(arguments.turns):
            for one in forwarders:
                one.send(bodies, count)
        report(forwarders, arguments.records)
        print(f"{'python, uvloop, aiohttp':60} {floor_bytes() >> 20:12d}")


if __name__ == "__main__":
    main()
