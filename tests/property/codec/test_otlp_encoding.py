"""Batches as bytes: whatever points go in, the official classes read out, grouped as OTLP wants."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.groups import MetricGroup, ResourceGroup, ScopeGroup
from relay.codec.otlp.metrics import MetricIdentity, encode_time, point_prefix, stale_prefix
from relay.codec.otlp.point_buffer import PointBuffer
from tests.kit.oracle.number_points import (
    NO_RECORDED_VALUE,
    Identity,
    Pairs,
    Point,
    assert_same,
    decode,
)
from tests.kit.oracle.slow_otlp import TIME_MS_MAX

TEXT = st.text(max_size=6) | st.sampled_from([126, 127, 128, 16384]).map("v".__mul__)
KEYS = st.text(min_size=1, max_size=6)
ATTRIBUTES: st.SearchStrategy[Pairs] = st.dictionaries(KEYS, TEXT, max_size=4).map(
    lambda pairs: tuple(sorted(pairs.items()))
)
IDENTITIES = st.builds(
    MetricIdentity,
    name=KEYS,
    kind=st.just("gauge"),
    unit=TEXT,
    description=TEXT,
    prometheus_type=st.sampled_from(["", "gauge", "unknown"]),
) | st.builds(
    MetricIdentity,
    name=KEYS,
    kind=st.just("sum"),
    monotonic=st.booleans(),
    unit=TEXT,
    description=TEXT,
    prometheus_type=st.sampled_from(["", "counter", "info"]),
)


class Made(NamedTuple):
    """A point to encode: which of the groups it is of, and what it says."""

    group: int
    attributes: Pairs
    time_ms: int
    bits: int
    stale: bool


class World(NamedTuple):
    """Metrics of scopes of resources, each told by the number of its parent, and their points."""

    resources: list[Pairs]
    scopes: list[tuple[int, tuple[str, str]]]
    metrics: list[tuple[int, MetricIdentity]]
    points: list[Made]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Up to three of each, interned as the translator does: no two alike under one parent."""
    resources = draw(st.lists(ATTRIBUTES, min_size=1, max_size=3, unique=True))
    scopes = draw(
        st.lists(
            st.tuples(st.integers(0, len(resources) - 1), st.tuples(KEYS, TEXT)),
            min_size=1,
            max_size=3,
            unique=True,
        )
    )
    metrics = draw(
        st.lists(
            st.tuples(st.integers(0, len(scopes) - 1), IDENTITIES),
            min_size=1,
            max_size=3,
            unique=True,
        )
    )
    point = st.builds(
        Made,
        st.integers(0, len(metrics) - 1),
        ATTRIBUTES,
        st.integers(1, TIME_MS_MAX),
        st.integers(0, 2**64 - 1),
        st.booleans(),
    )
    return World(resources, scopes, metrics, draw(st.lists(point, max_size=8)))


def groups_of(world: World) -> list[MetricGroup]:
    """The world's metrics as groups."""
    resources = [ResourceGroup(attributes) for attributes in world.resources]
    scopes = [ScopeGroup(resources[parent], *scope) for parent, scope in world.scopes]
    return [MetricGroup(scopes[parent], identity) for parent, identity in world.metrics]


def expected_of(world: World, point: Made) -> Point:
    """What the official classes must say of a point."""
    scope, identity = world.metrics[point.group]
    resource, scope_name = world.scopes[scope]
    return Point(
        world.resources[resource],
        scope_name,
        identity.name,
        Identity(
            identity.kind,
            identity.monotonic,
            identity.unit,
            identity.description,
            identity.prometheus_type,
        ),
        point.attributes,
        point.time_ms * 1_000_000,
        point.bits,
        NO_RECORDED_VALUE if point.stale else 0,
    )


def arena_of(world: World, groups: Sequence[MetricGroup], empty: int = -1) -> PointBuffer:
    """The points in their order, with a run for those in a row of one group; ``empty`` is before
    which of these there is a run of no points."""
    point_buffer = PointBuffer()
    by_group = itertools.groupby(world.points, key=lambda point: point.group)
    for number, (group, points) in enumerate(by_group):
        if number == empty:
            point_buffer.close_run(groups[group])
        for point in points:
            prefix = point_prefix(point.attributes)
            stamp = encode_time(point.time_ms)
            assert stamp is not None
            value = point.bits.to_bytes(8, "little")
            point_buffer.add(stale_prefix(prefix) if point.stale else prefix, stamp, value)
        point_buffer.close_run(groups[group])
    return point_buffer


