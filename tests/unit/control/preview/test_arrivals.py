"""Arrivals of sampled series: intervals, series that do not come, evicted ones, no side effects."""

from __future__ import annotations

import pytest

from relay.control.preview.arrivals import Arrivals, ArrivalWatch
from relay.pipeline.limits import Limits
from relay.pipeline.metrics.series.series import Series
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write import raw

NAMES = ("fast", "slow", "silent")


def body(*names: str) -> bytes:
    return raw.join(raw.text_series({"__name__": name}, (1.0, 10**12)) for name in names)


def known(rig: Rig) -> dict[str, Series]:
    return {series.name: series for series in rig.engine.table.kept()}


def test_intervals_are_measured_and_the_rest_is_counted_by_time() -> None:
    rig = Rig()
    for _ in range(2):
        rig.feed(body(*NAMES))
    series = known(rig)
    arrivals = Arrivals(ArrivalWatch(rig.engine.table), series.values(), now=100.0)
    for second in range(1, 31):
        if second % 10 == 3:
            rig.feed(body("fast"))
        if second == 20:
            rig.feed(body("slow"))
        arrivals.look(100.0 + second)
    assert arrivals.per_minute([series["fast"]]) == pytest.approx(6.0)
    assert arrivals.per_minute([series["slow"]]) == pytest.approx(2.0)
    assert arrivals.per_minute([series["silent"]]) == 0.0
    assert arrivals.per_minute(series.values()) == pytest.approx(8 / 3)
    assert not arrivals.settled
    assert arrivals.watched_s == 30.0


def test_it_is_settled_once_every_interval_is_known() -> None:
    rig = Rig()
    rig.feed(body("up"))
    arrivals = Arrivals(ArrivalWatch(rig.engine.table), known(rig).values(), now=0.0)
    for second in (1.0, 2.0):
        assert not arrivals.settled
        rig.feed(body("up"))
        arrivals.look(second)
    assert arrivals.settled


def test_nothing_watched_says_nothing() -> None:
    rig = Rig()
    arrivals = Arrivals(ArrivalWatch(rig.engine.table), (), now=0.0)
    arrivals.look(1.0)
    assert arrivals.settled
    assert arrivals.per_minute(()) is None


def test_a_change_of_exporters_meanwhile_is_no_arrival() -> None:
    rig = Rig()
    rig.feed(body("up"))
    series = known(rig)["up"]
    arrivals = Arrivals(ArrivalWatch(rig.engine.table), [series], now=0.0)
    rig.export(RigSink("s", limit=10))
    arrivals.look(1.0)
    assert arrivals.per_minute([series]) == 0.0
    rig.feed(body("up"))
    arrivals.look(2.0)
    assert arrivals.per_minute([series]) == pytest.approx(30.0)
    assert sum(sink.held for sink in rig.sinks) == 1


def test_an_evicted_series_stays_away() -> None:
    rig = Rig(Limits(series_max=1))
    rig.feed(body("up"))
    series = known(rig)["up"]
    arrivals = Arrivals(ArrivalWatch(rig.engine.table), [series], now=0.0)
    rig.feed(body("other"))
    arrivals.look(1.0)
    assert arrivals.per_minute([series]) == 0.0
    assert [one.name for one in rig.engine.table.kept()] == ["other"]


def test_measurements_share_what_arrives() -> None:
    rig = Rig()
    rig.feed(body(*NAMES))
    series = known(rig)
    watch = ArrivalWatch(rig.engine.table)
    first = Arrivals(watch, [series["fast"], series["silent"]], now=0.0)
    second: Arrivals | None = None
    for tenth in range(1, 301):
        if tenth % 50 == 0:
            rig.feed(body("fast"))
        if tenth == 122:
            second = Arrivals(watch, [series["fast"], series["slow"]], now=12.2)
        if tenth % 5 == 0:
            first.look(tenth / 10)
        if second is not None and tenth % 5 == 2:
            second.look(tenth / 10)
    assert second is not None
    assert first.per_minute([series["fast"]]) == pytest.approx(12.0, rel=0.05)
    assert second.per_minute([series["fast"]]) == pytest.approx(12.0, rel=0.05)
    assert second.per_minute([series["slow"]]) == 0.0
    first.close()
    rig.feed(body("slow"))
    second.look(31.0)
    assert second.per_minute([series["slow"]]) == pytest.approx(60 / 18.8)
    second.close()
    assert repr(watch) == "<ArrivalWatch of 0 series>"
    assert second.per_minute([series["slow"]]) == pytest.approx(60 / 18.8)


def test_arrivals_between_two_looks_of_one_measurement() -> None:
    rig = Rig()
    rig.feed(body("up"))
    series = known(rig)["up"]
    watch = ArrivalWatch(rig.engine.table)
    often, rarely = (Arrivals(watch, [series], now=0.0) for _ in range(2))
    for second in range(1, 11):
        rig.feed(body("up"))
        often.look(float(second))
        if second in (5, 10):
            rarely.look(float(second))
    assert often.per_minute([series]) == pytest.approx(60.0)
    assert rarely.per_minute([series]) == pytest.approx(60.0)
