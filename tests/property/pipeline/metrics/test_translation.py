"""The engine against the slow derivation, on requests in every shape that protobuf allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relay.pipeline.limits import Limits
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.metrics.series.series_table import SeriesTable
from tests.kit.engine_rig import EVERYTHING, NUMBERS, Rig, RigSink, named
from tests.kit.examples import examples
from tests.kit.oracle.number_points import Alternatives, assert_same
from tests.kit.oracle.slow_otlp import Derived, SlowRelay
from tests.kit.remote_write import any_writes, raw
from tests.kit.remote_write.prompb import RawWriteRequest

MANY = 1_000_000
ORDERS = st.lists(st.lists(st.integers(0, 9), max_size=12), min_size=1, max_size=8)
"""Requests as indices into ten series: order changes, series come, go and repeat."""

POOL: Sequence[raw.Labels] = [
    [(b"__name__", b"a"), (b"n", b"0")],
    [(b"__name__", b"a"), (b"n", b"0"), (b"o", b"0")],  # its key begins with the one before
    [(b"__name__", b"a"), (b"o", b"0"), (b"n", b"0")],  # the same series, in another order
    [(b"__name__", b"a")],
    [(b"__name__", b"a_total"), (b"job", b"api")],
    [(b"__name__", b"a_total"), (b"job", b"api"), (b"x", b"y" * 200)],
    [(b"job", b"api"), (b"__name__", b"up")],
    [(b"__name__", b"up"), (b"bad", b"\xff")],
    [(b"n", b"1")],
    [],
]


class Sequel:
    """Numbers the samples of a test, so that each value and time occurs once."""

    def __init__(self) -> None:
        self.count = 0

    def body(self, indices: Sequence[int]) -> bytes:
        """A request with one new sample for each of these series."""
        parts = []
        for index in indices:
            self.count += 1
            parts.append(raw.series(POOL[index], (float(self.count), raw.T0_MS + self.count)))
        return b"".join(parts)


def derive(oracle: SlowRelay, body: bytes) -> Derived:
    """What the body must become."""
    return oracle.take(RawWriteRequest.FromString(body))


@given(st.lists(any_writes.raw_requests(), min_size=1, max_size=3), st.booleans())
def test_any_requests_become_what_the_slow_derivation_says(
    bodies: list[bytes], infer: bool
) -> None:
    rig, oracle = Rig(infer_types=infer), SlowRelay(infer=infer)
    sink = rig.export(RigSink("s", limit=MANY, options=NUMBERS))
    expected: list[Alternatives] = []
    dropped: Counter[str] = Counter()
    exemplars = received = 0
    for body in bodies:
        derived = derive(oracle, body)
        transaction = rig.feed(body)
        assert transaction.dropped == derived.dropped
        assert transaction.samples == len(derived.points) + derived.histograms
        expected += derived.points
        dropped += derived.dropped
        exemplars += derived.exemplars
        received += derived.received
    rig.flush()
    assert_same(expected, sink.points())
    statistics = rig.engine.statistics()
    assert statistics.received_samples == received
    assert statistics.dropped_samples == dropped
    assert statistics.exemplars.received == exemplars
    assert sink.counter.points == len(expected)


@given(any_writes.raw_requests())
def test_a_request_fed_twice_comes_out_twice(body: bytes) -> None:
    """The second time everything is recognised; nothing else may differ."""
    rig, oracle = Rig(), SlowRelay()
    sink = rig.export(RigSink("s", limit=MANY, options=NUMBERS))
    expected = [point for _ in range(2) for point in derive(oracle, body).points]
    first = rig.feed(body)
    second = rig.feed(body)
    assert (first.samples, first.dropped) == (second.samples, second.dropped)
    rig.flush()
    assert_same(expected, sink.points())


@given(st.data())
def test_single_series_requests_in_odd_shapes(data: st.DataObject) -> None:
    """Recognised or not, by whichever path: the pool's series in every shape, over and over."""
    rig, oracle = Rig(), SlowRelay()
    sink = rig.export(RigSink("s", limit=MANY, options=NUMBERS))
    expected: list[Alternatives] = []
    shapes = st.lists(any_writes.raw_series(pool=POOL[:5]), min_size=1, max_size=8)
    for body in data.draw(st.lists(shapes, min_size=1, max_size=4)):
        expected += derive(oracle, b"".join(body)).points
        rig.feed(b"".join(body))
    rig.flush()
    assert_same(expected, sink.points())


@given(ORDERS, st.integers(1, 9) | st.just(1000))
def test_successor_links_and_forgetting_never_change_the_result(
    orders: list[list[int]], series_max: int
) -> None:
    rig, oracle, sequel = Rig(Limits(series_max=series_max)), SlowRelay(), Sequel()
    sink = rig.export(RigSink("s", limit=MANY, options=NUMBERS))
    expected: list[Alternatives] = []
    for indices in orders:
        body = sequel.body(indices)
        expected += derive(oracle, body).points
        rig.feed(body)
        assert rig.engine.statistics().table.active <= series_max
        assert len(_reachable(rig.engine.table)) <= 2 * series_max + 2
    rig.flush()
    assert_same(expected, sink.points())


def _reachable(table: SeriesTable) -> dict[int, Series]:
    """Every series that the table keeps alive, over links too."""
    found: dict[int, Series] = {}
    for held in (table.first_in_request, *table.kept()):
        series: Series | None = held
        while series is not None and id(series) not in found:
            found[id(series)] = series
            series = series.predicted_next
    return found


