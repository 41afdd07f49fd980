"""The benchmark harness itself: it counts right, it notices what is wrong, and it runs."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import cramjam
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from bench import prompb
from bench.dataset import (
    MARKER,
    Dataset,
    Request,
    Shape,
    is_wanted,
    labels_of,
    read_dataset,
    value_of,
    write_dataset,
)
from bench.generator import SendError, send
from bench.harness import Measurement
from bench.peer import load_peer
from bench.process import BenchError, Process
from bench.report import ratio_lines, table_row
from bench.sink import OTLP_PATH, REMOTE_WRITE_PATH, Arrival, Tally

ROOT = Path(__file__).parents[2]
START_MS = 1_790_000_000_000


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Two rounds of 500 series in requests of 200, 200 and 100."""
    directory = tmp_path / "dataset"
    directory.mkdir()
    shape = Shape(start_ms=START_MS, rounds=2, series=500, series_per_request=200)
    return write_dataset(directory, shape)


def body_of(dataset: Dataset, request: Request) -> bytes:
    stored = dataset.bodies.read_bytes()
    return stored[request.offset : request.offset + request.size]


def decode(packed: bytes) -> Any:
    return prompb.WriteRequest.FromString(bytes(cramjam.snappy.decompress_raw(packed)))


# The data set.


def test_requests_decode_to_what_the_data_set_says(dataset: Dataset) -> None:
    assert [request.samples for request in dataset.requests] == [200, 200, 100] * 2
    sent = [
        (int(labels[MARKER]), sample.timestamp, sample.value)
        for request in dataset.requests
        for series in decode(body_of(dataset, request)).timeseries
        for labels in [{label.name: label.value for label in series.labels}]
        for sample in series.samples
        if labels == labels_of(int(labels[MARKER]))
    ]
    assert sent == [
        (series, dataset.shape.time_ms(series, round_number), value_of(series, round_number))
        for round_number in range(2)
        for series in range(500)
    ]


def test_every_series_carries_the_marker_once(dataset: Dataset) -> None:
    for request in dataset.requests:
        body = bytes(cramjam.snappy.decompress_raw(body_of(dataset, request)))
        assert body.count(MARKER.encode()) == request.samples


def test_shape_is_the_one_that_is_promised() -> None:
    series = range(0, 50_000, 7)
    assert {len(labels_of(one)) for one in series} == {13}
    assert sum(map(is_wanted, range(50_000))) == 2_000, "4 %"
    sizes = [
        sum(len(name) + len(value) + 6 for name, value in labels_of(one).items()) for one in series
    ]
    assert 420 <= sum(sizes) / len(sizes) <= 460


def test_a_data_set_is_read_back_as_it_was_written(dataset: Dataset) -> None:
    assert read_dataset(dataset.directory) == dataset


# The sink.


def otlp_body(dataset: Dataset, *, value_added: float = 0.0) -> bytes:
    """100 series of the first round as a faithful peer would deliver them, or not quite."""
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    for series in range(100):
        labels = labels_of(series)
        point = scope.metrics.add(name=labels.pop("__name__")).gauge.data_points.add()
        point.time_unix_nano = dataset.shape.time_ms(series, 0) * 1_000_000
        point.as_double = value_of(series, 0) + value_added
        for name, value in labels.items():
            point.attributes.add(key=name).value.string_value = value
    return gzip.compress(request.SerializeToString())


def tally_of(dataset: Dataset, path: str, encoding: str, body: bytes) -> dict[str, Any]:
    tally = Tally(dataset)
    tally.add(Arrival(1.0, path, encoding, body))
    assert tally.figures(2.0)["uncounted"] == 1, "nothing is counted before it is asked for"
    tally.count_until(monotonic() + 10)
    return tally.figures(2.0)


def test_sink_counts_and_verifies_otlp(dataset: Dataset) -> None:
    figures = tally_of(dataset, OTLP_PATH, "gzip", otlp_body(dataset))
    assert figures["points"] == figures["verified_points"] == figures["points_until"] == 100
    assert figures["faults"] == []


def test_sink_counts_and_verifies_remote_write(dataset: Dataset) -> None:
    body = body_of(dataset, dataset.requests[0])
    figures = tally_of(dataset, REMOTE_WRITE_PATH, "snappy", body)
    assert figures["points"] == figures["verified_points"] == 200
    assert figures["faults"] == []


def test_sink_notices_values_that_were_not_sent(dataset: Dataset) -> None:
    figures = tally_of(dataset, OTLP_PATH, "gzip", otlp_body(dataset, value_added=0.001))
    assert figures["fault_count"] == 100
    assert "was not sent" in figures["faults"][0]


