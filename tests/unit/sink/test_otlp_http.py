"""The table of relay/sink/retry/classify.py, row by row."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)

from relay.sink.http.response import FailureKind, HttpFailure
from relay.sink.otlp_http import classify
from relay.sink.retry.verdict import (
    MESSAGE_CHARS_MAX,
    Bisect,
    Delivered,
    Rejected,
    Retry,
    Split,
    Unauthorized,
    classify_failure,
    parse_retry_after_s,
)

NOW = 1_700_000_000.0
PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json; charset=utf-8"}


def partial(rejected: int, message: str) -> bytes:
    response = ExportMetricsServiceResponse()
    response.partial_success.rejected_data_points = rejected
    response.partial_success.error_message = message
    return response.SerializeToString()


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (200, PROTOBUF, b"", Delivered()),
        (200, {}, b"", Delivered()),
        (202, {}, b"", Delivered()),
        (204, {"content-type": "text/html"}, b"", Delivered()),
        (200, PROTOBUF, ExportMetricsServiceResponse().SerializeToString(), Delivered()),
        (200, PROTOBUF, partial(3, "too old"), Delivered(3, "too old")),
        (200, {}, partial(3, "too old"), Delivered(3, "too old")),
        (200, {"content-type": "text/plain"}, partial(3, "x"), Delivered(3, "x")),
        (200, PROTOBUF, partial(0, "slow down"), Delivered(0, "slow down")),
        (200, JSON, b"{}", Delivered()),
        (200, JSON, b'{"partialSuccess":{}}', Delivered()),
        (200, JSON, b'{"partialSuccess":null}', Delivered()),
        (
            200,
            JSON,
            b'{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"m"}}',
            Delivered(3, "m"),
        ),
        (200, JSON, b'{"partialSuccess":{"rejectedDataPoints":3},"extra":[1]}', Delivered(3)),
        (200, JSON, b'{"partialSuccess":{"rejectedDataPoints":-3}}', Delivered(0)),
    ],
)
def test_success(status: int, headers: dict[str, str], body: bytes, expected: Delivered) -> None:
    assert classify(status, headers, body, NOW) == expected


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (PROTOBUF, b"\xff\xff\xff"),
        (PROTOBUF, b"ok"),
        (JSON, b"not json"),
        (JSON, b'{"partialSuccess":{"rejectedDataPoints":"many"}}'),
        (JSON, b"[" * 100_000),
        (JSON, b'{"partialSuccess":{"rejectedDataPoints":"' + b"9" * 5000 + b'"}}'),
    ],
)
def test_unreadable_response_of_an_otlp_endpoint_is_a_warning(
    headers: dict[str, str], body: bytes
) -> None:
    verdict = classify(200, headers, body, NOW)
    assert isinstance(verdict, Delivered)
    assert verdict.rejected == 0
    assert "cannot be read" in verdict.message


@pytest.mark.parametrize("content_type", ["text/html", "text/plain", ""])
def test_captive_portal_took_nothing(content_type: str) -> None:
    verdict = classify(200, {"content-type": content_type}, b"<html>Log in</html>", NOW)
    assert isinstance(verdict, Rejected)
    assert verdict.reason == "invalid_response"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_retryable_statuses(status: int) -> None:
    verdict = classify(status, {"retry-after": "7"}, b"", NOW)
    assert isinstance(verdict, Retry)
    assert (verdict.reason, verdict.after_s) == (f"http_{status}", 7.0)


def test_every_other_status_is_permanent() -> None:
    special = {400, 401, 403, 413, 429, 502, 503, 504}
    for status in set(range(300, 600)) - special:
        verdict = classify(status, {"retry-after": "7"}, b"", NOW)
        assert isinstance(verdict, Rejected), status
        assert verdict.reason in (f"http_{status}", "http_other"), status


@pytest.mark.parametrize(
    "text",
    [
        "",
        "proto: Span: wiretype end group",
        "invalid length for SpanID",
        "invalid label name in record",
        "out of order sample",
    ],
)
def test_a_request_that_cannot_be_read_is_halved(text: str) -> None:
    """Of a Collector, for a malformed record; of Prometheus 3.16, which stores none of it then."""
    status = b"\x08\x03" + bytes([0x12, len(text)]) + text.encode()  # google.rpc.Status
    for headers, body in (
        (PROTOBUF, status),
        (JSON, json.dumps({"code": 3, "message": text}).encode()),
        ({"content-type": "text/plain"}, text.encode()),
    ):
        verdict = classify(400, headers, body, NOW)
        assert isinstance(verdict, Bisect)
        assert verdict.reason == "http_400"
        assert text in verdict.message


@pytest.mark.parametrize(
    "text",
    [
        "failed pushing to ingester: user=7: out of order sample",
        "the sample has been rejected (err-mimir-sample-out-of-order)",
    ],
)
def test_a_request_whose_good_points_were_stored_is_not_halved(text: str) -> None:
    """Of Cortex and Mimir."""
    verdict = classify(400, {"content-type": "text/plain; charset=utf-8"}, text.encode(), NOW)
    assert isinstance(verdict, Rejected)
    assert verdict.reason == "http_400"


def test_reasons_are_not_the_endpoints_to_choose() -> None:
    reasons = {classify(status, {}, b"", NOW) for status in (299 + 300, 599, 777, 999)}
    assert {verdict.reason for verdict in reasons if isinstance(verdict, Rejected)} == {
        "http_other"
    }


def test_too_large_is_split() -> None:
    assert isinstance(classify(413, {}, b"", NOW), Split)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials(status: int) -> None:
    assert isinstance(classify(status, {}, b"", NOW), Unauthorized)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_names_no_target(status: int) -> None:
    verdict = classify(status, {"location": "http://10.0.0.1/secret"}, b"moved", NOW)
    assert isinstance(verdict, Rejected)
    assert verdict.reason == f"http_{status}"
    assert "10.0.0.1" not in verdict.message


def test_messages_are_one_short_printable_line() -> None:
    hostile = b"line\r\nnext \x1b[31mred\x00" + b"a" * 100_000
    for status in (400, 413, 401, 503):
        message = classify(status, {"content-type": "text/plain"}, hostile, NOW).message
        assert message.isprintable()
        assert len(message) < MESSAGE_CHARS_MAX + 60


RETRYABLE_FAILURES: list[FailureKind] = [
    "timeout",
    "connect_failed",
    "disconnected",
    "tls_failed",
    "invalid_http",
    "forbidden_address",
]


@pytest.mark.parametrize("kind", RETRYABLE_FAILURES)
def test_failures_are_retryable(kind: FailureKind) -> None:
    assert classify_failure(HttpFailure(kind, "why")) == Retry(kind, "why")


def test_too_large_a_response_is_permanent() -> None:
    verdict = classify_failure(HttpFailure("response_too_large", "why"))
    assert verdict == Rejected("response_too_large", "why")


def http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("9999999999", 9999999999.0),
        ("9" * 8000, math.inf),
        (http_date(30), 30.0),
        (http_date(-30), 0.0),
        ("Tue, 14 Nov 2023 22:13:30 -0000", 10.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("١٢", None),
        ("Tue, 99 Foo 99999 99:99:99 GMT", None),
        ("Tue, 14 Nov 0001 22:13:30 GMT", 0.0),
        ("Tue, 14 Nov 2023 22:13:30 +99999999", None),
    ],
)
def test_retry_after(text: str, expected: float | None) -> None:
    assert parse_retry_after_s({"retry-after": text}, NOW) == expected


def test_retry_after_absent() -> None:
    assert parse_retry_after_s({}, NOW) is None


def test_vector_50_what_the_endpoint_answers() -> None:
    now = 1_700_000_000.0
    assert isinstance(classify(500, {}, b"", now), Rejected)
    date = format_datetime(datetime.fromtimestamp(now + 30, UTC), usegmt=True)
    waiting = classify(503, {"retry-after": date}, b"", now)
    assert isinstance(waiting, Retry)
    assert waiting.after_s == 30
    response = ExportMetricsServiceResponse()
    response.partial_success.rejected_data_points = 3
    headers = {"content-type": "application/x-protobuf"}
    partial = classify(200, headers, response.SerializeToString(), now)
    assert isinstance(partial, Delivered)
    assert partial.rejected == 3
    whole = classify(200, {}, b"", now)
    assert isinstance(whole, Delivered)
    assert (whole.rejected, whole.message) == (0, "")
