"""Names are those that Prometheus gives: the cases are of its own translator's tests."""

from __future__ import annotations

import pytest

from relay.codec.otlp.metrics import Kind
from relay.pipeline.metrics.otlp.prometheus_names import (
    label_name,
    labels_of,
    metric_name,
    unit_name,
)


@pytest.mark.parametrize(
    ("name", "unit", "kind", "monotonic", "expected"),
    [
        ("system.io", "By", "sum", True, "system_io_bytes_total"),
        ("system.cpu.utilization", "1", "gauge", False, "system_cpu_utilization_ratio"),
        ("http.server.duration", "s", "histogram", False, "http_server_duration_seconds"),
        ("network.io", "By/s", "gauge", False, "network_io_bytes_per_second"),
        ("memory", "{pages}", "gauge", False, "memory"),
        ("requests", "{req}/s", "gauge", False, "requests_per_second"),
        ("total.requests", "", "sum", True, "requests_total"),
        ("already_seconds", "s", "gauge", False, "already_seconds"),
        ("3.digits", "", "gauge", False, "_3_digits"),
        ("a__b...c", "", "gauge", False, "a_b_c"),
        ("job:rate", "", "gauge", False, "job:rate"),
        ("count", "1", "sum", True, "count_total"),
        ("odd", "m/x/y", "gauge", False, "odd_meters_per_x_y"),
        ("odd", "_", "gauge", False, "odd"),
        ("odd", "s_/s", "gauge", False, "odd_s_per_second"),
        ("ü", "", "gauge", False, "ü"),
        ("active", "", "sum", False, "active"),
    ],
)
def test_metrics_have_units_and_total(
    name: str, unit: str, kind: Kind, monotonic: bool, expected: str
) -> None:
    assert metric_name(name, unit, kind, monotonic=monotonic) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("http.method", "http_method"),
        ("http..method", "http_method"),
        ("3xx", "key_3xx"),
        ("_own", "_own"),
        ("__reserved.x__", "__reserved_x__"),
        ("___", ""),
        ("", ""),
        ("ö", ""),
    ],
)
def test_labels_have_letters_digits_and_underscores(key: str, expected: str) -> None:
    assert label_name(key) == expected


def test_attributes_that_become_one_label_are_joined() -> None:
    found = labels_of([("a.b", "2"), ("a_b", "3"), ("a-b", "1"), ("c", ""), ("__name__", "x")])
    assert found == {"a_b": "1;2;3"}


def test_units_are_those_of_metadata() -> None:
    assert [unit_name(unit) for unit in ("By", "By/s", "{x}/s", "1", "")] == [
        "bytes",
        "bytes_per_second",
        "per_second",
        "",
        "",
    ]
