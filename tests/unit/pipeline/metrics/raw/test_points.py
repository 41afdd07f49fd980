"""Histograms and exemplars of series that go to sinks as they came."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from relay.pipeline.batching.transaction import AcceptedCounts
from relay.pipeline.routing.match_set import OutputOptions
from tests.kit.engine_rig import RAW1, RAW2, Rig, RigSink
from tests.kit.remote_write import raw
from tests.kit.remote_write.as_sent import SentExemplar, SentSeries
from tests.kit.remote_write.prompb import HistogramV2, WriteRequest
from tests.kit.remote_write.raw import STALE, T0_MS
from tests.kit.remote_write.symbolic import Request2, native

PLAIN = OutputOptions()
TRACE = SentExemplar((("trace_id", "x"),), 1.5, T0_MS)


def rig_of(*options: OutputOptions, limit: int = 100) -> Rig:
    """An engine with one exporter of a sink for each of these options."""
    rig = Rig()
    rig.export(*[RigSink(f"s{n}", limit=limit, options=one) for n, one in enumerate(options)])
    return rig


def the_series(sink: RigSink) -> SentSeries:
    """The one series that arrived."""
    (found,) = sink.as_sent().series.values()
    return found


def request(name: str = "latency") -> tuple[Any, Any]:
    """A request of 1.0 with one series."""
    message = WriteRequest()
    series = message.timeseries.add()
    series.labels.add(name="__name__", value=name)
    return message, series


def add_exemplar(series: Any, *, time_ms: int = T0_MS, text: str = "x") -> None:
    """Add an exemplar of 1.0."""
    exemplar = series.exemplars.add(value=1.5, timestamp=time_ms)
    exemplar.labels.add(name="trace_id", value=text)


def reasons(rig: Rig) -> dict[tuple[str, str], int]:
    """Drops by sink and reason."""
    return {(row.sink, row.reason): row.samples for row in rig.engine.drops.rows()}


def counted(rig: Rig) -> list[tuple[int, int, int]]:
    """Points, samples and exported samples of each sink."""
    rig.engine.statistics()
    counters = [sink.counter for sink in rig.sinks]
    return [(one.points, one.samples, one.exported) for one in counters]


@pytest.mark.parametrize("kind", ["gauge", "float", "schema"])
def test_a_histogram_without_a_form_in_otlp_reaches_raw_sinks(kind: str) -> None:
    rig = rig_of(RAW1, RAW2, PLAIN)
    message, series = request()
    histogram = native(series, schema=20 if kind == "schema" else 0)
    if kind == "gauge":
        histogram.reset_hint = 3
    elif kind == "float":
        histogram.count_float = 1.5
    transaction = rig.feed(message.SerializeToString())
    rig.flush()
    for sink in rig.sinks[:2]:
        (point,) = the_series(sink).points
        assert point.content == histogram.SerializeToString(deterministic=True)
    assert not rig.sinks[2].any_points()
    assert counted(rig) == [(1, 1, 1), (1, 1, 1), (0, 0, 0)]
    assert reasons(rig) == {("s2", f"histogram_{kind}"): 1}
    assert not transaction.dropped
    assert transaction.taken.histograms == 1


def test_without_a_raw_sink_it_is_refused_as_before() -> None:
    rig = rig_of(PLAIN)
    message, series = request()
    native(series).reset_hint = 3
    transaction = rig.feed(message.SerializeToString())
    assert transaction.dropped == {"histogram_gauge": 1}
    assert transaction.taken.histograms == 0
    assert reasons(rig) == {("s0", "histogram_gauge"): 1}


@pytest.mark.parametrize("others", [(), (PLAIN,)])
def test_a_histogram_that_contradicts_itself_reaches_nobody(
    others: tuple[OutputOptions, ...],
) -> None:
    rig = rig_of(RAW1, *others)
    message, series = request()
    native(series, count=17)
    transaction = rig.feed(message.SerializeToString())
    assert transaction.dropped == {"histogram_invalid": 1}
    assert rig.sinks[0].held == 0


def test_custom_buckets_have_no_form_in_1_0() -> None:
    rig = rig_of(RAW1, RAW2, PLAIN)
    message, series = request()
    histogram = series.histograms.add(schema=-53, count_int=3, sum=1.5, timestamp=T0_MS)
    histogram.positive_spans.add(offset=0, length=2)
    histogram.positive_deltas.extend([1, 1])
    histogram.custom_values.extend([0.5, 1.5])
    add_exemplar(series)
    rig.feed(message.SerializeToString())
    native(series, T0_MS + 5)
    rig.feed(message.SerializeToString())
    rig.flush()
    assert [len(the_series(sink).points) for sink in rig.sinks[:2]] == [1, 3]
    assert the_series(rig.sinks[0]).exemplars == [TRACE, TRACE]
    assert reasons(rig) == {("s0", "custom_buckets"): 2}
    (points, samples, exported), other, _ = counted(rig)
    assert (points, samples, exported) == (1, 3, 1)
    assert other == (3, 3, 3)


def test_a_start_goes_with_a_histogram_to_2_0_alone() -> None:
    rig = rig_of(RAW1, RAW2)
    message = Request2()
    native(message.series({"__name__": "latency"}, created_ms=T0_MS - 9))
    rig.feed(message.body, protocol="remote_write_v2")
    rig.flush()
    starts = [the_series(sink).points[0].start_ms for sink in rig.sinks]
    assert starts == [0, T0_MS - 9]


def test_a_stale_histogram_arrives_as_it_came() -> None:
    rig = rig_of(RAW1, RAW2)
    message = b"\x19" + struct.pack("<Q", STALE) + b"\x78" + raw.varint(T0_MS)
    rig.feed(raw.message(1, raw.label(b"__name__", b"latency") + raw.message(4, message)))
    rig.flush()
    for sink in rig.sinks:
        (point,) = the_series(sink).points
        assert isinstance(point.content, bytes)
        assert struct.pack("<Q", STALE) in point.content
        assert point.content == HistogramV2.FromString(message).SerializeToString()


def test_samples_and_histograms_of_a_series_keep_their_order() -> None:
    rig = rig_of(RAW1, RAW2, limit=2)
    message = WriteRequest()
    for at, is_sample in enumerate([True, False, True, True, False]):
        series = message.timeseries.add()
        series.labels.add(name="__name__", value="latency")
        if is_sample:
            series.samples.add(value=1.0, timestamp=T0_MS + at)
        else:
            native(series, T0_MS + at)
    rig.feed(message.SerializeToString())
    rig.flush()
    for sink in rig.sinks:
        assert [point.time_ms - T0_MS for point in the_series(sink).points] == [0, 1, 2, 3, 4]


def test_a_message_with_samples_and_histograms_gives_samples_first() -> None:
    rig = rig_of(RAW1, RAW2, PLAIN)
    message, series = request()
    series.samples.add(value=1.0, timestamp=T0_MS)
    series.samples.add(value=2.0, timestamp=T0_MS + 1)
    native(series, T0_MS + 2)
    transaction = rig.feed(message.SerializeToString())
    rig.flush()
    assert transaction.taken == AcceptedCounts(2, 1, 0)
    for sink in rig.sinks[:2]:
        assert [point.time_ms - T0_MS for point in the_series(sink).points] == [0, 1, 2]
    assert [points for points, *_ in counted(rig)] == [3, 3, 3]


def test_exemplars_with_a_sample() -> None:
    rig = rig_of(RAW1, RAW2, PLAIN)
    message, series = request()
    series.samples.add(value=1.0, timestamp=T0_MS)
    add_exemplar(series)
    rig.feed(message.SerializeToString())
    rig.flush()
    for sink in rig.sinks[:2]:
        assert the_series(sink).exemplars == [TRACE]
    (point,) = rig.sinks[2].any_points()
    assert len(point.exemplars) == 1
    statistics = rig.engine.statistics().exemplars
    assert (statistics.received, statistics.sent, statistics.dropped) == (1, 1, 0)


def test_exemplars_alone_go_to_1_0_as_they_came_and_wait_for_otlp() -> None:
    rig = rig_of(RAW1, RAW2, PLAIN)
    alone = WriteRequest()
    series = alone.timeseries.add()
    series.labels.add(name="__name__", value="latency")
    add_exemplar(series)
    body = raw.series([(b"__name__", b"latency")], (1.0, T0_MS)) + alone.SerializeToString()
    rig.feed(body)
    assert [sink.batches[0].count for sink in rig.sinks] == [1, 1, 1]
    rig.feed(raw.series([(b"__name__", b"latency")], (2.0, T0_MS + 1)))
    rig.flush()
    for sink in rig.sinks[:2]:
        found = the_series(sink)
        assert found.exemplars == [TRACE]
        assert [point.time_ms - T0_MS for point in found.points] == [0, 1]
        assert sink.lone_exemplars == 0
    assert [len(point.exemplars) for point in rig.sinks[2].any_points()] == [0, 1]
    statistics = rig.engine.statistics().exemplars
    assert (statistics.received, statistics.sent, statistics.dropped) == (1, 1, 0)


def test_exemplars_alone_of_a_raw_series_do_not_wait() -> None:
    rig = rig_of(RAW1)
    message, series = request()
    add_exemplar(series)
    rig.feed(message.SerializeToString())
    statistics = rig.engine.statistics().exemplars
    assert (statistics.sent, statistics.dropped, statistics.waiting) == (1, 0, 0)
    assert rig.sinks[0].batches[0].count == 0
    rig.flush()
    assert not rig.sinks[0].sealed  # nothing leaves without a point


def test_an_unusable_exemplar_goes_nowhere() -> None:
    rig = rig_of(RAW1)
    message, series = request()
    series.samples.add(value=1.0, timestamp=T0_MS)
    add_exemplar(series, time_ms=0)
    add_exemplar(series)
    rig.feed(message.SerializeToString())
    rig.flush()
    assert the_series(rig.sinks[0]).exemplars == [TRACE]
    assert rig.engine.statistics().exemplars.dropped == 1


def test_a_refused_request_counts_nothing_as_omitted() -> None:
    rig = rig_of(RAW1, PLAIN)
    message, series = request()
    native(series).reset_hint = 3
    with pytest.raises(Exception, match="truncated"):
        rig.feed(message.SerializeToString() + b"\x0a")
    assert reasons(rig) == {}
    assert counted(rig) == [(0, 0, 0), (0, 0, 0)]


@pytest.mark.parametrize("options", [(RAW1,), (RAW1, PLAIN), (PLAIN,)])
def test_a_dry_run_says_what_would_happen(options: tuple[OutputOptions, ...]) -> None:
    rig = rig_of(*options)
    message, series = request()
    series.samples.add(value=1.0, timestamp=T0_MS)
    native(series).reset_hint = 3
    native(message.timeseries.add(labels=series.labels), T0_MS + 1)
    add_exemplar(series)
    body = message.SerializeToString()
    before = rig.snapshot()
    probed = rig.engine.dry_run(body, now=1e9)
    assert rig.snapshot() == before
    transaction = rig.feed(body)
    assert probed.taken == transaction.taken
    assert probed.dropped == transaction.dropped
    assert probed.wanted == transaction.has_effect
    assert reasons(rig).keys() <= {("s0", "histogram_gauge"), ("s1", "histogram_gauge")}
