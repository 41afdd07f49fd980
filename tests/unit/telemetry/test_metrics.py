"""The catalogue of metrics and its exposition."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from relay import __version__
from relay.telemetry.cluster_metrics import API_METRICS, CLUSTER_METRICS, PLANE_METRICS
from relay.telemetry.deprecated_metrics import DEPRECATED
from relay.telemetry.exposition import expose
from relay.telemetry.histogram import LATENCY_BOUNDS_S, REQUEST_BOUNDS_S, Distribution
from relay.telemetry.matching_metrics import RECORD_METRICS
from relay.telemetry.policy_metrics import POLICIES
from relay.telemetry.registry import (
    CATALOGUE,
    IngestFigures,
    SinkFigures,
    Snapshot,
    SourceFigures,
    StorageFigures,
    Telemetry,
)
from relay.telemetry.snapshot import (
    Drop,
    JournalFigures,
    LagFigures,
    OrphanFigures,
    ProjectFigures,
)

OTHERS = (*RECORD_METRICS, *POLICIES, *API_METRICS, *CLUSTER_METRICS, *PLANE_METRICS)
OWN = [spec for spec in CATALOGUE if spec not in OTHERS]
"""Metrics of every relay; modules of their own test the others."""

SNAPSHOT = Snapshot(
    version="1.2.3",
    build="compiled",
    ingest=IngestFigures(
        requests={204: 5, 400: 1},
        refused={"undecodable": 1, "overloaded": 0},
        partial=2,
        compressed_bytes=100,
        decoded_bytes=900,
        in_flight=3,
        durations=Distribution((0, 4, *[0] * 10), 0.008),
    ),
    orphans=OrphanFigures(2, 30, 400, {"orphaned": 50, "adopted": 20}),
    received_samples={"remote_write_1": 50},
    dropped_samples={"invalid_utf8": 4},
    unmatched_samples=6,
    projects=(ProjectFigures("acme", *range(1, 11), {"maxSeries": 100}, 11, 12),),
    projects_forgotten=11,
    sources=(SourceFigures("a/web", "all", 40),),
    sinks=(
        SinkFigures(
            exporter="a/web",
            sink="grafana",
            matched_points=40,
            matched_samples=44,
            delivered=20,
            rejected={"partial_success": 3, "400": 2},
            expired=1,
            dropped={"full": 4},
            queued_points=10,
            queue_bytes=1234,
            queue_bytes_max=64 << 20,
            oldest_point_age_s=2.5,
            requests={"delivered": 7, "retry": 2},
            sent_bytes=5000,
            memory_bytes=234,
            stored_bytes=1100,
            full_in_s=3600.0,
            stalled_s=12.5,
            unreachable=True,
            last_success_at=1_700_000_000.5,
            last_error_at=1_700_000_001.0,
            paused=True,
            owner_paused=True,
            internal_errors=0,
            behind=True,
            request_durations=Distribution((1, 0, 2, 0, 1), 33.5, REQUEST_BOUNDS_S),
            delivery_latency=Distribution((0, 3, 0, 0, 0, 0, 0), 6.0, LATENCY_BOUNDS_S),
        ),
        SinkFigures(exporter="a/web", sink="idle"),
    ),
    removed_sinks={"delivered": 8, "dropped": 2},
    storage=(
        StorageFigures(
            part="queues",
            used_bytes=100,
            bytes_max=1000,
            degraded=True,
            errors=3,
            written_bytes=5000,
            damaged_records=1,
            damaged_bytes=77,
            torn_bytes=5,
        ),
    ),
    journal=JournalFigures({"written": 70}, {"write": 7}, 88),
    memory_bytes={"queued": 99},
    memory_bytes_max=1000,
    unreachable_endpoints=1,
    series_active=11,
    series_created=13,
    series_forgotten={"idle": 2, "full": 3},
    series_retyped=1,
    metadata_families=9,
    metadata_contradictions=3,
    assembled_samples={"assembled": 30, "late": 2},
    assembled_points=4,
    waiting_samples=7,
    histogram_families=5,
    exemplars={"received": 9, "sent": 3, "dropped": 1},
    delta_points={"made": 8, "first": 2},
    delta_states=6,
    drops=(Drop("a/web", "grafana", "h", "late", 118, 5.0, 6.0),),
    exporters=2,
    sink_kinds={("otlp_http", ""): 2, ("prometheusRemoteWrite", "1.0"): 1},
    exporter_faults=1,
    reloads={"good": 5, "faulty": 2, "failed": 0},
    selectors_always_asked=4,
    inventory_objects={"manifests": 12, "series": 0},
    ingest_next_position=20,
    ingest_oldest_held_position=17,
    loop_lag=LagFigures(0.25, Distribution((7, *[0] * 5, 2, *[0] * 4, 1), 3.25)),
)

_GRAFANA = 'exporter="a/web",sink="grafana"'

DESIGNED = """
relay_received_samples_total{protocol="remote_write_1"} 50
relay_dropped_samples_total{reason="invalid_utf8"} 4
relay_unmatched_samples_total 6
relay_matched_samples_total{exporter="a/web",source="all"} 40
relay_sink_points_total{exporter="a/web",outcome="delivered",sink="grafana"} 20
relay_sink_points_total{exporter="a/web",outcome="rejected",sink="grafana"} 5
relay_sink_points_total{exporter="a/web",outcome="expired",sink="grafana"} 1
relay_sink_points_total{exporter="a/web",outcome="dropped",sink="grafana"} 4
relay_sink_points_total{exporter="a/web",outcome="dropped",sink="idle"} 0
relay_sink_queued_points{exporter="a/web",sink="grafana"} 10
relay_sink_oldest_point_age_seconds{exporter="a/web",sink="grafana"} 2.5
relay_series_active 11
relay_requests_total{code="204"} 5
relay_refused_requests_total{reason="undecodable"} 1
relay_refused_requests_total{reason="overloaded"} 0
relay_partial_requests_total 2
relay_requests_in_flight 3
relay_received_bytes_total{stage="compressed"} 100
relay_received_bytes_total{stage="decoded"} 900
relay_sink_matched_points_total{exporter="a/web",sink="grafana"} 40
relay_sink_matched_samples_total{exporter="a/web",sink="grafana"} 44
relay_sink_failed_points_total{exporter="a/web",outcome="rejected",reason="400",sink="grafana"} 2
relay_sink_failed_points_total{exporter="a/web",outcome="dropped",reason="full",sink="grafana"} 4
relay_sink_unexported_samples_total{exporter="a/web",family="h",reason="late",sink="grafana"} 118
relay_sink_requests_total{exporter="a/web",result="retry",sink="grafana"} 2
relay_sink_bytes_total{exporter="a/web",sink="grafana"} 5000
relay_sink_last_success_timestamp_seconds{exporter="a/web",sink="grafana"} 1.7000000005e+09
relay_sink_last_success_timestamp_seconds{exporter="a/web",sink="idle"} 0
relay_sink_queue_bytes{exporter="a/web",sink="grafana"} 1234
relay_sink_queue_bytes_max{exporter="a/web",sink="grafana"} 6.7108864e+07
relay_sink_queue_max_bytes{exporter="a/web",sink="grafana"} 6.7108864e+07
relay_sink_last_error_timestamp_seconds{exporter="a/web",sink="grafana"} 1.700000001e+09
relay_sink_queue_memory_bytes{exporter="a/web",sink="grafana"} 234
relay_sink_stored_bytes{exporter="a/web",sink="grafana"} 1100
relay_sink_seconds_until_full{exporter="a/web",sink="grafana"} 3600
relay_sink_seconds_until_full{exporter="a/web",sink="idle"} +Inf
relay_sink_until_full_seconds{exporter="a/web",sink="grafana"} 3600
relay_sink_until_full_seconds{exporter="a/web",sink="idle"} +Inf
relay_sink_stalled_seconds{exporter="a/web",sink="grafana"} 12.5
relay_sink_unreachable{exporter="a/web",sink="grafana"} 1
relay_unreachable_endpoints 1
relay_removed_sinks_points_total{outcome="delivered"} 8
relay_removed_sinks_points_total{outcome="dropped"} 2
relay_storage_used_bytes{part="queues"} 100
relay_storage_bytes_max{part="queues"} 1000
relay_storage_max_bytes{part="queues"} 1000
relay_orphan_queues 2
relay_orphan_points 30
relay_orphan_bytes 400
relay_orphaned_points_total{outcome="orphaned"} 50
relay_orphaned_points_total{outcome="adopted"} 20
relay_storage_degraded{part="queues"} 1
relay_storage_errors_total{part="queues"} 3
relay_storage_written_bytes_total{part="queues"} 5000
relay_storage_damaged_records_total{part="queues"} 1
relay_storage_damaged_bytes_total{part="queues"} 77
relay_storage_torn_bytes_total{part="queues"} 5
relay_journal_requests_total{outcome="written"} 70
relay_journal_operations_total{operation="write"} 7
relay_journal_replay_left_bytes 88
relay_memory_bytes{where="queued"} 99
relay_memory_bytes_max 1000
relay_memory_max_bytes 1000
relay_sink_paused{exporter="a/web",sink="grafana"} 1
relay_sink_paused_by_owner{exporter="a/web",sink="grafana"} 1
relay_sink_internal_errors_total{exporter="a/web",sink="grafana"} 0
relay_exporters 2
relay_sinks{kind="otlp_http",version=""} 2
relay_sinks{kind="prometheusRemoteWrite",version="1.0"} 1
relay_exporter_faults 1
relay_reloads_total{outcome="good"} 5
relay_reloads_total{outcome="faulty"} 2
relay_selectors_always_asked 4
relay_inventory_objects{source="manifests"} 12
relay_inventory_objects{source="series"} 0
relay_series_retyped_total 1
relay_series_created_total 13
relay_series_forgotten_total{reason="full"} 3
relay_series_forgotten_total{reason="idle"} 2
relay_metadata_families 9
relay_metadata_contradictions_total 3
relay_assembled_samples_total{outcome="assembled"} 30
relay_assembled_samples_total{outcome="late"} 2
relay_assembled_points_total 4
relay_assembly_waiting_samples 7
relay_assembly_families 5
relay_exemplars_total{outcome="received"} 9
relay_exemplars_total{outcome="sent"} 3
relay_exemplars_total{outcome="dropped"} 1
relay_delta_points_total{outcome="made"} 8
relay_delta_points_total{outcome="first"} 2
relay_delta_states 6
relay_event_loop_lag_seconds_bucket{le="0.001"} 7
relay_event_loop_lag_seconds_bucket{le="0.05"} 7
relay_event_loop_lag_seconds_bucket{le="0.1"} 9
relay_event_loop_lag_seconds_bucket{le="2.5"} 9
relay_event_loop_lag_seconds_bucket{le="+Inf"} 10
relay_event_loop_lag_seconds_sum 3.25
relay_event_loop_lag_seconds_count 10
relay_event_loop_lag_max_seconds 0.25
relay_ingest_request_seconds_bucket{le="0.0025"} 4
relay_ingest_request_seconds_count 4
relay_sink_behind{exporter="a/web",sink="grafana"} 1
relay_sink_request_seconds_bucket{exporter="a/web",le="0.1",sink="grafana"} 1
relay_sink_request_seconds_bucket{exporter="a/web",le="2.0",sink="grafana"} 3
relay_sink_request_seconds_bucket{exporter="a/web",le="+Inf",sink="grafana"} 4
relay_sink_request_seconds_count{exporter="a/web",sink="grafana"} 4
relay_sink_request_seconds_sum{exporter="a/web",sink="grafana"} 33.5
relay_sink_delivery_latency_seconds_bucket{exporter="a/web",le="5.0",sink="grafana"} 3
relay_sink_delivery_latency_seconds_bucket{exporter="a/web",le="+Inf",sink="idle"} 0
relay_build_info{build="compiled",version="1.2.3"} 1
relay_ingest_next_position 20
relay_ingest_oldest_held_position 17
relay_project_exporters{project="acme"} 1
relay_project_sinks{project="acme"} 2
relay_project_pairs{project="acme"} 3
relay_project_series{project="acme"} 4
relay_project_refused_series{project="acme"} 5
relay_project_samples_total{project="acme"} 6
relay_project_refused_samples_total{project="acme"} 7
relay_project_records_total{project="acme"} 11
relay_project_refused_records_total{project="acme"} 12
relay_project_sent_bytes_total{project="acme"} 8
relay_project_resent_points_total{project="acme"} 9
relay_project_queue_bytes{project="acme"} 10
relay_project_limit{limit="maxSeries",project="acme"} 100
relay_projects_forgotten_total 11
"""


def _samples(text: str) -> dict[str, float]:
    """Series as `name{label="value",…}` with labels sorted, and their values."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def _text(snapshot: Snapshot, accept: str = "") -> str:
    body, _ = Telemetry().render(snapshot, accept=accept)
    return body.decode()


