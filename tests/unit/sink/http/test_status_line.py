"""Only HTTP/1.0 and HTTP/1.1 are answers, however the bytes are cut."""

from __future__ import annotations

import pytest

from relay.sink.http.answer_parser import AnswerParser
from relay.sink.http.response import RequestFailedError

REST = b" 200 OK\r\nContent-Length: 0\r\n\r\n"


def feed(answer: bytes, *, size: int) -> AnswerParser:
    """Feed an answer in pieces of ``size`` bytes, to its end or a fault."""
    parser = AnswerParser()
    try:
        for start in range(0, len(answer), size):
            parser.feed(answer[start : start + size])
    finally:
        parser.close()
    return parser


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("before", [b"", b"\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
def test_answers_of_version_one(version: bytes, before: bytes, size: int) -> None:
    response = feed(before + version + REST, size=size).response
    assert response is not None
    assert response.status == 200


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    ("version", "text"),
    [
        (b"HTTP/2.0", "the answer is HTTP/2.0, not HTTP/1.1"),
        (b"HTTP/0.9", "the answer is HTTP/0.9, not HTTP/1.1"),
        (b"HTTP/3.0", "the answer is not HTTP"),
        (b"RTSP/1.0", "the answer is not HTTP"),
        (b"ICE/1.0", "the answer is not HTTP"),
        (b"ICY", "the answer is not HTTP"),
        (b"http/1.1", "the answer is not HTTP"),
    ],
)
def test_other_protocols_are_faults(version: bytes, text: str, size: int) -> None:
    with pytest.raises(RequestFailedError) as caught:
        feed(version + REST, size=size)
    assert caught.value.failure.kind == "invalid_http"
    assert caught.value.failure.message == text
