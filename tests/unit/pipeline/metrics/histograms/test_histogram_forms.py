"""Histograms and summaries as senders really expose them: without a count, in ranges, ended."""

from __future__ import annotations

import math
import struct

import pytest

from relay.codec.otlp.data_points import STALE
from relay.pipeline.routing.match_set import OutputOptions
from relay.selector.matchers import NAME, Matcher, Selector
from tests.kit.engine_rig import Rig, RigSink, named
from tests.kit.oracle.any_points import STALE_FLAG, AnyPoint, bits
from tests.kit.remote_write.prompb import WriteRequest
from tests.kit.remote_write.sample_writes import T0_MS, histogram, write
from tests.kit.remote_write.symbolic import native

PAUSES = (
    'pauses_bucket{le="1e-05"} 3',
    'pauses_bucket{le="0.001"} 7',
    'pauses_bucket{le="+Inf"} 9',
)
"""As all of VictoriaMetrics' components expose ``go_gc_pauses_seconds``."""
RANGES = (
    'r:6s_histogram_bucket{vmrange="1.000e-01...1.136e-01"} 3',
    'r:6s_histogram_bucket{vmrange="2.783e-01...3.162e-01"} 4',
)
"""As vmagent's stream aggregation writes ``histogram_bucket``."""
RANGES_POINT = (7, None, (0.1, 0.1136, 0.2783, 0.3162), (0, 3, 0, 4, 0))
LATENCY = histogram("h", "", (("0.5", 1), ("1", 2), ("+Inf", 3)), 4.5, 3)
SUMMARY = ('s{quantile="0.5"} 1.5', 's{quantile="0.9"} NaN', "s_sum 9.5", "s_count 7")


def rig_of(options: OutputOptions | None = None) -> Rig:
    """An engine with one sink that wants everything."""
    rig = Rig()
    rig.export(RigSink("s", limit=10_000, options=options or OutputOptions()))
    return rig


def points_of_rig(rig: Rig) -> list[AnyPoint]:
    """Everything that comes out once nobody waits any more."""
    rig.hand_over(rig.engine.finish(1e6))
    rig.flush()
    return rig.sinks[0].any_points()


def assemble(*lines: str, seconds: int = 3, types: dict[str, str] | None = None) -> list[AnyPoint]:
    """The points of the same samples, again and again."""
    rig = rig_of()
    for second in range(seconds):
        rig.feed(write(*lines, at_ms=T0_MS + 1000 * second, types=types), tick=20.0 * second)
        if second:
            assert rig.sinks[0].held == second + 1, "what is known leaves at once"
        rig.due(20.0 * second + 19.0)
    assert set(rig.engine.statistics().assembly.outcomes) == {"assembled"}
    return points_of_rig(rig)


def stale(*lines: str) -> list[str]:
    """The same series, ended."""
    return [f"{line.rpartition(' ')[0]} StaleNaN" for line in lines]


@pytest.mark.parametrize("types", [None, {"pauses": "histogram seconds"}])
def test_without_a_count_it_is_that_of_infinity(types: dict[str, str] | None) -> None:
    found = assemble(*PAUSES, types=types)
    assert [point.data for point in found] == [(9, None, (1e-05, 0.001), (3, 4, 2))] * 3
    assert {point.name for point in found} == {"pauses"}


def test_without_a_count_deltas_are_made_too() -> None:
    rig = rig_of(OutputOptions("delta"))
    for second, more in enumerate((0, 1, 3)):
        lines = (PAUSES[0], PAUSES[1], f'pauses_bucket{{le="+Inf"}} {9 + more}')
        rig.feed(write(*lines, at_ms=T0_MS + 1000 * second))
        rig.due(20.0 * second + 19.0)
    assert [point.data[0] for point in points_of_rig(rig)] == [1, 2]


