"""Retry-After of answers: seconds, dates, and none."""

from __future__ import annotations

import sys

import pytest

from relay.sink.retry.verdict import parse_retry_after_s


@pytest.mark.parametrize("headers", [{}, {"retry-after": ""}, {"retry-after": " "}])
def test_an_answer_without_it_is_not_read_as_a_date(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "email.utils", None)  # an import would fail
    assert parse_retry_after_s(headers, 1.0) is None
