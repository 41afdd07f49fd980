"""The reference's vectors 1 to 16, 36, 37, 44 and 49: what kind of metric a series becomes.

Where the reference leaves a choice (marked D there), the test says which one is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest

from relay.codec.otlp.metrics import Temporality
from relay.codec.otlp.split import count_points
from relay.pipeline.routing.match_set import OutputOptions
from relay.sink.otlp_http import OTLP_HTTP
from relay.sink.queue.encoding import SharedBodyCache, encode_batch
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.oracle.any_points import STALE_FLAG, AnyPoint, bits
from tests.kit.remote_write.sample_writes import T0_MS, T0_NS, histogram, write

BUCKETS = ((".1", 2), ("1", 5), ("+Inf", 7))
LATENCY = histogram("latency_seconds", 'job="api"', BUCKETS, 9.5, 7)
HISTOGRAM = {"latency_seconds": "histogram seconds"}
SUMMARY = {"rpc": "summary"}
WAIT_S = 10.0


def rig_of(temporality: Temporality = "cumulative") -> Rig:
    """An engine with one sink that wants everything."""
    rig = Rig()
    rig.export(RigSink("s", limit=10_000, options=OutputOptions(temporality)))
    return rig


def points_of(rig: Rig) -> list[AnyPoint]:
    """Everything that comes out once nobody waits any more."""
    rig.hand_over(rig.engine.finish(1e6))
    rig.flush()
    return rig.sinks[0].any_points()


def become(*lines: str, types: dict[str, str] | None = None) -> list[AnyPoint]:
    """What one request becomes, on its own."""
    rig = rig_of()
    rig.feed(write(*lines, types=types))
    return points_of(rig)


def assembly_outcomes(rig: Rig) -> dict[str, int]:
    """What became of the samples of histograms and summaries."""
    return rig.engine.statistics().assembly.outcomes


def without(lines: Iterable[str], part: str) -> list[str]:
    """The lines that do not have ``part``."""
    return [line for line in lines if part not in line]


def test_vector_1_a_counter() -> None:
    (point,) = become(
        'http_requests_total{job="api",instance="h:1",code="200"} 5 @1700000000123',
        types={"http_requests": "counter"},
    )
    assert point.resource == (("service.instance.id", "h:1"), ("service.name", "api"))
    assert point.name == "http_requests_total"
    assert point.identity[:3] == ("sum", True, "cumulative")
    assert point.identity.prometheus_type == "counter"
    assert (point.value, point.time_ns) == (5.0, 1_700_000_000_123_000_000)
    assert point.attributes == (("code", "200"),)
    assert (point.start_ns, point.flags) == (0, 0)


def test_vector_2_names_stay_and_units_are_ucum() -> None:
    memory, requests = become(
        "memory_bytes 5",
        "total_reqs 1",
        types={"memory_bytes": "gauge bytes", "total_reqs": "counter"},
    )
    assert (memory.name, memory.identity.kind, memory.identity.unit) == (
        "memory_bytes",
        "gauge",
        "By",
    )
    assert (requests.name, requests.identity.kind) == ("total_reqs", "sum")


def test_vector_3_without_metadata_a_gauge() -> None:
    (untold,) = become("temperature 5")
    assert untold.identity == ("gauge", False, "", "", "", "")
    (unknown,) = become("temperature 5", types={"temperature": "unknown"})
    assert unknown.identity.prometheus_type == "unknown"
    assert unknown.identity.kind == "gauge"


@pytest.mark.parametrize(("name", "kind"), [("build_info", "info"), ("state", "stateset")])
def test_vector_4_info_and_state_sets_are_sums(name: str, kind: str) -> None:
    (point,) = become(f'{name}{{version="1"}} 1', types={name: kind})
    assert point.identity[:3] == ("sum", False, "cumulative")
    assert point.identity.prometheus_type == kind


def test_vector_5_gauge_histograms_are_dropped() -> None:
    rig = rig_of()
    lines = ('queue_bucket{le="1"} 5', "queue_gcount 5", "queue_gsum 2")
    rig.feed(write(*lines, types={"queue": "gaugehistogram"}))
    assert points_of(rig) == []
    assert assembly_outcomes(rig) == {"gauge_histogram": 3}
    assert rig.sinks[0].counter.samples == 3, "matched, and accounted for by the outcome"


def test_vector_6_target_info_describes_the_resource() -> None:
    (point,) = become(
        'target_info{job="api",instance="h:1",k8s_cluster="x"} 1', 'up{job="api",instance="h:1"} 1'
    )
    assert point.name == "up"
    assert ("k8s_cluster", "x") in point.resource
    assert point.attributes == ()


def test_vector_7_scope_labels_become_the_scope() -> None:
    (point,) = become(
        'up{otel_scope_name="lib",otel_scope_version="1.2",otel_scope_owner="me",a="b"} 1'
    )
    assert point.scope == ("lib", "1.2", (("owner", "me"),))
    assert point.attributes == (("a", "b"),)


def test_the_relays_own_scope_has_no_version() -> None:
    """A backend makes a label of it: a release would make every series a new one."""
    for line in ("up 1", 'up{otel_scope_owner="me"} 1', 'up{otel_scope_version="1.2"} 1'):
        (point,) = become(line)
        assert point.scope[:2] == ("relay", "")


def test_vector_8_a_classic_histogram() -> None:
    (point,) = become(*LATENCY, types=HISTOGRAM)
    assert point.name == "latency_seconds"
    assert point.identity == ("histogram", False, "cumulative", "s", "", "histogram")
    assert point.data == (7, bits(9.5), (0.1, 1.0), (2, 3, 2))
    assert (point.attributes, point.time_ns, point.start_ns) == ((), T0_NS, 0)


def test_vector_8_without_metadata_too() -> None:
    """Ours: a ``_bucket`` with ``le`` says enough, and its ``_sum`` and ``_count`` follow it."""
    (point,) = become(*LATENCY)
    assert point.data == (7, bits(9.5), (0.1, 1.0), (2, 3, 2))
    assert point.identity.prometheus_type == ""


def test_vector_9_without_infinity_the_count_tells() -> None:
    (point,) = become(*without(LATENCY, "+Inf"), types=HISTOGRAM)
    assert point.data == (7, bits(9.5), (0.1, 1.0), (2, 3, 2))


def test_vector_10_the_sum_may_be_missing_and_the_count_is_that_of_infinity() -> None:
    (point,) = become(*without(LATENCY, "_sum"), types=HISTOGRAM)
    assert point.data == (7, None, (0.1, 1.0), (2, 3, 2))
    (point,) = become(*without(LATENCY, "_count"), types=HISTOGRAM)
    assert point.data == (7, bits(9.5), (0.1, 1.0), (2, 3, 2))
    rig = rig_of()
    rig.feed(write(*without(without(LATENCY, "_count"), "+Inf"), types=HISTOGRAM))
    assert points_of(rig) == []
    assert assembly_outcomes(rig) == {"no_count": 3}


@pytest.mark.parametrize(
    ("buckets", "count", "reason"),
    [
        ((("1", 5), ("2", 3), ("+Inf", 7)), 7, "not_monotone"),
        ((("1", 2), ("+Inf", 2.5)), 2.5, "not_whole"),
        ((("1", 2.5), ("+Inf", 3)), 3, "not_whole"),
        ((("1", -1), ("+Inf", 3)), 3, "not_whole"),
        ((("1", math.nan), ("+Inf", 3)), 3, "not_whole"),
        ((("1", 5), ("+Inf", 5)), 4, "contradiction"),
        ((("1", 2), ("+Inf", 4)), 5, "contradiction"),
    ],
)
def test_vector_11_a_contradictory_histogram_is_rejected_whole(
    buckets: Any, count: float, reason: str
) -> None:
    rig = rig_of()
    rig.feed(write(*histogram("h", "", buckets, 1.0, count)))
    assert points_of(rig) == []
    assert assembly_outcomes(rig) == {reason: len(buckets) + 2}


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [(("1", "1.0"), "duplicate_bound"), (("NaN", "2"), "bad_bound"), (("1_0", "2"), "bad_bound")],
)
def test_vector_12_bounds_are_numbers_and_distinct(bounds: tuple[str, str], reason: str) -> None:
    rig = rig_of()
    rig.feed(write(*histogram("h", "", [(bound, 1) for bound in bounds], 1.0, 1)))
    assert points_of(rig) == []
    assert assembly_outcomes(rig) == {reason: 4}


def test_vector_13_parts_over_three_requests() -> None:
    rig = rig_of()
    rig.feed(write(*LATENCY[:2], at_ms=T0_MS, types=HISTOGRAM))
    rig.feed(write(*LATENCY, at_ms=T0_MS + 1000))
    rig.feed(write(*LATENCY[2:4], at_ms=T0_MS))
    rig.feed(write(*LATENCY[4:], at_ms=T0_MS))
    points = points_of(rig)
    assert [point.time_ns - T0_NS for point in points] == [0, 1_000_000_000]
    assert {point.data for point in points} == {(7, bits(9.5), (0.1, 1.0), (2, 3, 2))}


def test_vector_13_what_is_learned_leaves_at_once() -> None:
    rig = rig_of()
    rig.feed(write(*LATENCY, types=HISTOGRAM))
    rig.due(WAIT_S)
    rig.feed(write(*LATENCY[:3], at_ms=T0_MS + 1000), tick=20.0)
    assert rig.sinks[0].held == 1
    rig.feed(write(*LATENCY[3:], at_ms=T0_MS + 1000), tick=20.0)
    assert rig.sinks[0].held == 2


def test_vector_14_nothing_comes_a_second_time() -> None:
    rig = rig_of()
    rig.feed(write(*without(LATENCY, 'le="1"'), types=HISTOGRAM))
    rig.due(WAIT_S)
    rig.feed(write('latency_seconds_bucket{job="api",le="1"} 5'))
    (point,) = points_of(rig)
    assert point.data == (7, bits(9.5), (0.1,), (2, 5))
    assert assembly_outcomes(rig)["late"] == 1


def test_vector_15_ranges_are_no_cumulative_buckets() -> None:
    """Ours: VictoriaMetrics' ranges become the histogram that they are."""
    (point,) = become(
        'h_bucket{vmrange="0...1.000e-09"} 1',
        'h_bucket{vmrange="1.000e+00...1.136e+00"} 2',
        'h_bucket{vmrange="1.136e+00...1.292e+00"} 3',
        'h_bucket{vmrange="1.000e+18...+Inf"} 4',
        "h_sum 12.5",
        "h_count 10",
    )
    bounds = (0.0, 1e-9, 1.0, 1.136, 1.292, 1e18)
    assert point.data == (10, bits(12.5), bounds, (0, 1, 0, 2, 3, 0, 4))