@pytest.mark.parametrize("top", ["+Inf", "Inf", "inf", "+inf", "Infinity"])
@pytest.mark.parametrize(
    ("low", "high"), [("1", "1000"), ("1.0", "1e3"), ("1e0", "1E+03"), ("01", "1000.000")]
)
def test_bounds_in_every_spelling(low: str, high: str, top: str) -> None:
    buckets = [f'h_bucket{{le="{le}"}} {n}' for n, le in enumerate((low, high, top), 1)]
    for lines in (buckets, [*buckets, "h_sum 2.5", "h_count 3"]):
        assert {point.data[2:] for point in assemble(*lines)} == {((1.0, 1000.0), (1, 1, 1))}


def test_bounds_that_change_their_spelling() -> None:
    """Prometheus 3 writes 1.0 where 2 wrote 1; the old series end with the first scrape."""
    rig = rig_of()
    for second in range(2):
        rig.feed(write(*LATENCY, at_ms=T0_MS + 1000 * second))
        rig.due(20.0 + 20 * second)
    fresh = [line.replace('le="1"', 'le="1.0"') for line in LATENCY]
    old = [line for line in LATENCY if 'le="1"' in line]
    rig.feed(write(*fresh, *stale(*old), at_ms=T0_MS + 2000), tick=60.0)
    rig.due(79.0)
    rig.feed(write(*fresh, at_ms=T0_MS + 3000), tick=80.0)
    rig.feed(write(*stale(*fresh), at_ms=T0_MS + 4000), tick=81.0)
    *found, last = points_of_rig(rig)
    assert {point.data for point in found} == {(3, bits(4.5), (0.5, 1.0), (1, 1, 1))}
    assert len(found) == 4
    assert last.data == (0, bits(0.0), (0.5, 1.0), (0, 0, 0)), "one bound, two spellings"
    assert rig.engine.statistics().assembly.outcomes.keys() == {"assembled"}


def test_ranges_without_a_count() -> None:
    found = assemble(*RANGES)
    assert [point.data for point in found] == [RANGES_POINT] * 3
    assert {(point.name, point.identity.kind) for point in found} == {
        ("r:6s_histogram", "histogram")
    }


def test_a_range_that_is_new_is_in_the_point_of_its_request() -> None:
    """However it stands among those that are known; without a count nothing says that it comes."""
    new = RANGES[0].replace("1.000e-01...1.136e-01", "1.136e-01...1.292e-01")
    for at in range(3):
        rig = rig_of()
        rig.feed(write(*RANGES))
        rig.due(20.0)
        lines = list(RANGES)
        lines.insert(at, new)
        rig.feed(write(*lines, at_ms=T0_MS + 1000), tick=30.0)
        assert rig.sinks[0].held == 2
        assert points_of_rig(rig)[1].data[0] == 10
        assert rig.engine.statistics().assembly.outcomes == {"assembled": 5}


def test_the_ranges_of_older_senders() -> None:
    lines = ('h_bucket{vmrange="0...0"} 2', 'h_bucket{vmrange="0...1.000e-09"} 1', "h_sum 0")
    (point, *_) = assemble(*lines)
    assert point.data == (3, bits(0.0), (0.0, 1e-09), (2, 1, 0))


@pytest.mark.parametrize(
    "lines",
    [
        ('h_bucket{vmrange="1...2"} 1', 'h_bucket{vmrange="1...3"} 1'),
        ('h_bucket{vmrange="2...2"} 1', 'h_bucket{vmrange="1...2"} 1'),
    ],
)
def test_ranges_that_lie_across_each_other_are_refused(lines: tuple[str, ...]) -> None:
    rig = rig_of()
    rig.feed(write(*lines))
    assert points_of_rig(rig) == []
    assert rig.engine.statistics().assembly.outcomes == {"duplicate_bound": 2}
    rig.feed(write(*stale(*lines), at_ms=T0_MS + 1000))
    (point,) = points_of_rig(rig)
    assert (point.flags, point.data) == (STALE_FLAG, (0, None, (), ()))


def test_ranges_beside_a_count_that_ended_are_added_up() -> None:
    rig = rig_of()
    rig.feed(write(*RANGES, "r:6s_histogram_count StaleNaN"))
    (point,) = points_of_rig(rig)
    assert (point.flags, point.data) == (0, RANGES_POINT)


