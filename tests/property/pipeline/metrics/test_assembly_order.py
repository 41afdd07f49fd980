"""However members are split and ordered over requests, the same histograms come out, once."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relay.pipeline.routing.match_set import OutputOptions
from relay.selector.matchers import NAME, Matcher, Selector
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.examples import examples
from tests.kit.oracle.any_points import AnyPoint
from tests.kit.remote_write.sample_writes import T0_MS, histogram, write

BOUNDS = ("0.1", "0.5", "1", "2.5", "10")
TYPES = {"h": "histogram", "g": "histogram"}
HISTOGRAM_SECONDS = st.lists(
    st.lists(st.integers(0, 9), min_size=len(BOUNDS) + 1, max_size=len(BOUNDS) + 1),
    min_size=1,
    max_size=5,
)
"""Observations in each bucket, by second."""


def lines_of(name: str, seconds: list[list[int]]) -> list[str]:
    """A histogram's samples at each second, cumulative in both senses."""
    lines: list[str] = []
    totals = [0] * (len(BOUNDS) + 1)
    for second, observed in enumerate(seconds):
        totals = [a + b for a, b in zip(totals, observed, strict=True)]
        running = [sum(totals[: n + 1]) for n in range(len(totals))]
        buckets = list(zip((*BOUNDS, "+Inf"), running, strict=True))
        at = T0_MS + 1000 * second
        made = histogram(name, 'job="a",x="y"', buckets, 0.5 * running[-1], running[-1])
        lines += [f"{line} @{at}" for line in made]
    return lines


def assemble_in_order(
    requests: list[list[str]], *, learn_first: bool
) -> tuple[Rig, list[AnyPoint]]:
    """Feed the requests; where ``learn_first``, after a round that teaches the members."""
    rig = Rig()
    rig.export(RigSink("s", limit=7))
    if learn_first:
        lesson = lines_of("h", [[0] * 6]) + lines_of("g", [[0] * 6])
        lesson = [line.replace(f"@{T0_MS}", f"@{T0_MS - 1000}") for line in lesson]
        rig.feed(write(*lesson, types=TYPES))
        rig.due(100.0)
    for number, lines in enumerate(requests):
        # Without metadata a _count that comes before the first _bucket would be a number.
        rig.feed(write(*lines, types=TYPES), tick=100.0 + number * 0.01)
        check_ledger(rig)
    rig.due(1000.0)
    check_ledger(rig)
    rig.flush()
    for sealed in rig.sinks[0].sealed:
        rig.engine.offsets.release(sealed.oldest)
    assert rig.engine.offsets.statistics().holds == 0, "nothing waits that is not delivered"
    return rig, rig.sinks[0].any_points()


def check_ledger(rig: Rig) -> None:
    """Every sample waits or has an outcome; every point made is in a batch; what waits is held."""
    statistics = rig.engine.statistics()
    sink = rig.sinks[0]
    assembly = statistics.assembly
    assert sink.counter.samples == sum(assembly.outcomes.values()) + assembly.waiting_samples
    assert sink.counter.points == sink.held == assembly.points
    if assembly.waiting_samples:
        assert statistics.offsets.holds > 0


@examples(40)
@given(HISTOGRAM_SECONDS, HISTOGRAM_SECONDS, st.booleans(), st.data())
def test_splitting_and_ordering_change_nothing(
    first: list[list[int]], second: list[list[int]], learn_first: bool, data: st.DataObject
) -> None:
    lines = lines_of("h", first) + lines_of("g", second)
    shuffled = data.draw(st.permutations(lines))
    requests = []
    while shuffled:
        size = data.draw(st.integers(1, len(shuffled)))
        requests.append(shuffled[:size])
        shuffled = shuffled[size:]
    _, expected = assemble_in_order([lines], learn_first=learn_first)
    rig, points = assemble_in_order(requests, learn_first=learn_first)
    assert Counter(points) == Counter(expected)
    assert len({(point.name, point.time_ns) for point in points}) == len(points)
    assert set(rig.engine.statistics().assembly.outcomes) == {"assembled"}


@examples(40)
@given(HISTOGRAM_SECONDS, st.data())
def test_deltas_of_assembled_histograms_add_up(
    seconds: list[list[int]], data: st.DataObject
) -> None:
    rig = Rig()
    rig.export(
        RigSink("delta", limit=1000, options=OutputOptions("delta")), RigSink("plain", limit=1000)
    )
    for line in lines_of("h", seconds):
        if data.draw(st.integers(0, 3)):
            rig.feed(write(line, types=TYPES))
        else:
            rig.feed(write(line, line, types=TYPES))  # twice: the second is a duplicate
    rig.due(1000.0)
    rig.flush()
    deltas, plain = (sink.any_points() for sink in rig.sinks)
    assert len(deltas) == len(plain) - 1 == len(seconds) - 1
    grown = [sum(point.data[3][n] for point in deltas) for n in range(6)] if deltas else [0] * 6
    first, last = plain[0].data[3], plain[-1].data[3]
    assert grown == [b - a for a, b in zip(first, last, strict=True)]
    assert [point.start_ns for point in deltas] == [point.time_ns for point in plain[:-1]]


NAMES = ("h_bucket", "h_count", "h_sum")


@examples(40)
@given(st.sets(st.sampled_from(NAMES), min_size=1), st.permutations(range(8)))
def test_a_source_takes_the_whole_or_what_it_asked_for(allowed: set[str], order: list[int]) -> None:
    rig = Rig()
    groups = tuple((Matcher(NAME, "=", name),) for name in sorted(allowed))
    rig.export(RigSink("part", limit=1000), sources={"part": Selector(groups)})
    rig.export(RigSink("all", limit=1000, exporter="y"), exporter="y")
    lines = lines_of("h", [[1, 2, 3, 4, 5, 6]])
    for index in order:
        rig.feed(write(lines[index], types=TYPES))
    rig.due(1000.0)
    rig.flush()
    part, everything = (sink.any_points() for sink in rig.sinks)
    kinds: Any = Counter((point.name, point.identity.kind) for point in part)
    if allowed == set(NAMES):
        assert kinds == {("h", "histogram"): 1}
    else:
        wanted = Counter(line.partition("{")[0] for line in lines)
        assert {name for name, _ in kinds} == allowed
        assert kinds == {(name, "sum"): wanted[name] for name in allowed}
    assert [point.identity.kind for point in everything] == ["histogram"]