def test_every_figure_is_shown_under_its_designed_name() -> None:
    found = _samples(_text(SNAPSHOT))
    expected = dict(line.rsplit(" ", 1) for line in DESIGNED.strip().splitlines())
    assert {series: found.get(series) for series in expected} == {
        series: float(value) for series, value in expected.items()
    }


def test_every_metric_of_the_catalogue_is_expected_above() -> None:
    shown = {re.split(r"[{ ]", line)[0] for line in DESIGNED.strip().splitlines()}
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in shown} == {
        spec.name for spec in OWN
    }


def test_old_names_show_what_the_new_ones_show() -> None:
    found = _samples(_text(SNAPSHOT))
    for old, new in DEPRECATED.items():
        under_old = {key.removeprefix(old): n for key, n in found.items() if _name(key) == old}
        under_new = {key.removeprefix(new): n for key, n in found.items() if _name(key) == new}
        assert under_old == under_new != {}
        assert f"# HELP {old} Deprecated, removed in 0.3.0: use {new}." in _text(SNAPSHOT)


def test_deprecated_names_are_gone_in_time() -> None:
    version = tuple(int(part) for part in re.findall(r"\d+", __version__)[:2])
    assert version < (0, 3), f"{sorted(DEPRECATED)} were to be removed"


def test_the_unit_of_a_metric_stands_last() -> None:
    units = {"bytes", "seconds"}
    for spec in CATALOGUE:
        words = spec.name.removesuffix("_total").split("_")
        if spec.name not in DEPRECATED:
            assert not units & set(words[:-1]), spec.name


