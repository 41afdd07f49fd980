"""The synthetic log record and span of a sink test, and which output a test is of."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from relay.config.exporter.types import Exporter, OtlpHttp, RecordSource, Sink, Source
from relay.control.sink_test.point import synthetic_request
from relay.control.sink_test.record import NAME
from relay.control.sink_test.service import require_sink
from relay.runtime.errors import ConfigError
from relay.selector.matchers import Selector
from relay.selector.records.selection import RecordSelection
from tests.kit.otlp.official import LOGS, TRACES


def exporter(*signals: str) -> Exporter:
    sources = tuple(Source("metrics", "", Selector(())) for one in signals if one == "metrics")
    records: Any = tuple(
        RecordSource(one, one, "", RecordSelection())  # type: ignore[arg-type]
        for one in signals
        if one != "metrics"
    )
    sink = Sink("s", tuple(signals), OtlpHttp("http://h/x/v1/metrics"))
    return Exporter("", "d", "x", sources, (sink,), records)


@pytest.mark.parametrize(
    ("signals", "wanted", "url"),
    [
        (("metrics", "logs"), "", "http://h/x/v1/metrics"),
        (("metrics", "logs"), "s/logs", "http://h/x/v1/logs"),
        (("traces", "logs"), "s", "http://h/x/v1/logs"),
        (("traces",), "s/traces", "http://h/x/v1/traces"),
    ],
)
def test_an_output_is_tested_by_its_own_path(
    signals: tuple[str, ...], wanted: str, url: str
) -> None:
    assert require_sink(exporter(*signals), wanted).endpoint.url == url


@pytest.mark.parametrize("wanted", ["s/metrics", "s/profiles", "other/logs", "other"])
def test_an_output_that_is_not_there_is_an_error(wanted: str) -> None:
    with pytest.raises(ConfigError):
        require_sink(exporter("logs"), wanted)


def test_a_log_record_is_sent_to_an_output_of_logs() -> None:
    request = synthetic_request("d/x", require_sink(exporter("logs"), ""), 1.5)
    assert (request.kind, request.points) == ("otlp_logs", 1)
    ((resource, _, row),) = LOGS.rows(gzip.decompress(request.body))
    record = LOGS.record.FromString(row)
    assert (record.body.string_value, record.severity_number) == (NAME, 9)
    assert record.time_unix_nano == 1_500_000_000
    assert [one.value.string_value for one in record.attributes] == ["d/x", "s/logs"]
    assert b"telemetry-relay" in resource


def test_a_span_is_sent_to_an_output_of_traces() -> None:
    request = synthetic_request("d/x", require_sink(exporter("traces"), ""), 1.5)
    ((_, _, row),) = TRACES.rows(gzip.decompress(request.body))
    span = TRACES.record.FromString(row)
    assert (span.name, len(span.trace_id), len(span.span_id)) == (NAME, 16, 8)
    assert span.end_time_unix_nano - span.start_time_unix_nano == 1_000_000
