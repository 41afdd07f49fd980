"""Reading endpoints' answers, well-formed and hostile."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from google.protobuf.message import DecodeError as OfficialDecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse as Response,
)

from relay.codec.otlp.response import (
    MESSAGE_CHARS_MAX,
    PartialSuccess,
    parse_response,
    parse_status_message,
)
from relay.codec.protobuf import field_bytes
from relay.runtime.errors import DecodeError

PROTOBUF = "application/x-protobuf"


def response(rejected: int = 0, message: str = "") -> bytes:
    answer = Response()
    answer.partial_success.rejected_data_points = rejected
    answer.partial_success.error_message = message
    return answer.SerializeToString()


@pytest.mark.parametrize("body", [b"", response(), b"\x0a\x00", b"\x78\x01"])
def test_success(body: bytes) -> None:
    assert parse_response(body) is None


def test_points_are_rejected() -> None:
    found = parse_response(response(3, "out of\norder"))
    assert found == PartialSuccess(rejected=3, message="out of order")


def test_a_message_alone_is_a_warning() -> None:
    assert parse_response(response(0, "deprecated")) == PartialSuccess(0, "deprecated")


def test_rejection_without_a_word() -> None:
    assert parse_response(response(1)) == PartialSuccess(1, "")


def test_a_long_message_is_cut() -> None:
    found = parse_response(response(1, "x" * 100_000))
    assert found is not None
    assert len(found.message) == MESSAGE_CHARS_MAX
    assert found.message.endswith("x…")


@pytest.mark.parametrize(
    "body", [b"OK", b"<html></html>", b'{"partialSuccess":{}}', b"\x0a", b"\x0a\x03\x12\x01\xff"]
)
def test_garbage_is_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_response(body)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(DecodeError, match="-1"):
        parse_response(response(-1))


BYTES_OF_ANSWERS = st.sampled_from(
    [b"\x0a", b"\x08", b"\x12", b"\x00", b"\x01", b"\x02", b"\x04", b"\x80", b"\xff" * 9, b"a"]
)
ANSWERS = st.one_of(
    st.builds(
        response,
        st.one_of(st.integers(0, 300), st.integers(-(1 << 63), (1 << 63) - 1)),
        st.text(max_size=150),
    ),
    st.lists(BYTES_OF_ANSWERS, max_size=8).map(b"".join),
    st.lists(BYTES_OF_ANSWERS, max_size=6).map(b"".join).map(lambda it: field_bytes(b"\x0a", it)),
)


@given(ANSWERS)
def test_an_answer_is_read_as_the_official_class_reads_it(body: bytes) -> None:
    try:
        official = Response.FromString(body).partial_success
    except OfficialDecodeError:
        official = None
    if official is None or official.rejected_data_points < 0:
        with pytest.raises(DecodeError):
            parse_response(body)
        return
    found = parse_response(body)
    if not official.rejected_data_points and not official.error_message:
        assert found is None
        return
    assert found is not None
    assert found.rejected == official.rejected_data_points
    assert bool(found.message) == bool(official.error_message.split())


def test_a_usual_answer_needs_no_official_class() -> None:
    """The import would hold the event loop, which reads answers, for a tenth of a second."""
    code = (
        "import sys\n"
        "from relay.codec.otlp.response import PartialSuccess, parse_response\n"
        f"assert parse_response({response(3, 'too old')!r}) == PartialSuccess(3, 'too old')\n"
        "assert 'google.protobuf' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"", PROTOBUF, ""),
        (b"", "", ""),
        (b"\x08\x0d" + field_bytes(b"\x12", b"quota exceeded"), PROTOBUF, "quota exceeded"),
        (field_bytes(b"\x12", b"a\xffb"), PROTOBUF + "; charset=x", "a�b"),
        (b"upstream connect error\r\n", PROTOBUF, "upstream connect error"),
        (
            b"\x08\x0d" + field_bytes(b"\x12", b"limit of series reached"),
            "application/octet-stream",  # Mimir
            "limit of series reached",
        ),
        (b"\x08\x0d" + field_bytes(b"\x12", b"no type"), "", "no type"),
        (b"\x7fELF\x00\x01", "application/octet-stream", "�ELF��"),
        (b"plain words", "application/octet-stream", "plain words"),
        (b'{"code":3,"message":"bad point"}', "application/json", "bad point"),
        (b'{"status":"error","error":"too old"}', "application/json; charset=utf-8", "too old"),
        (b'{"error":{"code":403,"message":"denied"}}', "application/json", "denied"),
        (b'{"errors":["Forbidden","no key"]}', "application/json", "Forbidden; no key"),
        (b'{"message":"m"}', "application/problem+json", "m"),
        (b'{"detail":"other"}', "application/json", '{"detail":"other"}'),
        (b'{"message":7}', "application/json", '{"message":7}'),
        (b'{"message":"\xff"}', "application/json", '{"message":"�"}'),
        (b"not json", "application/json", "not json"),
        (b"  two\n\tlines  ", "text/plain", "two lines"),
        (b"caf\xe9 \x00\x1b[31mred", "text/plain; charset=utf-8", "caf� ��[31mred"),
        (b"<html><h1>502 Bad\nGateway</h1></html>", "text/html", "502 Bad Gateway"),
        ("zero\u200bwidth \u202eright-to-left".encode(), "", "zero�width �right-to-left"),
    ],
)
def test_status_message(body: bytes, content_type: str, message: str) -> None:
    assert parse_status_message(body, content_type) == message


@pytest.mark.parametrize("content_type", [PROTOBUF, "application/json", "text/html", "", ";;"])
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"a":' * 100_000,
        b"<" * 1_000_000,
        json.dumps({"message": "\n\ud800 é" * 100_000}).encode(),
        field_bytes(b"\x12", b"\xe2\x80\xa8" * 1_000_000),
    ],
    ids=["arrays", "objects", "angles", "json", "protobuf"],
)
def test_a_hostile_answer_gives_one_short_printable_line(body: bytes, content_type: str) -> None:
    message = parse_status_message(body, content_type)
    assert len(message) <= MESSAGE_CHARS_MAX
    assert message.isprintable()


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("out of order sample\n" * 10, "out of order sample (10 times)"),
        ("a\nb\na\n\nc\nb\na\n", "a (3 times); b (2 times); c"),
        ("one line\nand another\n", "one line and another"),
        ("\n\n", ""),
    ],
)
def test_a_line_that_is_repeated_is_said_once(body: str, shown: str) -> None:
    assert parse_status_message(body.encode(), "text/plain; charset=utf-8") == shown