def _name(series: str) -> str:
    return series.partition("{")[0]


def test_a_sinks_ledger_balances_in_the_exposition() -> None:
    found = _samples(_text(SNAPSHOT))
    done = sum(
        value
        for series, value in found.items()
        if series.startswith("relay_sink_points_total{") and 'sink="grafana"' in series
    )
    queued = found[f"relay_sink_queued_points{{{_GRAFANA}}}"]
    assert done + queued == found[f"relay_sink_matched_points_total{{{_GRAFANA}}}"]


@pytest.mark.parametrize("spec", OWN, ids=lambda spec: spec.name)
def test_names_follow_the_conventions(spec: object) -> None:
    (entry,) = [candidate for candidate in OWN if candidate is spec]
    assert re.fullmatch(r"relay_[a-z]+(_[a-z]+)*", entry.name)
    assert (entry.kind == "counter") == entry.name.endswith("_total")
    assert (entry.kind == "info") == entry.name.endswith("_info")
    assert entry.help.endswith(".")
    assert not entry.name.endswith(("_sum", "_count", "_bucket", "_created"))


def test_names_are_unique() -> None:
    assert max(Counter(spec.name for spec in CATALOGUE).values()) == 1


def test_every_metric_exists_before_anything_happened() -> None:
    text = _text(Snapshot())
    for spec in CATALOGUE:
        assert f"# TYPE {spec.name} " in text


