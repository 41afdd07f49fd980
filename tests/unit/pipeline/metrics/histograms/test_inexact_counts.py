"""Counts that a sender has read inexactly, as vmagent does with an exponent."""

from __future__ import annotations

import math

import pytest

from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write import raw
from tests.kit.remote_write.sample_writes import T0_MS

UP = math.nextafter(4175658.0, math.inf)


def histogram(*values: tuple[str, str, float]) -> bytes:
    """A request with these series: name, bound (or ""), value."""
    return b"".join(
        raw.series(
            [(b"__name__", name.encode()), *([(b"le", bound.encode())] if bound else [])],
            (value, T0_MS),
        )
        for name, bound, value in values
    )


def counts_of(count: float, bucket: float) -> tuple[list[int], dict[str, int]]:
    """The counts of the points that leave, and the reasons of drops."""
    rig = Rig()
    sink = rig.export(RigSink("s", limit=10))
    rig.feed(
        histogram(
            ("h_bucket", "1", bucket),
            ("h_bucket", "+Inf", count),
            ("h_sum", "", 12.5),
            ("h_count", "", count),
        )
    )
    rig.hand_over(rig.engine.finish(60.0))
    rig.flush()
    drops = {row.reason: row.samples for row in rig.engine.statistics().drops}
    return [one.data[0] for one in sink.any_points()], drops


@pytest.mark.parametrize("count", [4175658.0, UP, math.nextafter(4175658.0, 0.0)])
def test_a_count_in_the_last_places_is_whole(count: float) -> None:
    assert counts_of(count, math.nextafter(1000001.0, math.inf)) == ([4175658], {})


@pytest.mark.parametrize("count", [4175658.5, 4175658.0001, 4175658.0 + 6 * math.ulp(4175658.0)])
def test_a_count_further_away_is_not(count: float) -> None:
    assert counts_of(count, 1.0) == ([], {"not_whole": 4})