def in_parts() -> World:
    """Two resources, the first of which is large and so written in parts."""
    metrics = [
        (scope, MetricIdentity(f"{scope}", "gauge", description=f"{number}" * 16_000))
        for scope in range(2)
        for number in range(2)
    ]
    points = [Made(group, (), 1, group, False) for group in (0, 2, 3, 1, 0)]
    return World([(("a", "1"),), (("a", "2"),)], [(0, ("s", "")), (1, ("s", ""))], metrics, points)


@given(worlds())
@example(in_parts())
def test_any_points_are_read_back(world: World) -> None:
    if not world.points:
        return
    body = arena_of(world, groups_of(world)).encode()
    assert_same([(expected_of(world, point),) for point in world.points], decode(body))


@given(worlds(), st.integers(0, 8))
def test_an_empty_run_changes_no_byte(world: World, at: int) -> None:
    groups = groups_of(world)
    assert arena_of(world, groups, empty=at).encode() == arena_of(world, groups).encode()


@given(worlds(), worlds())
def test_what_is_cut_off_was_never_there(kept: World, cut: World) -> None:
    point_buffer = arena_of(kept, groups_of(kept))
    mark = (
        point_buffer.count,
        point_buffer.size,
        point_buffer.closed_runs(),
        point_buffer.closed_rest(),
    )
    before = point_buffer.encode()
    other = arena_of(cut, groups_of(cut))
    groups = groups_of(cut)
    for point in cut.points:
        point_buffer.add_finished(other.encode())
        point_buffer.close_run(groups[point.group])
    assert point_buffer.count == mark[0] + len(cut.points)
    point_buffer.cut(*mark)
    assert (
        point_buffer.count,
        point_buffer.size,
        point_buffer.closed_runs(),
        point_buffer.closed_rest(),
    ) == mark
    assert point_buffer.encode() == before


@given(ATTRIBUTES)
@example((("k", "v" * 74),))
@example((("k", "v" * 75),))
@example((("k", "v" * 76),))
def test_the_stale_prefix_is_the_prefix_and_a_flag(attributes: Pairs) -> None:
    """Around the sizes where the point's length takes another byte, too."""
    identity = MetricIdentity("m", "gauge")
    group = MetricGroup(ScopeGroup(ResourceGroup(()), "s"), identity)
    seen = []
    for prefix in (point_prefix(attributes), stale_prefix(point_prefix(attributes))):
        point_buffer = PointBuffer()
        point_buffer.add(prefix, encode_time(7) or b"", bytes(8))
        point_buffer.close_run(group)
        seen += decode(point_buffer.encode())
    fresh, stale = seen
    assert stale == fresh._replace(flags=NO_RECORDED_VALUE)
    assert fresh.flags == 0


def test_runs_must_tile_the_arena() -> None:
    group = MetricGroup(ScopeGroup(ResourceGroup(()), "s"), MetricIdentity("m", "gauge"))
    point_buffer = PointBuffer()
    point_buffer.close_run(group)
    point_buffer.add_finished(b"xy")
    with pytest.raises(AssertionError, match="tile"):
        point_buffer.encode()


@pytest.mark.parametrize(
    ("time_ms", "ok"),
    [(1, True), (TIME_MS_MAX, True), (0, False), (-1, False), (TIME_MS_MAX + 1, False)],
)
def test_only_times_that_otlp_can_express(time_ms: int, ok: bool) -> None:
    stamp = encode_time(time_ms)
    assert (stamp is not None) == ok
    assert stamp is None or stamp == (time_ms * 1_000_000).to_bytes(8, "little") + b"\x21"


def test_an_empty_batch_seals_to_nothing() -> None:
    batch = OpenBatch("owner", limit=3, shard=2)
    assert batch.seal() is None
    assert batch.generation == 0
    assert repr(batch) == "<OpenBatch 'owner'/2 0/3 points>"


def test_a_batch_needs_room_for_a_point() -> None:
    with pytest.raises(AssertionError):
        OpenBatch("owner", limit=0)