@pytest.mark.parametrize("count", ["h_count StaleNaN", ""])
def test_a_count_that_alone_has_ended(count: str) -> None:
    lines = [line for line in LATENCY if "_count" not in line] + ([count] if count else [])
    rig = rig_of()
    rig.feed(write(*lines))
    (point,) = points_of_rig(rig)
    assert (point.flags, point.data) == (0, (3, bits(4.5), (0.5, 1.0), (1, 1, 1)))


@pytest.mark.parametrize(
    ("lines", "last"),
    [
        (LATENCY, (0, bits(0.0), (0.5, 1.0), (0, 0, 0))),
        (PAUSES, (0, None, (1e-05, 0.001), (0, 0, 0))),
        (RANGES, (0, None, RANGES_POINT[2], (0, 0, 0, 0, 0))),
        ([*LATENCY[:2], *LATENCY[3:]], (0, bits(0.0), (0.5, 1.0), (0, 0, 0))),
        (["h_sum 1", "h_count 2"], (0, bits(0.0), (), ())),
    ],
)
def test_a_histogram_ends_with_all_that_it_had(lines: list[str], last: object) -> None:
    types = {"h": "histogram"}
    rig = rig_of()
    rig.feed(write(*lines, types=types))
    rig.due(20.0)
    rig.feed(write(*stale(*lines), at_ms=T0_MS + 1000), tick=21.0)
    assert rig.sinks[0].held == 2, "nothing has to be waited for"
    alive, ended = points_of_rig(rig)
    assert (alive.flags, ended.flags) == (0, STALE_FLAG)
    assert ended.data == last
    assert ended.identity == alive.identity
    fresh = rig_of()
    fresh.feed(write(*stale(*lines), types=types))
    (first,) = points_of_rig(fresh)
    assert (first.flags, first.data) == (STALE_FLAG, last), "also after a restart"


def test_a_histogram_ends_with_the_buckets_that_it_had_even_where_some_markers_are_late() -> None:
    rig = rig_of()
    rig.feed(write(*LATENCY))
    rig.due(20.0)
    rig.feed(write(*stale(LATENCY[0], LATENCY[4]), at_ms=T0_MS + 1000), tick=21.0)
    _, ended = points_of_rig(rig)
    assert ended.data == (0, bits(0.0), (0.5, 1.0), (0, 0, 0))


def test_a_summary_ends_with_its_quantiles() -> None:
    types = {"s": "summary"}
    rig = rig_of()
    rig.feed(write(*SUMMARY, types=types))
    rig.due(20.0)
    rig.feed(write(*stale(*SUMMARY), at_ms=T0_MS + 1000), tick=21.0)
    _, ended = points_of_rig(rig)
    count, total, quantiles = ended.data
    assert (ended.flags, count, total) == (STALE_FLAG, 0, 0.0)
    assert [quantile for quantile, _ in quantiles] == [0.5, 0.9]
    assert all(math.isnan(value) for _, value in quantiles)


def test_delta_sinks_are_told_of_no_end() -> None:
    rig = rig_of(OutputOptions("delta"))
    for second, lines in enumerate((LATENCY, stale(*LATENCY), LATENCY)):
        rig.feed(write(*lines, at_ms=T0_MS + 1000 * second))
        rig.due(20.0 * (second + 1))
    assert [(point.flags, point.data[0]) for point in points_of_rig(rig)] == [(0, 0)]


def test_parts_of_a_gauge_histogram_have_no_otlp() -> None:
    rig = rig_of()
    lines = ('g_bucket{le="1"} 5', 'g_bucket{le="+Inf"} 5', "g_gcount 5", "g_gsum 2")
    rig.feed(write(*lines, types={"g": "gaugehistogram"}))
    assert points_of_rig(rig) == []
    assert rig.engine.statistics().assembly.outcomes == {"gauge_histogram": 4}


def native_write(custom: tuple[float, ...] = (), *, seconds: int, ends: bool) -> bytes:
    """Native histograms of one series, a second apart; ``ends`` with a stale marker."""
    request = WriteRequest()
    series = request.timeseries.add()
    series.labels.add(name="__name__", value="n")
    for second in range(seconds + ends):
        time_ms = T0_MS + 1000 * second
        if second == seconds:
            series.histograms.add(sum=struct.unpack("<d", STALE)[0], timestamp=time_ms)
        elif custom:
            one = series.histograms.add(schema=-53, sum=2.5, count_int=4, timestamp=time_ms)
            one.custom_values.extend(custom)
            one.positive_spans.add(offset=0, length=2)
            one.positive_deltas.extend((3, -2))
        else:
            native(series, time_ms)
    return bytes(request.SerializeToString())


