"""Answers of previews and tests, as pages show them."""

from __future__ import annotations

from typing import get_args

import pytest

from relay.control.sink_test.verdict import StepName
from relay.ui.views.answers import STEP_MEANINGS, STEP_WORDS, preview_view, test_view


def test_every_step_has_its_words() -> None:
    assert set(STEP_WORDS) == set(STEP_MEANINGS) == set(get_args(StepName))


def test_a_preview_tells_points_a_series_and_changes() -> None:
    view = preview_view(
        {
            "exporter": "acme/default/a",
            "projectSeries": 40,
            "sources": [{"name": "all", "series": 10, "topMetrics": [{"name": "m", "series": 10}]}],
            "total": {"series": 10, "samplesPerMinute": 25.0, "metrics": 1, "firstSeries": ["m"]},
            "added": {"series": 3, "firstSeries": []},
            "removed": {"series": 0, "firstSeries": []},
            "measuredSeconds": 10.0,
        }
    )
    assert view.share == (10.0, 40.0)
    assert view.total.points_per_series == pytest.approx(2.5)
    assert view.is_changed
    empty = preview_view({})
    assert empty.total.points_per_series is None
    assert not empty.is_changed


def test_a_test_tells_its_steps() -> None:
    view = test_view(
        {
            "ok": False,
            "message": "HTTP 401",
            "advice": "do",
            "seconds": 0.01,
            "steps": [
                {"name": "name", "ok": True, "seconds": 0.0, "message": ""},
                {"name": "answer", "ok": False, "seconds": 0.01, "message": "HTTP 401"},
                {"name": "later", "ok": True, "seconds": 0.0, "message": ""},
            ],
        }
    )
    assert [one.word for one in view.steps] == ["Name lookup", "Answer", "later"]
    assert all(one.seconds > 0 for one in view.steps)
    assert not view.is_ok
