"""Peers' files, ratios and their bounds, the watcher's reading, and the picture."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.measurement import Measurement, sum_of
from bench.peer import PEERS, load_peer
from bench.plot import costs, draw
from bench.process import BenchError
from bench.ratios import EXPORT_BOUNDS, FIGURE_BOUNDS, Bound, compare
from bench.report import table_row
from bench.watch import LAG, LAG_MAX, Watcher, lags, read_lag
from bench.workload import WORKLOADS
from relay.selector.metricsql.parser import parse_query

# Peers.


def test_every_workload_is_the_relays_and_others_say_why_not() -> None:
    assert set(load_peer("relay").workloads) == set(WORKLOADS)
    vmagent = load_peer("vmagent")
    assert set(vmagent.workloads) | set(vmagent.cannot) == set(WORKLOADS)
    assert not set(vmagent.workloads) & set(vmagent.cannot)
    assert vmagent.why_not("export") == ""
    assert "1.0 only" in vmagent.why_not("v2")


def test_unknown_peers_and_workloads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="there is no peer 'telegraf'"):
        load_peer("telegraf")
    with pytest.raises(BenchError, match="no set-up for the workload fly"):
        load_peer("relay").prepare("fly", tmp_path, sink_port=1)


def test_a_peer_that_extends_another_one_is_that_one_but_for_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load_peer("vmagent")
    shutil.copy(PEERS / "vmagent.yaml", tmp_path)
    text = "extends: vmagent\ntitle: one thread\nenvironment: {GOMAXPROCS: '1'}\n"
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr("bench.peer.PEERS", tmp_path)
    own = load_peer("own")
    assert (own.title, own.environment) == ("one thread", {"GOMAXPROCS": "1"})
    assert (own.command, own.workloads, own.files) == (base.command, base.workloads, base.files)


def test_tables_of_a_peer_that_extends_another_one_are_merged(tmp_path: Path) -> None:
    base, own = load_peer("vmagent"), load_peer("vmagent-newest")
    assert set(own.workloads) == {*base.workloads, "zstd"}
    assert own.why_not("durable") == base.why_not("durable") != ""
    assert own.variables == {**base.variables, "vmagent": "$newest/vmagent"}


def test_a_peer_that_extends_another_one_leaves_out_what_it_gives_no_value() -> None:
    peer = load_peer("relay-remote-write")
    assert set(peer.workloads) | set(peer.cannot) == set(WORKLOADS)
    assert not set(peer.workloads) & set(peer.cannot)
    assert "prometheusRemoteWrite" in peer.variables["endpoint"]


def test_an_installed_relay_is_the_command_that_is_given(tmp_path: Path) -> None:
    peer = load_peer("relay-installed")
    launch = peer.prepare("export", tmp_path, 1, relay="/bin/sh")
    assert launch.command[:2] == ["/bin/sh", "run"]
    assert launch.environment["PYTHONPATH"] == "", "it must not find the checkout's modules"
    with pytest.raises(BenchError, match=r"cannot fill in '\$relay'"):
        peer.prepare("export", tmp_path, 1)
    with pytest.raises(BenchError, match="/nowhere/relay is not installed: --relay-command"):
        peer.prepare("export", tmp_path, 1, relay="/nowhere/relay")


def test_tenants_have_five_exporters_that_share_a_projects_metrics(tmp_path: Path) -> None:
    load_peer("relay").prepare("tenants", tmp_path, sink_port=4318)
    settings = yaml.safe_load((tmp_path / "relay.yaml").read_text(encoding="utf-8"))
    assert len(settings["exporters"]) == 2_000
    last = settings["exporters"][-1]
    assert last == {"path": "exporters/1999.yaml", "project": "customer-1999-prod"}
    documents = list(yaml.safe_load_all((tmp_path / last["path"]).read_text(encoding="utf-8")))
    queries = [one["spec"]["sources"][0]["metrics"]["metricsql"] for one in documents]
    assert len({str(parse_query(query)) for query in queries}) == 5
    endpoints = [one["spec"]["sinks"][0]["otlp_http"]["endpoint"] for one in documents]
    assert endpoints == [f"http://127.0.0.1:4318/1999-{n}" for n in range(5)]


# Ratios.


def measured(workload: str, peer: str, pair: int, cpu_rate: float, **given: Any) -> Measurement:
    """A run of 1000 samples, each a point, in a second."""
    own = {"samples": 1000, "points": 1000, "samples_per_s": 1000.0, "cpu_s": 1000 / cpu_rate}
    return Measurement(workload, peer, pair, samples_per_cpu_s=cpu_rate, **(own | given))


def test_peers_are_compared_pair_by_pair_and_without_void_runs() -> None:
    runs = [
        measured("filter", "relay", 0, 30.0),
        measured("filter", "vmagent", 0, 10.0),
        measured("filter", "relay", 1, 20.0),
        Measurement("filter", "vmagent", 1, void="7 points arrived where 8 were expected: -1"),
    ]
    assert [one.line() for one in compare(runs)] == [
        "relay / vmagent, samples per CPU-second: 3.00 (at least 2.5)   (pair by pair: 3.00)",
        "relay / vmagent, samples per second: 1.00   (pair by pair: 1.00)",
    ]
    assert table_row(runs[3]).endswith("VOID: 7 points arrived where 8 were expected: -1")


def test_a_workload_is_compared_with_the_export_that_ran_beside_it() -> None:
    runs = [
        measured("export", "relay", 0, 100.0, beside="tenants"),
        measured("tenants", "relay", 0, 50.0),
        measured("export", "relay", 1, 100.0, beside="tenants"),
        measured("tenants", "relay", 1, 40.0),
        measured("export", "relay", 2, 100.0, beside="tenants"),
        measured("tenants", "relay", 2, 25.0),
    ]
    (found,) = compare(runs)
    assert found.line() == (
        "tenants / export, CPU per sample: 2.50 (at most 2: MISSED)   "
        "(pair by pair: 2.00  2.50  4.00)"
    )
    assert not found.holds
    (held,) = compare(runs[:2])
    assert held.holds


def test_fan_out_is_compared_by_the_point() -> None:
    runs = [
        measured("export", "relay", 0, 100.0, beside="fanout"),
        measured("fanout", "relay", 0, 40.0, points=5000),
    ]
    (found,) = compare(runs)
    assert found.median == pytest.approx(0.5)
    assert found.title == "fanout / export, CPU per delivered point"


def test_new_series_a_second_are_wanted_for_themselves() -> None:
    lines = [one.line() for one in compare([measured("cold", "relay", 0, 120_000.0)])]
    assert lines[0].startswith("relay, new series per second: 1,000 (at least 100,000: MISSED)")


def test_a_loaded_run_is_held_against_the_bounds_of_latency() -> None:
    loaded = measured("export", "relay", 0, 9.0, load=0.8, latency_p99_s=0.2, lag_p99_s=0.01)
    found = {one.title: one for one in compare([measured("export", "relay", 0, 9.0), loaded])}
    assert not found["relay at 80% of its maximum, p99 of answers, ms"].holds
    assert found["relay at 80% of its maximum, p99 of event loop lag, ms"].holds
    assert "relay at 80% of its maximum, worst event loop lag, ms" not in found, "not told"


def test_bounds_are_of_workloads_that_there_are() -> None:
    assert {*EXPORT_BOUNDS, *FIGURE_BOUNDS} <= set(WORKLOADS)
    assert str(Bound(at_least=0.5, at_most=2)) == "at least 0.5 and at most 2"
    assert [Bound(0.5, 2).holds(value) for value in (0.4, 0.5, 2, 2.1)] == [
        False,
        True,
        True,
        False,
    ]


# The watcher.


def exposition(counts: tuple[int, int, int], worst: float) -> str:
    bounds = ("0.01", "0.1", "+Inf")
    rows = [f'{LAG}_bucket{{le="{le}"}} {n}' for le, n in zip(bounds, counts, strict=True)]
    rows += [f"{LAG}_sum 1.5", f"{LAG}_count {counts[2]}", f"{LAG_MAX} {worst}", "other 7"]
    return "\n".join([f"# TYPE {LAG} histogram", *rows])


@pytest.mark.parametrize(
    ("counts", "worst", "expected"),
    [
        ((110, 120, 130), 0.5, (0.01, 0.01)),  # the worst was before the run
        ((109, 120, 130), 0.5, (0.01, 0.1)),
        ((100, 120, 130), 0.5, (0.1, 0.1)),
        ((100, 120, 130), 0.05, (0.05, 0.05)),  # lower than the bucket's bound
        ((110, 120, 131), 0.7, (0.01, 0.7)),  # one of 101 was worse than ever
        ((90, 100, 130), 0.7, (0.7, 0.7)),
    ],
)
def test_lag_is_what_grew_during_the_run(
    counts: tuple[int, int, int], worst: float, expected: tuple[float, float]
) -> None:
    before = read_lag(exposition((10, 20, 30), 0.5))
    assert lags([before, read_lag(exposition(counts, worst))]) == expected


def test_peers_that_do_not_tell_their_lag() -> None:
    assert lags([read_lag("up 1\n"), read_lag("up 1\n")]) == (-1.0, -1.0)
    assert lags([]) == (-1.0, -1.0)


@pytest.fixture
def metrics_url() -> Iterator[str]:
    """Serves measurements that become more, and worse; and 404 elsewhere."""
    scrapes: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if self.path == "/none" else 200)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the page was closed
                while self.path == "/page":
                    self.wfile.write(b": nothing new\n\n")
                    time.sleep(0.001)
            scrapes.append(0.001 * len(scrapes))
            text = exposition((0, len(scrapes), len(scrapes)), scrapes[-1])
            self.wfile.write(text.encode())

        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            event = b"result" if self.path == "/preview" else b"error"
            self.wfile.write(b'{"event": "progress"}\n{"event": "%s"}\n' % event)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - theirs
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_watcher_scrapes_and_reloads_once(metrics_url: str) -> None:
    reloaded = threading.Event()
    with Watcher(f"{metrics_url}/metrics", reload=reloaded.set, reload_after_s=0.0) as watcher:
        assert reloaded.wait(10)
    watched = watcher.result()
    assert watched.reloads == 1
    assert watched.scrapes >= 2, "one at the start, one at the end"
    worst_s = pytest.approx(0.001 * (watched.scrapes - 1))
    assert (watched.lag_p99_s, watched.lag_max_s) == (worst_s, worst_s)


def test_the_watcher_asks_for_previews_and_reads_a_page(metrics_url: str) -> None:
    page, preview = f"{metrics_url}/page", f"{metrics_url}/preview"
    given = {"reload": None, "reload_after_s": 0.0, "page": page, "preview": preview}
    with Watcher(f"{metrics_url}/metrics", **given) as watcher:
        pass
    watched = watcher.result()
    assert watched.previews == 1
    assert watched.page_bytes >= len(": nothing new\n\n")


@pytest.mark.parametrize("given", [{"preview": "faulty"}, {"page": "none"}])
def test_a_preview_or_page_that_fails_is_not_swallowed(
    metrics_url: str, given: dict[str, str]
) -> None:
    urls = {name: f"{metrics_url}/{path}" for name, path in given.items()}
    with Watcher(f"{metrics_url}/metrics", reload=None, reload_after_s=0.0, **urls) as watcher:
        pass
    with pytest.raises(OSError, match=r"error|404"):
        watcher.result()


def test_a_scrape_that_fails_is_not_swallowed(metrics_url: str) -> None:
    with Watcher(f"{metrics_url}/none", reload=None, reload_after_s=0.0) as watcher:
        pass
    with pytest.raises(OSError, match="answered 404"):
        watcher.result()


# The picture.


@pytest.mark.slow
def test_the_picture_shows_medians_by_workload_and_peer(tmp_path: Path) -> None:
    runs = [
        measured("export", "relay", 0, 1e6),
        measured("export", "vmagent", 0, 5e5),
        measured("export", "relay", 1, 2e6, beside="seed"),
        measured("seed", "relay", 1, 1e5),
        measured("seed", "relay", 2, 1e5, void="why"),
        measured("seed", "relay", 3, 7e5, load=0.8),
    ]
    assert costs(runs) == {
        "export": {"relay": [1.0, 0.5], "vmagent": [2.0]},
        "seed": {"relay": [10.0]},
    }
    draw(tmp_path / "picture.png", runs, "a title")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_runs_at_the_same_time_count_as_one() -> None:
    parts = [
        Measurement(
            "export",
            "relay x2",
            0,
            samples=samples,
            points=samples,
            cpu_s=cpu_s,
            samples_per_s=samples / 2,
            sending_s=2.0,
            rss_peak_bytes=100,
            latency_p99_s=latency_s,
            idle_share=0.2,
            # Of the 0.8 that were used, each saw its own 0.35; the last 0.1 are somebody else's.
            foreign_share=0.45,
        )
        for samples, cpu_s, latency_s in ((4000, 1.0, 0.1), (2000, 2.0, 0.3))
    ]
    whole = sum_of(parts)
    assert (whole.samples, whole.points, whole.rss_peak_bytes) == (6000, 6000, 200)
    assert whole.samples_per_cpu_s == 2000
    assert whole.samples_per_s == 3000
    assert whole.latency_p99_s == 0.3
    assert whole.foreign_share == pytest.approx(0.1)
    assert sum_of([parts[0], replace(parts[1], void="why")]).void == "why"
