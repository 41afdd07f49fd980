"""What the load generator sends: remote-write requests, encoded and compressed before a run.

Rules:

* Everything follows from a :class:`Shape`: two data sets of one shape are equal byte for byte, and
  the value of every series at every time can be computed by whoever receives it.
* A *round* is one sample of every series, as one scrape of the whole platform would give it, in the
  same order each time. A request is a stretch of a round. Series of one target follow one another
  and share their time, as scraped series do.
* Every series carries the label :data:`MARKER` once, and nothing else contains that text. Its
  occurrences in a decompressed body, remote write or OTLP, are therefore the series in it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import cramjam
import zstandard

from bench import prompb

Encoding = Literal["snappy", "zstd"]

MARKER = "bench_series"
SCRAPE_INTERVAL_MS = 15_000

_METRICS = (
    *(f"network_bytes_{what}_total" for what in ("sent", "received", "retransmitted", "dropped")),
    *(f"network_bytes_{what}" for what in ("in_flight", "buffered", "window", "limit")),
    *(f"http_requests_{what}_total" for what in ("started", "finished", "failed", "retried")),
    *(f"process_{what}" for what in ("open_fds", "threads", "resident_memory_bytes", "uptime")),
    *(f"queue_{what}" for what in ("depth", "capacity", "oldest_entry_seconds", "workers")),
)
"""Metrics of every target: 20, of which 8 are the proposal's ``network_bytes_.*``."""

_KINDS = (
    ("Gateway", "networking.datumapis.com"),
    ("HTTPRoute", "networking.datumapis.com"),
    ("Network", "networking.datumapis.com"),
    ("Subnet", "networking.datumapis.com"),
    ("Workload", "compute.datumapis.com"),
    ("Instance", "compute.datumapis.com"),
    ("Zone", "dns.datumapis.com"),
    ("Domain", "dns.datumapis.com"),
)
_CODES = ("1xx", "2xx", "3xx", "4xx", "5xx")
_SERIES_PER_TARGET = len(_METRICS) * len(_CODES)

_SAMPLE_HEAD = b"\x12\x10\x09"  # TimeSeries.samples (2), 16 bytes; Sample.value (1, fixed64)
_TIME_TAG = b"\x10"  # Sample.timestamp (2, varint)
_SAMPLE_BYTES = len(_SAMPLE_HEAD) + 8 + len(_TIME_TAG) + 6
_DOUBLE = struct.Struct("<d")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a data set looks like. ``start_ms`` is the time of the first round."""

    start_ms: int
    rounds: int
    series: int = 50_000
    series_per_request: int = 2_000
    encoding: Encoding = "snappy"

    def __post_init__(self) -> None:
        assert self.rounds > 0
        assert self.series > 0
        assert self.series_per_request > 0
        # Six bytes of varint: the times from 1971 to 2109. Samples are patched in at a fixed size.
        assert 1 << 35 <= self.start_ms < 1 << 41

    def time_ms(self, series: int, round_number: int) -> int:
        """When ``series`` is sampled in a round; targets are spread over the scrape interval."""
        spread = series // _SERIES_PER_TARGET * 7919 % SCRAPE_INTERVAL_MS
        return self.start_ms + round_number * SCRAPE_INTERVAL_MS + spread

    def round_of(self, series: int, time_ms: int) -> int:
        """The round in which ``series`` has a sample at ``time_ms``; -1 where it has none."""
        rounds, rest = divmod(time_ms - self.time_ms(series, 0), SCRAPE_INTERVAL_MS)
        return rounds if rest == 0 and 0 <= rounds < self.rounds else -1


def value_of(series: int, round_number: int) -> float:
    """Even series count up in whole steps, odd ones go up and down with three decimals; never 0."""
    if series % 2 == 0:
        return float((series % 97 + 1) * (round_number + 1) + series)
    return ((series * 2_654_435_761 + round_number * 7_368_787) % 1_000_003 + 1) / 1000


def labels_of(series: int) -> dict[str, str]:
    """The 13 labels of a series, sorted by name as Prometheus sends them; 440 bytes as encoded."""
    target, index = divmod(series, _SERIES_PER_TARGET)
    metric, code = divmod(index, len(_CODES))
    # Every tenth target is a Gateway: 8 of 20 metrics of a tenth of the series are 4 %.
    kind, service = _KINDS[0 if target % 10 == 0 else 1 + target % (len(_KINDS) - 1)]
    project = f"customer-{target % 137:04d}-prod"
    return {
        "__name__": _METRICS[metric],
        MARKER: f"{series:08d}",
        "cluster": f"edge-europe-west4-{target % 11:02d}",
        "code": _CODES[code],
        "container": "dataplane",
        "instance": f"10.{target // 65536}.{target // 256 % 256}.{target % 256}:9443",
        "job": "networking/edge-dataplane",
        "namespace": project,
        "pod": f"edge-dataplane-6c9f7d5b8-{target:05d}",
        "resource_kind": kind,
        "resource_name": f"{kind.lower()}-{target:05d}-primary",
        "resourcemanager_datumapis_com_project_name": project,
        "service_name": service,
    }


def is_wanted(series: int) -> bool:
    """Whether the proposal's own selector selects this series; about 4 % are."""
    labels = labels_of(series)
    return (
        labels["service_name"] == "networking.datumapis.com"
        and labels["resource_kind"] == "Gateway"
        and labels["__name__"].startswith("network_bytes_")
    )


