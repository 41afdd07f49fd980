"""What an exporter takes of a captured OTLP request, and why not the rest."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import zstandard
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from relay.cli.captured_body import read_captured, signal_of_protobuf
from relay.cli.main import main
from relay.runtime.errors import ConfigError
from tests.kit.exporter_yaml import exporter_of
from tests.kit.otlp.batches import request_of
from tests.kit.otlp.official import KINDS, any_value, attribute

SINKS = [{"name": "s", "otlp_http": {"endpoint": "http://h"}}]
TRACE_IN, TRACE_OUT = b"\xff" * 16, b"\x00" * 15 + b"\x01"


def request(signal: str, name: str = "api") -> Any:
    """Return an empty request of one resource, and its only scope."""
    kind = KINDS[signal]
    found = kind.request()
    resource = getattr(found, kind.resources).add()
    resource.resource.attributes.append(attribute("service.name", name))
    return found, getattr(resource, kind.scopes).add()


def explained(
    folder: Path, capsys: pytest.CaptureFixture[str], sources: list[Any], body: bytes, *more: str
) -> list[str]:
    """Return what the command says of an exporter with these sources."""
    manifest, file = folder / "e.yaml", folder / "body"
    manifest.write_text(exporter_of("x", sources, SINKS))
    file.write_bytes(body)
    arguments = ["explain", "--exporters", str(manifest), "--from", str(file), *more]
    status = main([*arguments, "default/x"])
    told = capsys.readouterr()
    assert status == 0, told.err
    return told.out.splitlines()


def logs() -> ExportLogsServiceRequest:
    found, scope = request("logs")
    scope.scope.attributes.append(attribute("log.category", "access"))
    for number, line, more in (
        (17, "GET /a 502", {}),
        (9, "GET /b 200", {}),
        (0, "GET /c", {}),
        (18, "POST /d", {"user": "u"}),
        (14, "GET /e", {"log.category": "audit", "user": "u"}),
    ):
        record = scope.log_records.add(severity_number=number, body=any_value(line))
        record.attributes.extend(attribute(*pair) for pair in more.items())
    return found  # type: ignore[no-any-return]


SOURCES = [
    {
        "name": "loud",
        "logs": {
            "selector": '{service_name="api", user=""} |= "GET"',
            "minSeverity": "WARN",
            "categories": ["access"],
        },
    },
    {"name": "other", "logs": {"selector": '{service_name="web"}'}},
    {"name": "numbers", "metrics": {"metricsql": "{}"}},
]
TOLD = [
    '{service.name="api", log.category="access"}: 5 log records',
    "  loud: takes 1 of them, to s",
    '    not "GET /b 200": its severity INFO is less than WARN',
    '    not "GET /c": it has no severity number, and WARN or more is asked',
    '    not "POST /d": its attributes do not meet user=""',
    '    not "GET /e": its attributes do not meet user=""',
    '  other: no: service_name="web" fails: service_name is "api"',
    "default/x takes 1 of 5 log records",
]


@pytest.mark.parametrize("form", ["plain", "gzip", "zstd", "json", "lines"])
def test_each_log_record_is_explained(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = logs()
    plain = found.SerializeToString()
    forms = {
        "plain": plain,
        "gzip": gzip.compress(plain),
        "zstd": zstandard.ZstdCompressor().compress(plain),
        "json": MessageToJson(found).encode(),
        "lines": MessageToJson(found, indent=None).encode() + b"\n",
    }
    assert explained(tmp_path, capsys, SOURCES, forms[form]) == TOLD


def test_of_many_requests_in_lines_each_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = MessageToJson(logs(), indent=None).encode() + b"\n"
    assert explained(tmp_path, capsys, SOURCES, 3 * line)[-1] == (
        "default/x takes 3 of 15 log records"
    )


def test_line_filters_and_categories_of_records_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, scope = request("logs")
    for line, category in (("ok", "audit"), ("fault", "access")):
        record = scope.log_records.add(body=any_value(line))
        record.attributes.append(attribute("log.category", category))
    source = {"name": "a", "logs": {"selector": '{} |= "ok" != "no"', "categories": ["access"]}}
    assert explained(tmp_path, capsys, [source], found.SerializeToString())[1:] == [
        "  a: takes none of them",
        '    not "ok": its category is not access',
        '    not "fault": its line does not meet |= "ok"',
        "default/x takes 0 of 2 log records",
    ]


def test_each_span_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, scope = request("traces")
    for trace in (TRACE_IN, *[TRACE_OUT] * 7):
        scope.spans.add(name="GET /", trace_id=trace, span_id=b"x" * 8)
    sources = [
        {"name": "some", "traces": {"sampleRatio": 0.1, "keep": "trace"}},
        {"name": "all", "traces": {}},
    ]
    told = explained(tmp_path, capsys, sources, found.SerializeToString())
    assert told[1] == "  some: takes 1 of them, to s"
    left = "its trace is not among the 10 % that are kept"
    assert told[2] == f'    not "GET /" of trace {TRACE_OUT.hex()}: {left}'
    assert told[7:] == [
        "    nor 2 more",
        "  all: takes all of them, to s",
        "default/x takes 8 of 8 spans",
    ]


def test_streams_of_metrics_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = [
        {"name": "a", "metrics": {"metricsql": '{"service.name"="api"}'}},
        {"name": "b", "metrics": {"metricsql": 'value{label="y"}'}},
    ]
    body = request_of(KINDS["metrics"], [1.0, 2.0])
    told = explained(tmp_path, capsys, sources, body)
    assert told[-1] == "default/x takes 1 of 1 series"
    assert told[0].startswith("a: value{")
    assert 'service.name="api"' in told[0]
    assert explained(tmp_path, capsys, sources, body, "--signal", "metrics") == told


def test_an_exporter_without_such_a_source_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [{"name": "a", "metrics": {"metricsql": "{}"}}]
    assert explained(tmp_path, capsys, sources, logs().SerializeToString()) == [
        "default/x has no source of logs"
    ]


def test_records_of_others_are_counted_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme/e.yaml").write_text(exporter_of("x", [{"name": "a", "logs": {}}], SINKS))
    (tmp_path / "relay.yaml").write_text(
        "tenancy: {label: tenant}\nexporters: [{path: acme, project: acme}]\n"
    )
    found, scope = request("logs", "secret")
    scope.log_records.add()
    mine = found.resource_logs.add()
    mine.resource.attributes.append(attribute("milo.project.id", "acme"))
    mine.scope_logs.add().log_records.add()
    (tmp_path / "body").write_bytes(found.SerializeToString())
    arguments = ["--config", str(tmp_path / "relay.yaml"), "--from", str(tmp_path / "body")]
    assert main(["explain", *arguments, "acme/default/x"]) == 0
    told = capsys.readouterr().out
    assert "secret" not in told
    assert told.endswith("takes 1 of 1 log records; 1 more are not of its project\n")


def test_signals_are_told_apart_by_their_records(tmp_path: Path) -> None:
    for signal, kind in KINDS.items():
        found, scope = request(signal)
        record = getattr(scope, kind.records).add()
        if signal == "traces":
            record.trace_id = TRACE_IN
        elif signal == "metrics":
            record.name = "m"
            record.gauge.data_points.add()
        assert signal_of_protobuf(found.SerializeToString()) == signal
        if signal == "traces":
            record.ClearField("trace_id")  # hexadecimal in the JSON of OTLP, not base64
        (tmp_path / "body").write_text(MessageToJson(found))
        assert read_captured(tmp_path / "body", None).signal == signal
    assert signal_of_protobuf(b"\xff\xff") is None


@pytest.mark.parametrize(
    "value", ["", "text", 7, -1, 2.5, 1e300, True, b"\xff\x00", [], ["a", 0.1], {"k": [2.5]}, None]
)
@pytest.mark.parametrize("trace", [b"", TRACE_IN])
def test_logs_are_told_whatever_their_bodies_are(value: Any, trace: bytes) -> None:
    found, scope = request("logs")
    record = scope.log_records.add(body=any_value(value), time_unix_nano=1, trace_id=trace)
    record.attributes.append(attribute("v", value))
    assert signal_of_protobuf(found.SerializeToString()) == "logs"


def test_spans_are_told_whatever_their_attributes_are() -> None:
    for value in ("text", 7, 2.5, b"\xff", {"k": [2.5]}):
        found, scope = request("traces")
        span = scope.spans.add(trace_id=TRACE_IN, name="GET /", start_time_unix_nano=1)
        span.attributes.append(attribute("v", value))
        span.events.add(name="e").attributes.append(attribute("v", value))
        assert signal_of_protobuf(found.SerializeToString()) == "traces"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{bad", "the body is not JSON"),
        ('{"up":\n{bad', "the body is not JSON"),
        ('{"up": 1}', "it is JSON without"),
        ('{"up": 1}\n{"down": 1}', "it is JSON without"),
    ],
)
def test_a_body_of_no_signal_is_told_by_what_it_is(body: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_text(body)
    with pytest.raises(ConfigError, match=said):
        read_captured(file, None)
