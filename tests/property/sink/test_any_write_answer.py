"""Whatever a remote-write endpoint answers, there is a verdict, and it is bounded."""

from __future__ import annotations

import math
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from relay.codec.remote_write.response import RefusalReason
from relay.config.exporter.types import BadRequest
from relay.sink.http.response import HttpResponse
from relay.sink.remote_write.classify import Sent, classify
from relay.sink.retry.verdict import MESSAGE_CHARS_MAX, Bisect, Delivered, Rejected, Retry

WORDS = [
    "out of order sample", "out of bounds", "user=1: ", "(err-mimir-too-far-in-future)", "{", "}",
    "duplicate sample for timestamp", "too old sample", "<html>", "(sampled 1/10)", "label", "\n",
    "max-series-per-user", "decoded size exceeds", "corrupt input", "rate limit", "\x00", "\ufffd",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(WORDS), max_size=6).map("".join)
COUNTS = st.sampled_from(["", "0", "1", "499", "500", "x", "-1", "9" * 30]) | st.text(max_size=5)
REASONS = {*get_args(RefusalReason)} - {"other"} | {
    "partial_success", "invalid_response", "not_version_2", "http_other",
}  # fmt: skip


@given(
    status=st.sampled_from([200, 204, 400, 409, 413, 415, 429, 500]) | st.integers(200, 999),
    protocol=st.sampled_from(["remote_write_v1", "remote_write_v2"]),
    points=st.integers(1, 500),
    means=st.sampled_from(get_args(BadRequest)),
    content_type=st.sampled_from(["", "text/html", "application/json"]) | st.text(max_size=20),
    retry_after=st.text(max_size=30) | st.integers().map(str),
    counts=st.none() | st.tuples(COUNTS, COUNTS, COUNTS),
    body=st.binary(max_size=200) | (TEXTS | st.text(max_size=200)).map(str.encode),
)
def test_any_answer_has_a_bounded_verdict(
    status: int,
    protocol: str,
    points: int,
    means: BadRequest,
    content_type: str,
    retry_after: str,
    counts: tuple[str, str, str] | None,
    body: bytes,
) -> None:
    headers = {"content-type": content_type, "retry-after": retry_after}
    if counts is not None:
        for what, count in zip(("samples", "histograms", "exemplars"), counts, strict=True):
            headers[f"x-prometheus-remote-write-{what}-written"] = count
    sent = Sent(protocol, points, means)
    verdict = classify(sent, HttpResponse(status, headers, body), 1_700_000_000.0)
    assert verdict.message.isprintable()
    assert len(verdict.message) <= MESSAGE_CHARS_MAX
    if isinstance(verdict, Delivered):
        assert 0 <= verdict.rejected < points
        assert verdict.reason in REASONS or verdict.reason == f"http_{status}"
        assert status < 300 or status in (400, 409)
    if isinstance(verdict, Rejected | Bisect | Retry):
        assert verdict.reason in REASONS or verdict.reason == f"http_{status}"
    if isinstance(verdict, Retry):
        assert status >= 500 or status in (408, 429)
        assert verdict.after_s is None or verdict.after_s >= 0
        assert not math.isnan(verdict.after_s or 0.0)
