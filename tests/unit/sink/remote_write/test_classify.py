"""Answers of remote-write endpoints, word for word, and their verdicts."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from relay.config.exporter.types import BadRequest
from relay.sink.http.response import HttpResponse
from relay.sink.remote_write.classify import Sent, classify
from relay.sink.retry.verdict import (
    MESSAGE_CHARS_MAX,
    Bisect,
    Delivered,
    Rejected,
    Retry,
    Split,
    Unauthorized,
    Verdict,
)

NOW = 1_700_000_000.0
OUT_OF_ORDER = "out of order sample\n"
MIMIR = (
    "failed pushing to ingester mimir-1: user=17: the sample has been rejected because another "
    "sample with a more recent timestamp has already been ingested and out-of-order samples are "
    "not allowed (err-mimir-sample-out-of-order). The affected sample has timestamp "
    "2026-11-28T13:04:02.887Z and is from series up (sampled 1/10)"
)
PAGE = "<html><head><title>Sign in</title></head><body>Welcome to the hotel</body></html>"


def answer(status: int, body: str = "", **headers: str) -> HttpResponse:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, names, body.encode())


def v1(
    status: int,
    body: str = "",
    *,
    points: int = 500,
    means: BadRequest = "unknown",
    **headers: str,
) -> Verdict:
    """The verdict on an answer to a request of 1.0."""
    return classify(Sent("remote_write_v1", points, means), answer(status, body, **headers), NOW)


def v2(
    status: int,
    body: str = "",
    *,
    points: int = 500,
    means: BadRequest = "unknown",
    written: tuple[int, int, int] | None = None,
    **headers: str,
) -> Verdict:
    """The verdict on an answer to a request of 2.0; ``written``: samples, histograms, exemplars."""
    if written is not None:
        for what, count in zip(("samples", "histograms", "exemplars"), written, strict=True):
            headers[f"x_prometheus_remote_write_{what}_written"] = str(count)
    return classify(Sent("remote_write_v2", points, means), answer(status, body, **headers), NOW)


@pytest.mark.parametrize("status", [200, 202, 204])
def test_success_of_1_0_is_delivered_whatever_the_body_says(status: int) -> None:
    assert v1(status) == Delivered()
    assert v1(status, "ok", content_type="text/plain") == Delivered()


def test_a_captive_portal_is_no_endpoint() -> None:
    for verdict in (
        v1(200, PAGE, content_type="text/html; charset=utf-8"),
        v2(200, PAGE, content_type="text/html", written=(500, 0, 0)),
    ):
        assert isinstance(verdict, Rejected)
        assert verdict.reason == "invalid_response"


def test_success_of_2_0_counts_what_was_written() -> None:
    assert v2(204, written=(500, 0, 0)) == Delivered()
    assert v2(204, written=(300, 200, 7)) == Delivered()
    assert v2(204, written=(501, 0, 0)) == Delivered()
    assert v2(200, written=(499, 0, 3)) == Delivered(1, "HTTP 200")


def test_a_receiver_that_ignores_the_type_stored_nothing() -> None:
    for verdict in (v2(204), v2(204, written=(0, 0, 0)), v2(200, written=(0, 0, 9))):
        assert isinstance(verdict, Rejected)
        assert verdict.reason == "not_version_2"
        assert 'set protocolVersion: "1.0"' in verdict.message


@pytest.mark.parametrize("status", [408, 429, 500, 501, 502, 503, 504, 529, 599])
@pytest.mark.parametrize("send", [v1, v2])
def test_faults_of_the_server_are_tried_again(send, status: int) -> None:
    verdict = send(status, "try later", retry_after="120")
    assert isinstance(verdict, Retry)
    assert verdict.after_s == 120.0
    assert verdict.reason in (f"http_{status}", "http_other")
    date = send(status, retry_after="Tue, 14 Nov 2023 22:14:00 GMT")
    assert date.after_s == 40.0


@pytest.mark.parametrize("status", [301, 307, 402, 404, 405, 406, 410, 418, 422, 499])
@pytest.mark.parametrize("send", [v1, v2])
def test_nothing_else_is_tried_again(send, status: int) -> None:
    verdict = send(status, retry_after="5")
    assert isinstance(verdict, Rejected)
    assert verdict.reason in (f"http_{status}", "http_other")


@pytest.mark.parametrize("send", [v1, v2])
def test_size_and_credentials_are_as_for_every_kind(send) -> None:
    # Python 3.13 has the phrase of RFC 9110, earlier ones that of RFC 7231.
    assert send(413) == Split(f"HTTP 413 {HTTPStatus(413).phrase}")
    assert isinstance(send(401), Unauthorized)
    assert isinstance(send(403, "no"), Unauthorized)


def test_an_unknown_media_type_tells_to_set_1_0() -> None:
    verdict = v2(415, "unsupported")
    assert isinstance(verdict, Rejected)
    assert (verdict.reason, 'protocolVersion: "1.0"' in verdict.message) == ("http_415", True)
    assert "protocolVersion" not in v1(415).message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OUT_OF_ORDER, "out_of_order"),
        ("out of bounds\n", "too_old"),
        ("too old sample\n", "too_old"),
        ("duplicate sample for timestamp; overrides not allowed\n", "duplicate"),
    ],
)
@pytest.mark.parametrize("means", ["unknown", "partial", "rollback", "unreadable"])
def test_prometheus_rolls_a_request_of_1_0_back(text: str, reason: str, means: BadRequest) -> None:
    verdict = v1(400, text, means=means)
    assert verdict == Bisect(reason, f"HTTP 400 Bad Request: {text.strip()}")


@pytest.mark.parametrize("send", [v1, v2])
def test_mimir_stores_the_rest(send) -> None:
    verdict = send(400, MIMIR)
    assert isinstance(verdict, Delivered)
    assert (verdict.rejected, verdict.reason, verdict.at_least) == (1, "out_of_order", True)
    assert len(verdict.message) <= MESSAGE_CHARS_MAX
    alone = send(400, MIMIR, points=1)
    assert isinstance(alone, Rejected)
    assert alone.reason == "out_of_order"


def test_thanos_stores_the_rest() -> None:
    verdict = v1(409, "store locally for endpoint: conflict")
    assert isinstance(verdict, Delivered)
    assert (verdict.rejected, verdict.reason) == (1, "out_of_order")


def test_2_0_says_how_many_were_refused() -> None:
    text = 'out of order sample for series {__name__="up"}\n'
    message = "HTTP 400 Bad Request: " + text.strip()
    assert v2(400, text, written=(499, 0, 0)) == Delivered(1, message, "out_of_order")
    assert v2(400, text, written=(0, 0, 0)) == Rejected("out_of_order", message)
    exemplar = v2(400, "out of order exemplar", written=(500, 0, 0))
    assert isinstance(exemplar, Delivered)
    assert exemplar.rejected == 0
    assert "out of order exemplar" in exemplar.message


@pytest.mark.parametrize("send", [v1, v2])
def test_a_text_that_tells_nothing_is_read_by_the_profile(send) -> None:
    text = "bad request, says the proxy"
    message = f"HTTP 400 Bad Request: {text}"
    assert send(400, text) == Bisect("http_400", message)
    assert send(400, text, means="rollback") == Bisect("http_400", message)
    assert send(400, text, means="partial") == Delivered(1, message, "http_400", at_least=True)
    assert send(400, text, means="unreadable") == Rejected("http_400", message)


@pytest.mark.parametrize("means", ["unknown", "partial", "rollback", "unreadable"])
@pytest.mark.parametrize("send", [v1, v2])
def test_a_request_may_be_too_large_without_413(send, means: BadRequest) -> None:
    text = "decoded size exceeds the 33554432 bytes limit"
    assert send(400, text, means=means) == Split(f"HTTP 400 Bad Request: {text}")


@pytest.mark.parametrize("send", [v1, v2])
def test_what_cannot_be_read_is_not_searched(send) -> None:
    verdict = send(400, "s2: corrupt input")
    assert isinstance(verdict, Rejected)
    assert verdict.reason == "http_400"


def test_messages_are_one_short_printable_line() -> None:
    for verdict in (v1(400, "a\nb\x00\x1b" * 500), v1(503, "x" * 5000), v1(404, PAGE * 50)):
        assert verdict.message.isprintable()
        assert len(verdict.message) <= MESSAGE_CHARS_MAX