@dataclass(frozen=True, slots=True)
class Request:
    """Where one compressed body lies in the data set's file, and what it holds."""

    offset: int
    size: int
    samples: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set on disk: ``bodies.bin`` in ``directory``, and what ``index.json`` says of it."""

    directory: Path
    shape: Shape
    requests: tuple[Request, ...]
    decoded_bytes: int

    @property
    def bodies(self) -> Path:
        """The file that holds the compressed bodies one behind the other."""
        return self.directory / "bodies.bin"

    @property
    def requests_per_round(self) -> int:
        """Requests that send every series once."""
        return len(self.requests) // self.shape.rounds


def write_dataset(directory: Path, shape: Shape) -> Dataset:
    """Encode and compress every request of ``shape`` into ``directory``, which must exist."""
    heads = [_series_head(series) for series in range(shape.series)]
    wanted = [is_wanted(series) for series in range(shape.series)]
    requests: list[Request] = []
    offset = decoded_bytes = 0
    with (directory / "bodies.bin").open("wb") as out:
        for round_number in range(shape.rounds):
            for first in range(0, shape.series, shape.series_per_request):
                stop = min(first + shape.series_per_request, shape.series)
                body = b"".join(_timeseries(heads, shape, round_number, first, stop))
                packed = _compress(body, shape.encoding)
                out.write(packed)
                requests.append(Request(offset, len(packed), stop - first, sum(wanted[first:stop])))
                offset += len(packed)
                decoded_bytes += len(body)
    dataset = Dataset(directory, shape, tuple(requests), decoded_bytes)
    index = {
        "shape": asdict(shape),
        "decoded_bytes": decoded_bytes,
        "requests": [[r.offset, r.size, r.samples, r.wanted] for r in requests],
    }
    (directory / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return dataset


def read_dataset(directory: Path) -> Dataset:
    """The data set that :func:`write_dataset` left in ``directory``."""
    index = json.loads((directory / "index.json").read_text(encoding="utf-8"))
    requests = tuple(Request(*row) for row in index["requests"])
    return Dataset(directory, Shape(**index["shape"]), requests, index["decoded_bytes"])


def _series_head(series: int) -> bytes:
    """A TimeSeries as encoded, with its tag and length, up to the value of its one sample."""
    message = prompb.TimeSeries()
    for name, value in labels_of(series).items():
        message.labels.add(name=name, value=value)
    labels: bytes = message.SerializeToString()
    return b"\x0a" + _varint(len(labels) + _SAMPLE_BYTES) + labels + _SAMPLE_HEAD


def _timeseries(
    heads: list[bytes], shape: Shape, round_number: int, first: int, stop: int
) -> Iterator[bytes]:
    """The pieces of a body: head, value and time of each series in turn."""
    last_time = -1
    tail = b""
    for series in range(first, stop):
        time_ms = shape.time_ms(series, round_number)
        if time_ms != last_time:
            last_time = time_ms
            tail = _TIME_TAG + _varint(time_ms)
            assert len(tail) == 7, "the size of a sample is fixed"
        yield heads[series]
        yield _DOUBLE.pack(value_of(series, round_number))
        yield tail


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _compress(body: bytes, encoding: Encoding) -> bytes:
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=1).compress(body)
    return bytes(cramjam.snappy.compress_raw(body))
