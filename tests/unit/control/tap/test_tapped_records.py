"""Log records and spans as a tap shows them, and which output a tap looks at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relay.codec.otlp.batch import SealedBatch
from relay.config.exporter.types import Exporter, OtlpHttp, RecordSource, Sink, Source
from relay.control.tap.points import read_points
from relay.control.tap.records import UNREADABLE
from relay.control.tap.tap import TapQuery, TapService, tap_document
from relay.runtime.errors import ConfigError
from relay.selector.matchers import Selector
from relay.selector.records.selection import RecordSelection
from tests.kit.otlp.official import LOGS, TRACES, any_value, attribute


def test_log_records_are_shown() -> None:
    request = LOGS.request()
    resource = request.resource_logs.add()
    resource.resource.attributes.append(attribute("service.name", "api"))
    record = resource.scope_logs.add().log_records.add(
        severity_text="WARN", time_unix_nano=2_500_000_000, attributes=[attribute("n", 7)]
    )
    record.body.CopyFrom(any_value("x" * 600))
    (found,) = read_points("otlp_logs", request.SerializeToString(), 1, 20)
    assert found.metric == "x" * 499 + "…"
    assert (found.kind, found.value, found.time_s) == ("log record", "WARN", 2.5)
    assert (found.labels, found.resource) == ({"n": "7"}, {"service.name": "api"})


def test_spans_are_shown() -> None:
    request = TRACES.request()
    request.resource_spans.add().scope_spans.add().spans.add(
        name="GET /",
        trace_id=bytes(15) + b"\x01",
        start_time_unix_nano=1_000_000_000,
        end_time_unix_nano=1_002_500_000,
    )
    (found,) = read_points("otlp_traces", request.SerializeToString(), 1, 20)
    assert (found.metric, found.kind) == ("GET /", "span")
    assert found.value == f"2.5 ms, trace {'0' * 31}1"


def exporter(*signals: str) -> Exporter:
    sources = tuple(Source("metrics", "", Selector(())) for one in signals if one == "metrics")
    records: Any = [
        RecordSource(one, one, "", RecordSelection())  # type: ignore[arg-type]
        for one in signals
        if one != "metrics"
    ]
    sink = Sink("s", tuple(signals), OtlpHttp("http://h/v1/metrics"))
    return Exporter("", "d", "x", sources, (sink,), tuple(records))


class NoWorker:
    """Notes which output was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, _exporter: str, sink: str) -> None:
        self.asked.append(sink)


@pytest.mark.parametrize(
    ("signals", "wanted", "output"),
    [
        (("metrics", "logs"), "s", "s"),
        (("metrics", "logs"), "s/logs", "s/logs"),
        (("logs", "traces"), "s", "s/logs"),
        (("traces",), "", "s/traces"),
    ],
)
def test_a_tap_looks_at_one_output(signals: tuple[str, ...], wanted: str, output: str) -> None:
    worker = NoWorker()
    service = TapService(lambda: [exporter(*signals)], worker, allowed=True)
    with pytest.raises(ConfigError, match="just been removed"):
        service.open(TapQuery("d/x", wanted))
    assert worker.asked == [output]


class IdleSink:
    """A running output that gets nothing."""

    def __init__(self, name: str) -> None:
        self.config = Sink(name, (), OtlpHttp("http://h/v1/metrics"))
        self.tap: Callable[[SealedBatch], None] | None = None


@pytest.mark.parametrize(
    ("wanted", "unit"), [("s", "points"), ("s/logs", "log records"), ("s/traces", "spans")]
)
async def test_the_end_of_a_tap_says_what_it_counts(wanted: str, unit: str) -> None:
    def worker(_exporter: str, sink: str) -> IdleSink:
        return IdleSink(sink)

    service = TapService(lambda: [exporter("metrics", "logs", "traces")], worker, allowed=True)
    (end,) = [one async for one in service.open(TapQuery("d/x", wanted, seconds=0.01))]
    assert tap_document(end) == {
        "event": "end",
        "batches": 0,
        "points": 0,
        "shown": 0,
        "unit": unit,
    }


def test_an_output_that_a_sink_does_not_have_is_an_error() -> None:
    service = TapService(lambda: [exporter("logs")], NoWorker(), allowed=True)
    with pytest.raises(ConfigError, match="s sends no traces; it sends logs"):
        service.open(TapQuery("d/x", "s/traces"))


def test_what_can_be_read_of_a_record_is_shown() -> None:
    request = LOGS.request()
    of_resource = request.resource_logs.add()
    of_resource.resource.attributes.append(attribute("service.name", "api~"))
    records = of_resource.scope_logs.add().log_records
    records.add(severity_number=9).body.CopyFrom(any_value("good"))
    bad = records.add(severity_number=9, attributes=[attribute("a", "b~")])
    bad.body.CopyFrom(any_value("bad~"))
    records.add(trace_id=b"!")
    body = request.SerializeToString().replace(b"~", b"\xff").replace(b"J\x01!", b"\x32\x01\x0a")
    found = read_points("otlp_logs", body, 3, 20)
    assert [one.metric for one in found] == ["good", "bad\ufffd", ""]
    assert [one.value for one in found] == ["9", UNREADABLE, UNREADABLE]
    assert [one.labels for one in found] == [{}, {"a": "b\ufffd"}, {}]
    assert found[2].resource == {"service.name": "api\ufffd"}