@pytest.mark.parametrize("custom", [(), (1.0, 2.0)])
def test_a_native_histogram_ends_with_the_buckets_that_it_had(custom: tuple[float, ...]) -> None:
    rig = rig_of()
    rig.feed(native_write(custom, seconds=2, ends=True))
    _, last, ended = points_of_rig(rig)
    assert ended.flags == STALE_FLAG
    assert ended.identity == last.identity
    if custom:
        assert last.data == (4, bits(2.5), custom, (3, 1, 0))
        assert ended.data == (0, bits(0.0), custom, (0, 0, 0))
    else:
        assert ended.data == last.data, "VictoriaMetrics passes buckets over that are empty"


def test_a_native_histogram_that_is_not_known_ends_all_the_same() -> None:
    rig = rig_of()
    rig.feed(native_write(seconds=0, ends=True))
    (ended,) = points_of_rig(rig)
    assert (ended.flags, ended.identity.kind) == (STALE_FLAG, "exponential_histogram")


def both_kinds(second: int, kinds: str) -> bytes:
    """A histogram as a classic one (c) and as one with custom buckets (n), in this order."""
    parts = []
    for kind in kinds:
        if kind == "c":
            lines = histogram("n", "", (("1", 3), ("2", 4), ("+Inf", 4)), 2.5, 4)
            parts.append(write(*lines, at_ms=T0_MS + 1000 * second))
        else:
            request = WriteRequest.FromString(native_write((1.0, 2.0), seconds=1, ends=False))
            request.timeseries[0].histograms[0].timestamp = T0_MS + 1000 * second
            parts.append(bytes(request.SerializeToString()))
    return b"".join(parts)


@pytest.mark.parametrize("kinds", ["cn", "nc"])
@pytest.mark.parametrize("in_one_request", [True, False])
def test_one_histogram_in_two_forms_is_one_point(kinds: str, in_one_request: bool) -> None:
    rig = rig_of()
    rig.feed(both_kinds(0, "c"))
    rig.due(20.0)
    rig.feed(both_kinds(1, "c"), tick=20.0)
    for second in range(2, 6):
        for request in [kinds] if in_one_request else kinds:
            rig.feed(both_kinds(second, request), tick=20.0 + second)
    found = points_of_rig(rig)
    assert [(point.time_ns // 10**9) % 10 for point in found] == list(range(6))
    assert {point.data for point in found} == {(4, bits(2.5), (1.0, 2.0), (3, 1, 0))}
    (row,) = rig.engine.drops.rows()
    assert (row.family, row.reason, row.samples) == ("n", "classic_twin", 4)


def test_the_form_that_goes_on_is_exported() -> None:
    rig = rig_of()
    for second in range(3):
        rig.feed(both_kinds(second, "cn"), tick=20.0 * second)
        rig.due(20.0 * second + 19.0)
    for second in range(3, 6):
        rig.feed(both_kinds(second, "n"), tick=20.0 * second)
    times = [(point.time_ns // 10**9) % 10 for point in points_of_rig(rig)]
    assert times == [0, 1, 2, 4, 5], "that the classic one does not come is known a scrape later"


def test_who_takes_one_form_only_gets_that() -> None:
    rig = Rig()
    members = Selector(((Matcher(NAME, "=~", "n_.*"),),))
    for name, selector in (("native", named("n")), ("classic", members)):
        rig.export(RigSink(name, limit=100, exporter=name), exporter=name, sources={"s": selector})
    for second in range(4):
        rig.feed(both_kinds(second, "cn"), tick=20.0 * second)
        rig.due(20.0 * second + 19.0)
    rig.flush()
    for sink in rig.sinks:
        assert len(sink.any_points()) == 4
    assert rig.engine.drops.rows() == ()
