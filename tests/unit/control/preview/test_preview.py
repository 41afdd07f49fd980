"""A preview of a table that changes meanwhile, of resources, beside a stored version; its lists."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable

import pytest

from bench import bodies
from bench.labels import labels_of
from bench.micro.preview import Pulse, exporter, fill, heads_of
from relay.config.exporter.types import Exporter, OtlpHttp, Sink, Source
from relay.control.preview import preview as preview_module
from relay.control.preview.preview import Preview, PreviewEvent, PreviewProgress
from relay.control.preview.result import PreviewResult
from relay.control.preview.scan import FIRST_MAX
from relay.control.time_slicing import Turns
from relay.pipeline.limits import Limits
from relay.pipeline.routing.tenancy import Tenancy
from relay.selector.inventory.store import ManifestIndex, Object
from relay.selector.metricsql.parser import parse_query
from relay.selector.resources.compiler import Compiler
from relay.selector.resources.label_selector import (
    LabelSelector,
    Requirement,
    ResourceSelection,
    ResourceSelector,
)
from tests.kit.engine_rig import Rig
from tests.kit.remote_write import raw
from tests.own_time import HELD_S_MAX, slowness

TOOK_S_MAX = 5.0

SINK = Sink("otlp", ("s",), OtlpHttp("https://otlp.example.com/v1/metrics"))


class Meddler(Turns):
    """Lets something happen between two slices."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self._act = act

    async def settled(self) -> None:
        self._act()


def events_of(preview: Preview) -> list[PreviewEvent]:
    async def run() -> list[PreviewEvent]:
        return [event async for event in preview.count()]

    return asyncio.run(run())


def result_of(preview: Preview) -> PreviewResult:
    result = events_of(preview)[-1]
    assert isinstance(result, PreviewResult)
    return result


def feed(rig: Rig, *series: dict[str, str]) -> None:
    rig.feed(raw.join(raw.text_series(labels, (1.0, 10**12)) for labels in series))


def test_series_that_stay_count_once_whatever_comes_and_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preview_module, "SLICE_S", 0.0)
    stable, passing = 6_000, 2_000
    rig = Rig(Limits(series_max=stable + passing))
    old = [{"__name__": "old", "n": str(number)} for number in range(passing)]
    feed(rig, *old)
    kept = [{"__name__": "kept", "n": str(number)} for number in range(stable)]
    feed(rig, *kept)
    feed(rig, *kept)  # known ones: the others are evicted first
    count = 0

    def meddle() -> None:
        nonlocal count
        feed(rig, *({"__name__": "new", "n": f"{count}-{number}"} for number in range(20)))
        count += 1

    result = result_of(Preview(rig.engine, Meddler(meddle), exporter("{}")))
    assert count > 100
    assert rig.engine.table.statistics().forgotten_full >= passing
    found = {one.name: one.series for one in result.total.top}
    assert found["kept"] == stable
    assert result.total.series == result.project_series == sum(found.values())


def test_each_slice_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    async def give_way(worked_s: float) -> None:
        given.append(worked_s)

    monkeypatch.setattr(preview_module, "SLICE_S", 0.0)
    monkeypatch.setattr(preview_module, "give_way", give_way)
    rig = Rig()
    feed(rig, *({"__name__": "m", "n": str(number)} for number in range(1_000)))
    assert result_of(Preview(rig.engine, Turns(), exporter("{}"))).total.series == 1_000
    assert 1_000 / 64 <= len(given) < 100
    assert set(given) == {0.0}


def test_lists_have_the_largest_metrics_and_the_first_series() -> None:
    rig = Rig()
    for rank in range(12):
        feed(rig, *({"__name__": f"m{rank:02}", "n": str(n)} for n in range(12 - rank)))
    result = result_of(Preview(rig.engine, Turns(), exporter('{__name__!="m03"}')))
    total = result.total
    assert total == result.sources[0][1]
    assert (total.series, total.metrics) == (78 - 9, 11)
    wanted = [(f"m{rank:02}", 12 - rank) for rank in range(12) if rank != 3]
    assert [(one.name, one.series) for one in total.top] == wanted[:10]
    assert len(total.first) == FIRST_MAX
    names = [one.partition("{")[0] for one in total.first]
    assert names == ["m00"] * 12 + ["m01"] * 8
    assert total.first[0] == 'm00{n="0"}'


