"""The last outcomes of a sink, and what they mean for its data."""

from __future__ import annotations

import pytest

from relay.sink.reporting.outcomes import DeliveryOutcomes


@pytest.mark.parametrize(
    ("reason", "is_kept", "kind"),
    [
        ("http_503", True, "retried"),
        ("connect_failed", True, "unreachable"),
        ("timeout", True, "unreachable"),
        ("forbidden_address", True, "forbidden"),
        ("forbidden_address", False, "given up"),
        ("http_503", False, "given up"),
    ],
)
def test_what_becomes_of_data_that_is_sent_again(reason: str, is_kept: bool, kind: str) -> None:
    outcomes = DeliveryOutcomes()
    outcomes.retried("no luck", 5.0, reason, is_kept=is_kept)
    assert outcomes.last_error is not None
    assert (outcomes.last_error.text, outcomes.last_error.kind) == ("no luck", kind)
    assert outcomes.failing_since == 5.0
