"""Whatever an endpoint answers, there is a verdict, and it is bounded."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from relay.sink.http.credentials import redact
from relay.sink.otlp_http import classify
from relay.sink.retry.verdict import MESSAGE_CHARS_MAX, Delivered, Retry

CONTENT_TYPES = st.sampled_from(
    ["", "application/x-protobuf", "application/json", "text/html; charset=x", "a/b"]
)


@given(
    status=st.integers(200, 999),
    content_type=CONTENT_TYPES | st.text(max_size=20),
    retry_after=st.text(max_size=40) | st.integers().map(str),
    body=st.binary(max_size=200) | st.text(max_size=200).map(str.encode),
)
def test_any_answer_has_a_bounded_verdict(
    status: int, content_type: str, retry_after: str, body: bytes
) -> None:
    headers = {"content-type": content_type, "retry-after": retry_after}
    verdict = classify(status, headers, body, 1_700_000_000.0)
    assert verdict.message.isprintable()
    assert len(verdict.message) <= MESSAGE_CHARS_MAX + 100
    if isinstance(verdict, Delivered):
        assert verdict.rejected >= 0
    if isinstance(verdict, Retry) and verdict.after_s is not None:
        assert verdict.after_s >= 0
        assert not math.isnan(verdict.after_s)


@given(secret=st.text("abcXYZ019_-.~+/=", min_size=8, max_size=40), text=st.text(max_size=50))
def test_no_text_keeps_a_credential(secret: str, text: str) -> None:
    for echoed in (f"{text}{secret}{text}", f"{text} {secret[: len(secret) // 2 + 4]}"):
        assert secret[:8] not in redact(echoed, {"Authorization": f"Bearer {secret}"})
