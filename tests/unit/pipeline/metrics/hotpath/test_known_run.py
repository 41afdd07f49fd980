"""Runs of known series: what ends one, and what a run must not take."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from relay.runtime.errors import DecodeError
from tests.kit.engine_rig import EVERYTHING, NUMBERS, Rig, RigSink
from tests.kit.remote_write import raw

T = raw.T0_MS
POOL = [[(b"__name__", b"m%d" % (n // 2)), (b"n", b"%d" % n)] for n in range(40)]


def whole(at: int) -> bytes:
    return b"".join(raw.series(pairs, (1.0, T + at)) for pairs in POOL)


def test_seven_zero_bytes_are_no_time_of_a_run() -> None:
    rig = Rig()
    rig.export(RigSink("s", limit=1_000, options=NUMBERS))
    for at in range(3):
        rig.feed(whole(at))
    for sample in (b"\x12\x07" + bytes(7), b"\x12\x10\x09" + bytes(15)):
        for before in (b"", raw.series(POOL[0], (1.0, T + 3))):
            body = before + raw.message(1, raw.labels(POOL[1 if before else 0]) + sample)
            with pytest.raises(DecodeError):
                rig.feed(body)


@pytest.mark.parametrize("sinks", [1, 3, 8, 9])
def test_every_sink_gets_all_points_of_a_run(sinks: int) -> None:
    rig = Rig()
    made = [RigSink(f"s{n}", limit=7 + 60 * n, options=NUMBERS) for n in range(sinks)]
    rig.export(*made)
    for at in range(4):
        rig.feed(whole(at))
    rig.flush()
    for sink in made:
        assert len(sink.any_points()) == 4 * len(POOL)


def test_a_sink_of_two_sources_gets_each_point_of_a_run_twice() -> None:
    rig = Rig()
    sink = rig.export(
        RigSink("s", limit=70, options=NUMBERS), sources={"a": EVERYTHING, "b": EVERYTHING}
    )
    for at in range(4):
        rig.feed(whole(at))
    rig.flush()
    assert len(sink.any_points()) == 2 * 4 * len(POOL)


def test_a_stale_marker_within_a_run_says_so() -> None:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=1_000, options=NUMBERS))
    for at in range(3):
        rig.feed(whole(at))
    samples = [raw.sample(raw.STALE if n == 20 else 1, T + 3) for n in range(len(POOL))]
    rig.feed(b"".join(raw.message(1, raw.labels(POOL[n]) + one) for n, one in enumerate(samples)))
    rig.flush()
    (sealed,) = sink.sealed
    request = ExportMetricsServiceRequest.FromString(sealed.point_buffer.encode())
    metrics = request.resource_metrics[0].scope_metrics[0].metrics
    flags = [point.flags for metric in metrics for point in metric.gauge.data_points]
    assert len(flags) == 4 * len(POOL)
    assert sum(flags) == 1
