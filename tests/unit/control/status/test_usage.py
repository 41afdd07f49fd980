"""Figures of usage from counters: windows, new and removed parts, exporters that begin anew."""

from __future__ import annotations

import tracemalloc

from relay.control.status.object_status import UsageFigures
from relay.control.status.usage import (
    KEPT_S,
    MARK_S,
    NO_USAGE,
    SinkReading,
    SourceReading,
    UsageMeter,
    UsageReading,
    sum_usage,
)


class Counters:
    """Readings that a test sets, by exporter."""

    def __init__(self) -> None:
        self.readings: dict[str, UsageReading] = {}

    def set(
        self, exporter: str, sinks: dict[str, SinkReading], sources: dict[str, SourceReading]
    ) -> None:
        self.readings[exporter] = UsageReading(7, sources, sinks)

    def steady(self, seconds: float) -> None:
        """One source at 10 samples/s, one sink at 20 samples, 100 bytes and 1 resent point a s."""
        n = int(seconds)
        self.set("a", {"s": SinkReading(6, 20 * n, 100 * n, n)}, {"all": SourceReading(5, 10 * n)})


def metered() -> tuple[Counters, UsageMeter]:
    counters = Counters()
    return counters, UsageMeter(counters.readings.get)


def test_rates_are_those_of_the_last_five_minutes() -> None:
    counters, meter = metered()
    for now in range(0, 1200, 60):
        counters.steady(now)
        meter.mark("a", float(now))
    counters.steady(1140 + 30)
    usage = meter.usage("a", 1170.0)
    assert usage.sources == {"all": UsageFigures(5, 600)}
    assert usage.sinks == {"s": UsageFigures(6, 1200, 6000, 60)}
    assert usage.total == UsageFigures(7, 1200, 6000, 60)


def test_log_records_and_spans_are_no_samples() -> None:
    counters, meter = metered()
    for now in (0, 60):
        sinks = {"s": SinkReading(6, 20 * now, 100 * now, now, 30 * now)}
        sources = {"all": SourceReading(5, 10 * now), "logs": SourceReading(records=30 * now)}
        counters.set("a", sinks, sources)
        meter.mark("a", float(now))
    usage = meter.usage("a", 60.0)
    assert usage.sources == {
        "all": UsageFigures(5, 600),
        "logs": UsageFigures(records_per_minute=1800),
    }
    assert usage.total == UsageFigures(7, 1200, 6000, 60, 1800)


def test_what_has_stopped_is_gone_after_the_window() -> None:
    counters, meter = metered()
    counters.steady(600)
    for now in range(0, 420, 60):
        meter.mark("a", float(now))
    assert meter.usage("a", 420.0).total == UsageFigures(7)


def test_a_new_exporter_shows_what_came_at_once_and_is_no_flood() -> None:
    counters, meter = metered()
    counters.steady(3)
    assert meter.usage("a", 100.0).total == UsageFigures(7, 60, 300, 3)


def test_a_sink_that_comes_and_one_that_goes_leave_the_others_rates() -> None:
    counters, meter = metered()
    both = {"old": SinkReading(1, 0, 0, 0), "s": SinkReading(1, 0, 0, 0)}
    counters.set("a", both, {})
    meter.mark("a", 0.0)
    counters.set("a", {"new": SinkReading(1, 30, 0, 0), "s": SinkReading(1, 120, 0, 0)}, {})
    usage = meter.usage("a", 120.0)
    assert usage.sinks == {"new": UsageFigures(1, 15), "s": UsageFigures(1, 60)}


def test_counters_that_begin_anew_give_no_negative_rates() -> None:
    counters, meter = metered()
    counters.steady(1000)
    meter.mark("a", 0.0)
    counters.steady(2)
    assert meter.usage("a", 60.0).total == UsageFigures(7, 40, 200, 2)


def test_figures_are_given_again_for_a_while() -> None:
    counters, meter = metered()
    counters.steady(1)
    first = meter.usage("a", 0.0)
    counters.steady(500)
    assert meter.usage("a", KEPT_S - 0.1) is first
    assert meter.usage("a", KEPT_S) != first


def test_figures_of_a_page_of_all_exporters_are_not_kept() -> None:
    counters, meter = metered()
    counters.steady(1)
    first = meter.usage("a", 0.0, kept=False)
    assert first.total == UsageFigures(7, 20, 100, 1)
    second = meter.usage("a", 0.0)
    assert (second, second is first) == (first, False)
    assert meter.usage("a", KEPT_S - 0.1, kept=False) is second, "what is kept is good for it"


def test_figures_that_are_out_of_date_are_not_kept_until_they_are_asked_for() -> None:
    counters, meter = metered()
    counters.steady(1)
    meter.usage("a", 0.0)
    meter.mark("a", KEPT_S - 0.1)
    assert meter._windows["a"].kept is not NO_USAGE
    meter.mark("a", KEPT_S)
    assert meter._windows["a"].kept is NO_USAGE


def test_an_exporter_that_is_gone_has_no_usage() -> None:
    counters, meter = metered()
    counters.steady(1)
    meter.mark("a", 0.0)
    del counters.readings["a"]
    meter.forget_all_but([])
    assert meter.usage("a", 1.0) is NO_USAGE


def test_the_sum_of_exporters_has_the_series_that_it_is_given() -> None:
    parts = [UsageFigures(5, 1, 2, 3), UsageFigures(6, 10, 20, 30)]
    assert sum_usage(parts, 8) == UsageFigures(8, 11, 22, 33)


def test_later_marks_take_no_memory_of_their_own() -> None:
    names = [f"acme/{number}" for number in range(200)]
    counted = [0]
    meter = UsageMeter(
        lambda _: UsageReading(
            1, {"node": SourceReading(1, counted[0])}, {"grafana": SinkReading(1, counted[0])}
        )
    )

    def mark(minute: int) -> None:
        counted[0] += 1_000
        for name in names:
            meter.mark(name, minute * MARK_S)

    tracemalloc.start()
    try:
        mark(0)
        before = tracemalloc.get_traced_memory()[0]
        for minute in range(1, 10):
            mark(minute)
        assert tracemalloc.get_traced_memory()[0] - before < 16 * len(names)
    finally:
        tracemalloc.stop()
