"""What the operator reads first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.ui.views.operator_view import HealthFigure, OperatorView, exporter_address, named_status

VIEW = OperatorView(
    version="1",
    started_at=0.0,
    states=(("Failing", "bad", 2), ("Behind", "warn", 1), ("Delivering", "good", 4)),
    worst=(),
    sinks=7,
    bad_sinks=3,
    exporters=3,
    projects=(),
    figures=(HealthFigure("Active series", "7"),),
    requests=(),
    refused=(),
    faults=(),
)


def test_the_relay_is_well_until_a_figure_of_its_own_is_bad() -> None:
    assert VIEW.troubles == ()
    unreachable = HealthFigure("Endpoints that cannot be reached", "1", is_bad=True)
    full = HealthFigure("Memory", "90 %", is_bad=True, advice="raise it")
    assert replace(VIEW, figures=(unreachable, full)).troubles == (full,)


@pytest.mark.parametrize(
    ("exporter", "address"),
    [
        ("default/a", "/ui/exporters/default/a"),
        ("acme/default/a", "/ui/projects/acme/exporters/default/a"),
        ("acme/default/ExportPolicy/a", ""),
    ],
)
def test_sinks_lead_to_their_exporters(exporter: str, address: str) -> None:
    assert exporter_address(exporter) == address


def test_answers_have_their_names() -> None:
    assert named_status(429) == "429 Too Many Requests"
    assert named_status(299) == "299"