@given(ORDERS, st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 3))
def test_sinks_of_different_limits_get_the_same_points(
    orders: list[list[int]], limits: list[int], shards: int
) -> None:
    """Fan-out: all sinks see the same stream, cut at their own limits, each exactly."""
    rig, oracle, sequel = Rig(), SlowRelay(), Sequel()
    sinks = [RigSink(f"s{n}", limit=limit, shards=shards) for n, limit in enumerate(limits)]
    rig.export(*sinks)
    expected: list[Alternatives] = []
    for indices in orders:
        body = sequel.body(indices)
        expected += derive(oracle, body).points
        rig.feed(body)
    for sink in sinks:
        assert {sealed.count for sealed in sink.sealed} <= {sink.limit}
        assert all(batch.count < sink.limit for batch in sink.batches)
    rig.flush()
    rig.engine.statistics()
    for sink in sinks:
        assert_same(expected, sink.points())
        assert sink.counter.points == len(expected) == sink.held


@given(ORDERS)
def test_a_series_stays_in_its_lane(orders: list[list[int]]) -> None:
    """Points of one series never overtake each other, because one lane sends them all."""
    rig, sequel = Rig(), Sequel()
    sink = rig.export(RigSink("s", limit=MANY, shards=4, options=NUMBERS))
    for indices in orders:
        rig.feed(sequel.body(indices))
    rig.hand_over([])
    lane_of: dict[Any, int] = {}
    for batch in sink.batches:
        sealed = batch.seal()
        if sealed is not None:
            sink.sealed = [sealed]
            for point in sink.points():
                assert lane_of.setdefault(point[:5], batch.shard) == batch.shard


SELECTORS = {"all": EVERYTHING, "a": named("a"), "total": named("a_total"), "up": named("up")}


@st.composite
def programs(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """A list of steps: requests, and exporters that come and go."""
    step = st.one_of(
        st.tuples(st.just("feed"), st.lists(st.integers(0, 9), max_size=8)),
        st.tuples(st.just("toggle"), st.sampled_from(sorted(SELECTORS))),
    )
    return draw(st.lists(step, min_size=2, max_size=14))


@examples(60)
@given(programs(), st.sampled_from([3, 1000]))
def test_exporters_come_and_go_between_requests(
    program: list[tuple[str, Any]], series_max: int
) -> None:
    """A sink gets what its selector takes, from the request after it came to the one before it
    left."""
    rig, oracle, sequel = Rig(Limits(series_max=series_max)), SlowRelay(), Sequel()
    routed: dict[str, tuple[RigSink, list[Alternatives]]] = {}
    finished: list[tuple[RigSink, list[Alternatives]]] = []
    unmatched = 0
    for action, argument in program:
        if action == "toggle" and argument in routed:
            rig.engine.remove_exporter(argument)
            finished.append(routed.pop(argument))
        elif action == "toggle":
            sink = RigSink("s", limit=3, exporter=argument, options=NUMBERS)
            rig.export(sink, exporter=argument, sources={"src": SELECTORS[argument]})
            routed[argument] = (sink, [])
        else:
            body = sequel.body(argument)
            points = derive(oracle, body).points
            rig.feed(body)
            for name, (_, wanted) in routed.items():
                wanted += [p for p in points if name == "all" or p[0].name == _metric(name)]
            unmatched += sum(
                not any(name == "all" or p[0].name == _metric(name) for name in routed)
                for p in points
            )
    rig.flush()
    assert rig.engine.statistics().router.unmatched_samples == unmatched
    tallied = {(t.exporter, t.source): t.samples for t in rig.engine.router.source_counters()}
    exported: Counter[tuple[str, str]] = Counter()
    for sink, wanted in [*finished, *routed.values()]:
        assert_same(wanted, sink.points())
        assert sink.counter.points == len(wanted)
        exported[sink.counter.exporter, "src"] += len(wanted)
    assert +Counter(tallied) == +exported


def _metric(name: str) -> str:
    return "a_total" if name == "total" else name


@given(ORDERS)
def test_two_sources_that_match_export_twice(orders: list[list[int]]) -> None:
    """The proposal: no de-duplication between sources."""
    rig, oracle, sequel = Rig(), SlowRelay(), Sequel()
    sink = rig.export(
        RigSink("s", limit=5, options=NUMBERS), sources={"one": EVERYTHING, "two": named("a")}
    )
    expected: list[Alternatives] = []
    for indices in orders:
        body = sequel.body(indices)
        rig.feed(body)
        for point in derive(oracle, body).points:
            expected += [point] * (2 if point[0].name == "a" else 1)
    rig.flush()
    rig.engine.statistics()
    assert_same(expected, sink.points())
    assert sink.counter.points == len(expected)
    counters = {counter.source: counter.samples for counter in rig.engine.router.source_counters()}
    assert sum(counters.values()) == len(expected)


@given(ORDERS, st.lists(any_writes.raw_metadata(), min_size=1, max_size=3))
def test_metadata_in_requests_of_its_own_types_what_follows(
    orders: list[list[int]], metadata: list[bytes]
) -> None:
    """No freedom here: the next request carries the new types, recognised by link or not."""
    rig, oracle, sequel = Rig(), SlowRelay(), Sequel()
    sink = rig.export(RigSink("s", limit=MANY, options=NUMBERS))
    expected: list[Alternatives] = []
    for position, indices in enumerate(orders):
        message = metadata[position % len(metadata)]
        assert not derive(oracle, message).points
        rig.feed(message)
        body = sequel.body(indices)
        derived = derive(oracle, body).points
        assert all(len(alternatives) == 1 for alternatives in derived)
        expected += derived
        rig.feed(body)
    rig.flush()
    assert_same(expected, sink.points())
