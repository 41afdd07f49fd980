"""What backends bill, with the figures of a preview."""

from __future__ import annotations

import pytest

from relay.ui.authoring.backends import BACKENDS, backend_of


@pytest.mark.parametrize(
    ("key", "points", "part"),
    [
        ("datadog", None, "each series as one: about 1.20k."),
        ("grafana-cloud", 5.0, "active series: about 1.20k;"),
        ("dynatrace", None, "data points: measure them."),
        ("dynatrace", 2400.0, "data points: about 2.40k a minute."),
    ],
)
def test_a_bill_has_the_figures(key: str, points: float | None, part: str) -> None:
    backend = backend_of(key)
    assert backend is not None
    assert part in backend.bill(1200, points)


def test_no_bill_has_braces() -> None:
    assert not any("{" in one.bill(1, None) for one in BACKENDS)