def test_vector_15_beside_cumulative_buckets_ranges_say_nothing() -> None:
    (point,) = become(*LATENCY, 'latency_seconds_bucket{job="api",vmrange="1...2"} 3')
    assert point.data == (7, bits(9.5), (0.1, 1.0), (2, 3, 2))


def test_vector_16_summaries() -> None:
    lines = ['rpc{quantile="0.5"} 1.5', 'rpc{quantile="0.9"} NaN', "rpc_sum 9.5", "rpc_count 7"]
    (point,) = become(*lines, types=SUMMARY)
    assert point.identity.kind == "summary"
    count, total, quantiles = point.data
    assert (count, total, quantiles[0]) == (7, 9.5, (0.5, 1.5))
    assert quantiles[1][0] == 0.9
    assert math.isnan(quantiles[1][1]), "ours: nothing observed is what NaN says"
    (point,) = become(*without(lines, "_sum"), types=SUMMARY)
    assert point.data[:2] == (7, 0.0)
    rig = rig_of()
    rig.feed(write(*without(lines, "_count"), types=SUMMARY))
    assert points_of(rig) == []
    assert assembly_outcomes(rig) == {"no_count": 3}


def test_vector_23_stale_histograms_and_summaries() -> None:
    stale = [f"{line.rpartition(' ')[0]} StaleNaN" for line in LATENCY]
    (point,) = become(*stale, types=HISTOGRAM)
    assert (point.flags, point.identity.kind) == (STALE_FLAG, "histogram")
    assert point.data == (0, bits(0.0), (0.1, 1.0), (0, 0, 0))
    (point,) = become('rpc{quantile="0.5"} StaleNaN', "rpc_count StaleNaN", types=SUMMARY)
    assert (point.flags, point.identity.kind) == (STALE_FLAG, "summary")
    count, total, ((quantile, value),) = point.data
    assert (count, total, quantile) == (0, 0.0, 0.5)
    assert math.isnan(value)