def test_more_metric_names_than_are_listed_still_count(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    feed(rig, *({"__name__": f"m{number}", "a": "b"} for number in range(2_000)))
    monkeypatch.setattr(preview_module, "NAMES_MAX", 50)
    stored = exporter('{a="b",__name__!~"m1.*"}')
    result = result_of(Preview(rig.engine, Turns(), exporter('{a="b"}'), stored))
    assert (result.total.series, result.total.metrics) == (2_000, 50)
    assert result.total.has_more_metrics
    assert result.added is not None
    assert result.removed is not None
    assert (result.added.series, result.removed.series) == (1_111, 0)


def test_of_another_project_nothing_is_seen() -> None:
    rig = Rig(tenancy=Tenancy("tenant"))
    feed(
        rig,
        {"__name__": "up", "tenant": "acme"},
        {"__name__": "up", "tenant": "other"},
        {"__name__": "up"},
    )
    of = Exporter("acme", "default", "x", (Source("s", "", parse_query("{}")),), (SINK,))
    result = result_of(Preview(rig.engine, Turns(), of))
    assert result.total.first == ('up{tenant="acme"}',)
    assert (result.total.series, result.project_series) == (1, 1)


def test_resources_are_asked_without_a_trace_in_the_inventory() -> None:
    rig = Rig()
    labels = {"environment": "production"}
    namespaces = [Object("", "", "Namespace", "", "one", "", labels)]
    rig.engine.set_inventory(ManifestIndex(namespaces))
    feed(
        rig,
        {"__name__": "up", "resource_namespace": "one", "resource_name": "a"},
        {"__name__": "up", "resource_namespace": "two", "resource_name": "a"},
        {"__name__": "down", "resource_name": "a"},
    )
    selector = ResourceSelector(
        namespaces=LabelSelector((Requirement("environment", "In", ("production",)),))
    )
    source = Source("s", "", ResourceSelection("default", (selector,)))
    of = Exporter("", "default", "x", (source,), (SINK,))
    asked = rig.engine.inventory.statistics().asked
    result = result_of(Preview(rig.engine, Turns(), of, compiler=Compiler()))
    assert result.total.first == ('up{resource_name="a",resource_namespace="one"}',)
    assert rig.engine.inventory.statistics().asked == asked


def test_samples_a_minute_are_measured_over_the_arrivals() -> None:
    now = 0.0
    rig = Rig()
    series = {"__name__": "up"}, {"__name__": "down"}
    feed(rig, *series)

    def pass_time() -> None:
        nonlocal now
        now += 1.0
        if now % 5 == 0:
            feed(rig, *series)

    preview = Preview(rig.engine, Meddler(pass_time), exporter("{}"), tick=lambda: now)

    async def run() -> PreviewResult:
        events = [event async for event in preview.count()]
        events += [event async for event in preview.measure(60.0, look_s=0.0)]
        result = events[-1]
        assert isinstance(result, PreviewResult)
        return result

    result = asyncio.run(run())
    assert result.total.samples_per_minute == pytest.approx(24.0)
    assert result.measured_s < 12
    assert result.document()["total"]["samplesPerMinute"] == 24.0


def test_the_table_is_filled_with_the_series_of_the_bench() -> None:
    numbers = range(1_990, 2_310)
    assert list(heads_of(numbers)) == [bodies.head1(labels_of(n).items()) for n in numbers]


def _preview_of(series: int) -> None:
    rig = Rig(Limits(series_max=2 * series))
    fill(rig.engine, series)
    took = 0.0

    async def run() -> tuple[list[PreviewEvent], float]:
        nonlocal took
        pulse = Pulse()
        task = asyncio.create_task(pulse.run())
        await asyncio.sleep(0.01)
        began = time.process_time()  # others may use the machine as well
        query = exporter('{__name__=~"network_bytes_.*|http_requests_started_total"}')
        found = [event async for event in Preview(rig.engine, Turns(), query).count()]
        took = time.process_time() - began
        task.cancel()
        return found, pulse.longest_cpu_s

    gc.collect()
    gc.freeze()  # as the relay does with what lives long
    try:
        found, held_s = asyncio.run(run())
    finally:
        gc.unfreeze()
    result = found[-1]
    assert isinstance(result, PreviewResult)
    assert result.project_series == series
    assert result.total.series == series * 9 // 20
    assert isinstance(found[0], PreviewProgress)
    slower = slowness()
    assert held_s < HELD_S_MAX * slower
    assert took < TOOK_S_MAX * slower


def test_a_hundred_thousand_series_hold_nobody_up() -> None:
    _preview_of(100_000)


@pytest.mark.slow
def test_two_million_series_take_less_than_five_seconds() -> None:
    _preview_of(2_000_000)
