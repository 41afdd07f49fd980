"""The benchmark harness runs, and its processes fit together."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.dataset import Dataset, Shape, write_dataset
from bench.generator import SendError, send
from bench.process import Process
from tests.kit.paths import ROOT

START_MS = 1_790_000_000_000


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Two rounds of 500 series in requests of 200, 200 and 100."""
    directory = tmp_path / "dataset"
    directory.mkdir()
    shape = Shape(start_ms=START_MS, rounds=2, series=500, series_per_request=200)
    return write_dataset(directory, shape)


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
        rest = await send(dataset, f"{base}/api/v1/write", connections=1, first=4, once=True)
        assert (rest.requests, rest.exhausted, rest.cycled) == (2, True, False)
        with pytest.raises(SendError, match="400"):
            await send(dataset, f"{base}/elsewhere", connections=1, requests_max=1)
        assert sink.usage().cpu_s > 0
        assert sink.usage().rss_peak_bytes > 1 << 20
        assert sink.stop()


# The whole harness.


def run_harness(
    peer: str, workload: str, tmp_path: Path, options: str = "--seconds 1"
) -> dict[str, Any]:
    """One short run of each workload; the results."""
    output = tmp_path / "results.json"
    options = f"--workload {workload} --peers {peer} --runs 1 --series 4004 {options}"
    done = subprocess.run(
        [sys.executable, "-m", "bench", *options.split(), "--output", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    for run in results["runs"]:
        assert run["void"] == ""
        assert run["samples"] > 0
        assert run["verified_points"] > 0
        assert run["samples_per_cpu_s"] > 0
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    return results


@pytest.mark.slow
def test_relay_does_the_workloads(tmp_path: Path) -> None:
    """Those that differ most: several sinks, several samples to a point, other labels."""
    results = run_harness("relay", "fanout,histograms", tmp_path, "--seconds 0.5 --shape small")
    reference, fanout, reference_again, histograms = results["runs"]
    assert fanout["points"] == 5 * fanout["samples"]
    assert histograms["points"] * 14 == histograms["samples"]
    for run, beside in ((reference, "fanout"), (reference_again, "histograms")):
        assert (run["workload"], run["beside"]) == ("export", beside)
        assert run["points"] == run["samples"]
    (ratio,) = results["ratios"]["fanout"]
    assert ratio["title"] == "fanout / export, CPU per delivered point"
    assert ratio["wanted"] == "at most 0.8"
    assert ratio["pairs"] == [ratio["median"]]


@pytest.mark.slow
def test_relay_filters_by_the_proposals_selector(tmp_path: Path) -> None:
    (run,) = run_harness("relay", "filter", tmp_path)["runs"]
    # 4,004 series are 40 targets and four series of another, which is a Gateway.
    assert run["points"] == pytest.approx(run["samples"] / 25, rel=0.05)


@pytest.mark.slow
def test_processes_share_the_series(tmp_path: Path) -> None:
    results = run_harness("relay", "export", tmp_path, "--seconds 0.5 --processes 2")
    both, alone = results["runs"]
    assert (both["peer"], alone["peer"]) == ("relay x2", "relay")
    assert both["points"] == both["samples"] > 0
    assert both["rss_peak_bytes"] > alone["rss_peak_bytes"]
    titles = [ratio["title"] for ratio in results["ratios"]["export"]]
    assert "relay x2 / relay, samples per second" in titles


@pytest.mark.slow
@pytest.mark.alone
def test_relay_is_watched_at_a_share_of_its_maximum(tmp_path: Path) -> None:
    full, part = run_harness("relay", "export", tmp_path, "--seconds 3 --load 0.3")["runs"]
    assert (full["load"], part["load"]) == (0.0, 0.3)
    assert part["accepted_per_s"] == pytest.approx(0.3 * full["samples_per_s"], rel=0.25)
    assert part["reloads"] == 1
    assert part["scrapes"] >= 3
    assert 0 <= part["lag_p99_s"] <= part["lag_max_s"]
    assert full["lag_max_s"] == -1.0, "nobody watches a run that shows the maximum"


@pytest.mark.slow
def test_the_hot_path_is_measured_beside_another_checkout() -> None:
    command = "-m bench.micro.kernel --runs 1 --series 4004 --beside ."
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )
    head, *rows = done.stdout.splitlines()
    assert head.split()[-3:] == ["here", "beside", "ratio"]
    cells = [row.split() for row in rows]
    assert {part for part, *_ in cells} >= {"known", "encode", "shuffled", "v2", "new"}
    assert all(float(cost) > 0 for _, *costs in cells for cost in costs)


@pytest.mark.slow
@pytest.mark.real
def test_vmagent_filters_the_same(tmp_path: Path) -> None:
    assert shutil.which("vmagent"), "vmagent is not installed: apt-get install victoria-metrics"
    results = run_harness("vmagent", "filter,v2", tmp_path)
    (run,) = results["runs"]
    assert run["points"] == pytest.approx(run["samples"] / 25, rel=0.05)
    assert results["left_out"] == [
        "v2: vmagent is left out: version 1.79 takes remote write 1.0 only"
    ]


@pytest.mark.slow
@pytest.mark.newest
def test_the_newest_vmagent_does_the_scrapes(tmp_path: Path) -> None:
    results = run_harness("vmagent-newest", "scrape,zstd", tmp_path, "--seconds 0.5 --alone")
    assert [run["workload"] for run in results["runs"]] == ["scrape", "zstd"]
    for run in results["runs"]:
        assert run["points"] == run["samples"]


@pytest.mark.slow
def test_relay_does_the_scrapes(tmp_path: Path) -> None:
    results = run_harness("relay", "scrape,scrape-platform,worst", tmp_path, "--seconds 0.5")
    assert len(results["runs"]) == 3
    for run in results["runs"]:
        assert run["points"] == run["samples"]
