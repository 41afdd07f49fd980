"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ui.views import quantities


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0, "0"), (999, "999"), (1000, "1.00k"), (12_345, "12.3k"), (999_960, "1.00M"),
     (1_234_567, "1.23M"), (5e9, "5.00G"), (2e12, "2.00T")],
)  # fmt: skip
def test_counts(value: float | None, shown: str) -> None:
    assert quantities.count(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0, "0"), (0.001, "< 0.01"), (0.5, "0.5"), (3.14159, "3.14"), (42.4, "42"),
     (1500, "1.50k")],
)  # fmt: skip
def test_rates(value: float | None, shown: str) -> None:
    assert quantities.rate(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "–"), (0, "0 s"), (0.0001, "< 1 ms"), (0.25, "250 ms"), (42, "42 s"),
     (185, "3 min 5 s"), (7200, "2 h"), (7205, "2 h"), (90_000, "1 d 1 h"), (59.6, "1 min")],
)  # fmt: skip
def test_durations(seconds: float | None, shown: str) -> None:
    assert quantities.duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "never"), (0.5, "just now"), (30, "30 s ago"), (125, "2 min ago"), (86_400, "1 d ago")],
)
def test_times_ago(seconds: float | None, shown: str) -> None:
    assert quantities.ago(seconds) == shown


@pytest.mark.parametrize(
    ("part", "total", "shown"),
    [(0, 0, "–"), (0, 5, "0 %"), (1, 2000, "< 0.1 %"), (1, 40, "2.5 %"), (1, 2, "50 %"),
     (9999, 10_000, "> 99.9 %"), (5, 5, "100 %")],
)  # fmt: skip
def test_shares(part: float, total: float, shown: str) -> None:
    assert quantities.share(part, total) == shown


@given(st.floats(0, 9e14))
def test_counts_are_short(value: float) -> None:
    assert len(quantities.count(value)) <= 6
    assert len(quantities.bytes_(value)) <= 10
