"""OTLP metrics that were acknowledged are delivered after a crash, in every form, and accounted."""

from __future__ import annotations

import gzip
from pathlib import Path

from tests.kit.exporter_yaml import exporter_of
from tests.kit.http.otlp_server import OtlpServer, Reply
from tests.kit.http.remote_write_server import RemoteWriteServer
from tests.kit.ingest_server import eventually
from tests.kit.otlp.official import METRICS, attribute
from tests.kit.stored_relay import OTLP, Sender, crash_image, made, running

REQUESTS = 5
TIME_NS = 1_700_000_000 * 10**9


def body(number: int) -> bytes:
    """Return a counter and a histogram after so many observations, the former as a delta, too."""
    request = METRICS.request()
    resource = request.resource_metrics.add()
    resource.resource.attributes.append(attribute("service.name", "api"))
    metrics = resource.scope_metrics.add().metrics
    time = {"time_unix_nano": TIME_NS + number * 10**9, "start_time_unix_nano": TIME_NS}
    for name, temporality in (("requests", 2), ("jobs", 1)):
        counter = metrics.add(name=name).sum
        counter.aggregation_temporality, counter.is_monotonic = temporality, True
        counter.data_points.add(as_double=number, **time)
    histogram = metrics.add(name="duration").histogram
    histogram.aggregation_temporality = 2
    histogram.data_points.add(count=number, sum=1.0, explicit_bounds=[1], bucket_counts=[0, number])
    histogram.data_points[0].time_unix_nano = TIME_NS + number * 10**9
    return gzip.compress(request.SerializeToString())


def exporter(url: str, written: str) -> str:
    """An Exporter of all metrics to sinks of every form; ``written``: that of remote write."""
    endpoint = {"endpoint": url.removesuffix("/v1/metrics")}
    common = {"batch": {"timeout": "1ms"}, "retry": {"backoff": "10ms"}}
    return exporter_of(
        "all",
        [{"name": "all", "metrics": {"metricsql": ""}}],
        [
            {"name": "cumulative", "otlp_http": endpoint, **common},
            {"name": "deltas", "otlp_http": {**endpoint, "temporality": "delta"}, **common},
            {
                "name": "prometheus",
                "prometheusRemoteWrite": {"endpoint": written},
                **common,
            },
        ],
    )


def delivered(sender: Sender) -> dict[str, tuple[int, int]]:
    """Return points matched and delivered by sink, also while a request is taken in slices."""
    reports = sender.relay._reconciler.reports()
    return {one.sink: (one.matched, one.ledger.delivered) for one in reports}


def balances(sender: Sender) -> dict[str, tuple[int, int]]:
    """Return points matched and delivered by sink; no point is lost between the two.

    Only while no request is being taken: its points are in open batches before they are counted
    as matched.
    """
    for report in sender.relay._reconciler.reports():
        assert report.matched == report.ledger.offered + report.open, report
    return delivered(sender)


async def test_what_a_crash_left_is_delivered_and_accounted(tmp_path: Path) -> None:
    async with (
        OtlpServer(lambda _: Reply(503)) as server,
        RemoteWriteServer() as prometheus,
    ):
        prometheus.script = [Reply(503)] * 10_000
        text = exporter(server.url, prometheus.url)
        async with running(made(tmp_path, text)) as sender:
            for number in range(1, REQUESTS + 1):
                status = await sender.post(body(number), path="/v1/metrics", headers=OTLP)
                assert status == 200
            assert balances(sender)["cumulative"] == (2 * REQUESTS, 0)
            image = crash_image(tmp_path / "data", tmp_path / "image")
        server.answer = lambda _: Reply()
        prometheus.script.clear()
        again = made(tmp_path, text, data=image)
        async with running(again) as sender:

            def all_delivered() -> bool:
                found = delivered(sender)
                return found["prometheus"][1] == 5 * REQUESTS and all(
                    matched == done > 0 for matched, done in found.values()
                )

            await eventually(all_delivered)
            # A counter, and a histogram of two buckets, its count and its sum.
            assert balances(sender)["prometheus"] == (5 * REQUESTS, 5 * REQUESTS)
            assert balances(sender)["cumulative"] == (2 * REQUESTS, 2 * REQUESTS)
            deltas = balances(sender)["deltas"][0]
            assert deltas >= 2 * REQUESTS