def test_sink_notices_series_with_more_samples_than_markers(dataset: Dataset) -> None:
    message = decode(body_of(dataset, dataset.requests[0]))
    message.timeseries[0].samples.append(message.timeseries[0].samples[0])
    body = bytes(cramjam.snappy.compress_raw(message.SerializeToString()))
    figures = tally_of(dataset, REMOTE_WRITE_PATH, "snappy", body)
    assert figures["faults"] == ["a body with 200 markers decodes to 201 points"]


@pytest.mark.parametrize("encoding", ["gzip", "snappy", "zstd", "br"])
def test_sink_notices_bodies_that_it_cannot_read(dataset: Dataset, encoding: str) -> None:
    figures = tally_of(dataset, OTLP_PATH, encoding, b"\xff" * 40)
    assert figures["fault_count"] == 1
    assert figures["points"] == 0


def test_points_that_come_late_are_not_credited(dataset: Dataset) -> None:
    tally = Tally(dataset)
    for at in (1.0, 3.0):
        tally.add(Arrival(at, OTLP_PATH, "gzip", otlp_body(dataset)))
    tally.count_until(monotonic() + 10)
    assert tally.figures(2.0)["points_until"] == 100
    assert tally.figures(2.0)["points"] == 200


# Generator and sink against each other, no peer between them.


@pytest.mark.slow
async def test_everything_that_is_sent_is_counted(dataset: Dataset, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.sink", "--dataset", str(dataset.directory)]
    with Process("sink", command, directory=tmp_path, pipe_stdout=True) as sink:
        base = f"http://127.0.0.1:{json.loads(sink.read_line())['port']}"
        result = await send(dataset, f"{base}/api/v1/write", connections=2, requests_max=8)
        assert result.requests == 8
        assert result.samples == 500 + 500 + 200 + 200
        assert result.cycled
        assert result.next_request == 2
        with pytest.raises(SendError, match="400"):
            await send(dataset, f"{base}/elsewhere", connections=1, requests_max=1)
        assert sink.usage().cpu_s > 0
        assert sink.usage().rss_peak_bytes > 1 << 20
        assert sink.stop()


# Peers and reports.


def test_every_peer_has_the_workloads_of_the_first_release(tmp_path: Path) -> None:
    for name in ("relay", "vmagent"):
        assert {"export", "filter"} <= set(load_peer(name).workloads)


def test_unknown_peers_and_workloads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="there is no peer 'telegraf'"):
        load_peer("telegraf")
    with pytest.raises(BenchError, match="no set-up for the workload fly"):
        load_peer("relay").prepare("fly", tmp_path, sink_port=1)


def test_ratios_are_made_pair_by_pair_and_without_void_runs() -> None:
    runs = [
        Measurement("export", "a", 0, samples_per_cpu_s=30.0, samples_per_s=3.0),
        Measurement("export", "b", 0, samples_per_cpu_s=10.0, samples_per_s=3.0),
        Measurement("export", "a", 1, samples_per_cpu_s=20.0, samples_per_s=3.0),
        Measurement("export", "b", 1, void="7 points arrived where 8 were expected: -1"),
    ]
    assert ratio_lines(runs) == [
        "a / b, samples per CPU-second: 3.00   (pair by pair: 3.00)",
        "a / b, samples per second: 1.00   (pair by pair: 1.00)",
    ]
    assert table_row(runs[3]).endswith("VOID: 7 points arrived where 8 were expected: -1")


# The whole harness.


def run_harness(peer: str, workload: str, tmp_path: Path) -> dict[str, Any]:
    """One short run; its entry in the results."""
    output = tmp_path / "results.json"
    options = f"--workload {workload} --peers {peer} --seconds 1 --runs 1 --series 4000"
    done = subprocess.run(
        [sys.executable, "-m", "bench", *options.split(), "--output", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = json.loads(output.read_text(encoding="utf-8"))["runs"]
    assert run["void"] == ""
    assert run["samples"] > 0
    assert run["verified_points"] > 0
    assert run["samples_per_cpu_s"] > 0
    result: dict[str, Any] = run
    return result


@pytest.mark.slow
def test_relay_exports_everything(tmp_path: Path) -> None:
    run = run_harness("relay", "export", tmp_path)
    assert run["points"] == run["samples"]


@pytest.mark.slow
def test_relay_filters_by_the_proposals_selector(tmp_path: Path) -> None:
    run = run_harness("relay", "filter", tmp_path)
    assert run["points"] == run["samples"] // 25


@pytest.mark.slow
@pytest.mark.real
def test_vmagent_filters_the_same(tmp_path: Path) -> None:
    assert shutil.which("vmagent"), "vmagent is not installed: apt-get install victoria-metrics"
    run = run_harness("vmagent", "filter", tmp_path)
    assert run["points"] == run["samples"] // 25