def feed_counter(rig: Rig, *values: str) -> None:
    """A counter's values, a second apart."""
    for number, value in enumerate(values):
        rig.feed(write(f"c_total {value}", at_ms=T0_MS + 1000 * number))


def test_vector_36_a_reset() -> None:
    rig = rig_of()
    feed_counter(rig, "100", "5")
    assert [point.value for point in points_of(rig)] == [100.0, 5.0]
    assert {point.start_ns for point in rig.sinks[0].any_points()} == {0}, "none is made up"
    rig = rig_of("delta")
    feed_counter(rig, "100", "5")
    (point,) = points_of(rig)
    assert (point.value, point.start_ns, point.time_ns) == (5.0, T0_NS, T0_NS + 1_000_000_000)
    assert point.identity[:3] == ("sum", True, "delta")


def test_vector_37_the_first_point_sets_the_base() -> None:
    rig = rig_of("delta")
    feed_counter(rig, "100")
    assert points_of(rig) == []
    assert rig.engine.statistics().deltas.outcomes["first"] == 1
    feed_counter(rig, "100", "107")
    assert [point.value for point in points_of(rig)] == [7.0]


@pytest.mark.parametrize("bytes_max", [500_000, 1_000_000])
def test_vector_44_a_long_series_is_cut_by_its_encoded_size(bytes_max: int) -> None:
    rig = rig_of()
    label = "x" * 100
    rig.feed(write(*(f'up{{a="{label}"}} {n} @{T0_MS + n}' for n in range(10_000))))
    rig.flush()
    (sealed,) = rig.sinks[0].sealed
    payloads = encode_batch(
        sealed,
        OTLP_HTTP.encoder,
        shard=0,
        compression="none",
        bytes_max=bytes_max,
        bodies=SharedBodyCache(),
    )
    assert len(payloads) > 1
    assert max(len(payload.body) for payload in payloads) <= bytes_max
    assert sum(count_points(payload.body) for payload in payloads) == 10_000


@pytest.mark.parametrize(
    ("labels", "resource"),
    [
        ('job="ns/app"', (("service.name", "app"), ("service.namespace", "ns"))),
        ('job="a/b/c"', (("service.name", "a/b/c"),)),
        ('other="x"', ()),
    ],
)
def test_vector_49_jobs_are_split_and_nothing_is_invented(labels: str, resource: Any) -> None:
    (point,) = become(f"up{{{labels}}} 1")
    assert point.resource == resource