def test_openmetrics_parses_too() -> None:
    accept = "application/openmetrics-text;version=1.0.0"
    body, content_type = Telemetry().render(SNAPSHOT, accept=accept)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    kinds = {
        family.name: family.type
        for family in openmetrics_parser.text_string_to_metric_families(body.decode())
    }
    assert kinds["relay_build"] == "info"
    assert kinds["relay_sink_points"] == "counter"
    assert kinds["relay_sink_queued_points"] == "gauge"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_content_type_without_openmetrics(accept: str, content_type: str) -> None:
    assert Telemetry().render(Snapshot(), accept=accept)[1] == content_type


def test_label_values_are_escaped() -> None:
    name = 'a"b\\c\nd'
    text = _text(Snapshot(sources=(SourceFigures(name, "s", 1),)))
    (series,) = [
        sample.labels["exporter"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "relay_matched_samples_total"
    ]
    assert series == name


def test_the_process_itself_is_shown_beside_the_catalogue() -> None:
    names = {family.name for family in text_string_to_metric_families(_text(Snapshot()))}
    assert {"process_cpu_seconds", "python_info", "python_gc_collections"} <= names


class _Library(Collector):
    """What the library makes of the same snapshot, all by itself."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        return (spec.family(self._snapshot) for spec in CATALOGUE)


_NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["\\", "\\n", "\n", '"', "a,b", "{}", "{0}", " ", "é", "\r", "a/b", "delivered"]
)
_COUNTS = st.integers(0, 2**50)  # sums of them are floats still
_SECONDS = st.floats(0, allow_nan=False) | st.just(math.inf)
_SINKS = st.builds(
    SinkFigures,
    exporter=_NAMES,
    sink=_NAMES,
    matched_points=_COUNTS,
    delivered=_COUNTS,
    rejected=st.dictionaries(_NAMES, _COUNTS, max_size=2),
    dropped=st.dictionaries(_NAMES, _COUNTS, max_size=2),
    requests=st.dictionaries(_NAMES, _COUNTS, max_size=3),
    oldest_point_age_s=_SECONDS,
    full_in_s=_SECONDS,
    unreachable=st.booleans(),
    last_success_at=_SECONDS,
    request_durations=st.builds(
        Distribution,
        st.tuples(*[_COUNTS] * (len(REQUEST_BOUNDS_S) + 1)),
        _SECONDS,
        st.just(REQUEST_BOUNDS_S),
    ),
)


def _families(parse: Callable[[str], Iterable[Metric]], text: str) -> list[tuple[object, ...]]:
    return [(one.name, one.type, one.documentation, one.samples) for one in parse(text)]


@pytest.mark.parametrize(
    ("accept", "parse"),
    [
        ("", text_string_to_metric_families),
        (
            "application/openmetrics-text;version=1.0.0",
            openmetrics_parser.text_string_to_metric_families,
        ),
    ],
    ids=["text", "openmetrics"],
)
@given(
    st.lists(_SINKS, max_size=3, unique_by=lambda one: (one.exporter, one.sink)),
    st.lists(
        st.builds(SourceFigures, _NAMES, _NAMES, _COUNTS),
        max_size=3,
        unique_by=lambda one: (one.exporter, one.source),
    ),
)
def test_all_that_is_shown_is_what_the_library_shows(
    accept: str,
    parse: Callable[[str], Iterable[Metric]],
    sinks: list[SinkFigures],
    sources: list[SourceFigures],
) -> None:
    snapshot = replace(SNAPSHOT, sinks=tuple(sinks), sources=tuple(sources))
    body, content_type = expose(snapshot, CollectorRegistry(), accept=accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Library(snapshot))
    encode, expected_type = choose_encoder(accept)
    assert content_type == expected_type
    assert _families(parse, body.decode()) == _families(parse, encode(registry).decode())


@pytest.mark.slow
def test_ten_thousand_sinks() -> None:
    """A quarter of a second of a thread; the bound only catches what is not linear."""
    sinks = tuple(
        SinkFigures(
            f"project-{i // 10}/default/exporter-{i}",
            "grafana",
            matched_points=i,
            delivered=i,
            requests={"delivered": i, "retry": 1},
        )
        for i in range(10_000)
    )
    snapshot = Snapshot(sinks=sinks)
    started = time.process_time()
    body, _ = Telemetry().render(snapshot)
    assert time.process_time() - started < 5
    assert body.count(b"\nrelay_sink_queued_points{") == len(sinks)
