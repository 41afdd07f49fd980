"""However a request is made, the engine pauses often, and a pause may end the request."""

from __future__ import annotations

import contextlib
import gc
import os
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codec.remote_write.v1 import WriteProtocol
from relay.pipeline.limits import Limits
from relay.pipeline.pacing import Pace
from relay.runtime.errors import OverloadedError, WireError
from relay.selector.metricsql.parser import parse_selector
from tests.kit.engine_rig import NUMBERS, Rig, RigSink
from tests.kit.examples import examples
from tests.kit.remote_write.hostile_bodies import (
    NOW_MS,
    ONE,
    REFS,
    SHAPES,
    SYMBOLS,
    V1,
    field,
    labels,
    metadata,
    native,
    new_series,
    number,
    sample,
    series2,
    span,
    version2,
)
from tests.own_time import PauseWatch, without_collections

GAP_S_MAX = 0.25 if os.environ.get("CI") == "true" else 0.05


@pytest.fixture(scope="module", autouse=True)
def _heap_of_other_tests() -> Iterator[None]:
    """Leave what other tests hold out of collections, which take a second with it."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class EndedError(Exception):
    """A request that is not waited for any more."""


class Ending(Pace):
    """Raises at the n-th pause, until the request is final."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def pause(self) -> None:
        self.left -= 1
        if self.left <= 0 and not self.final:
            raise EndedError


def expensive_rig() -> Rig:
    """An engine with a sink that takes everything and one that asks many regular expressions."""
    made = Rig(Limits(series_max=100_000))
    made.export(RigSink("all", limit=10_000))
    asked = {f"s{n}": parse_selector(f'{{__name__=~".*(a?b?){{{n + 100}}}c"}}') for n in range(20)}
    made.export(RigSink("some", limit=10_000), exporter="y", sources=asked)
    return made


def longest_gap(body: bytes, protocol: WriteProtocol) -> float:
    """The longest stretch without a pause while a body is taken in, in s."""
    engine = expensive_rig().engine
    gc.collect()
    with without_collections():
        pace = PauseWatch()
        with contextlib.suppress(WireError, OverloadedError):
            engine.ingest(body, now=NOW_MS / 1000, tick=0.0, protocol=protocol, pace=pace)
        pace.pause()
    return pace.longest_s


def assert_pauses(body: bytes, protocol: WriteProtocol, what: str) -> None:
    """Fail where every attempt has a stretch that is too long."""
    gaps = []
    for _ in range(3):
        gaps.append(longest_gap(body, protocol))
        if gaps[-1] <= GAP_S_MAX:
            return
    raise AssertionError(f"{what}: {min(gaps) * 1000:.0f} ms without a pause")


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_known_shapes(name: str) -> None:
    shape = SHAPES[name]
    protocol: WriteProtocol = "remote_write_v1" if shape.content_type == V1 else "remote_write_v2"
    assert_pauses(shape.make(), protocol, name)


COUNTS = st.sampled_from([0, 1, 2, 30, 129, 1_000, 60_000])
PIECES = st.sampled_from(
    [
        b"\x0a\x00",
        b"\x38\x00",
        sample(),
        sample(2.0, NOW_MS - 1),
        number(2, 1 << 63),
        field(1, b""),
        field(1, field(1, b"a") + field(2, b"b")),
        field(3, b""),
        field(3, field(1, b"")),
        span(0, 0),
        span(300, 1),
        field(12, b"\x02"),
        field(16, bytes(8)),
        native(b""),
        native(span(0, 1) + span(300, 1) + field(12, b"\x02\x02")),
        metadata("f"),
        b"\x0b",
        b"\xff",
    ]
)
RUNS = st.lists(st.tuples(PIECES, COUNTS), min_size=1, max_size=3).map(
    lambda runs: b"".join(piece * count for piece, count in runs)
)
HEADS = st.sampled_from([b"", ONE, labels(__name__="h_bucket", le="1"), labels(nameless="x")])


@st.composite
def bodies_v1(draw: st.DrawFn) -> bytes:
    """Long runs of anything at any depth, of at most some megabytes."""
    inner = draw(HEADS) + draw(RUNS)
    if draw(st.booleans()):
        inner = draw(HEADS) + field(draw(st.sampled_from([1, 2, 3, 4])), inner)
    one = field(draw(st.sampled_from([1, 1, 1, 3])), inner)
    body = one * min(draw(COUNTS), (4 << 20) // (len(one) + 1) + 1)
    return body + draw(st.sampled_from([b"", b"\x0a\x7f", new_series(300, mark="x")]))


@st.composite
def bodies_v2(draw: st.DrawFn) -> bytes:
    """The same for version 2.0."""
    refs = draw(st.sampled_from([REFS, [], [1], [1, 2] * 100, [9, 9], [3, 4] * 2_000]))
    inner = draw(RUNS)
    if draw(st.booleans()):
        inner = field(draw(st.sampled_from([2, 3, 4, 5])), inner)
    one = draw(st.sampled_from([series2(refs, inner), field(5, inner)]))
    body = one * min(draw(COUNTS), (4 << 20) // (len(one) + 1) + 1)
    return version2(SYMBOLS + [b""] * draw(COUNTS), body)


SLOW = examples(40)


@SLOW
@given(bodies_v1())
def test_any_shape(body: bytes) -> None:
    assert_pauses(body, "remote_write_v1", f"{len(body)} bytes that begin with {body[:60]!r}")


@SLOW
@given(bodies_v2())
def test_any_shape_of_version_2(body: bytes) -> None:
    assert_pauses(body, "remote_write_v2", f"{len(body)} bytes that begin with {body[:60]!r}")


MIXED = (
    new_series(40, mark="y")
    + field(1, ONE + sample(1.0) + sample(2.0, NOW_MS - 5))
    + field(1, ONE + native(span(0, 2) + field(12, b"\x02\x02")))
    + field(1, labels(__name__="lat_bucket", le="1") + sample(3.0))
    + field(1, ONE + sample(4.0)) * 2_000
)


@given(st.integers(1, 40))
def test_a_request_that_ends_at_any_pause_leaves_no_trace(after: int) -> None:
    ended, plain = Rig(), Rig()
    sinks = [one.export(RigSink("s", limit=700, options=NUMBERS)) for one in (ended, plain)]
    known = field(1, ONE + sample(0.0, NOW_MS - 10))
    for one in (ended, plain):
        one.feed(known)
    before = ended.snapshot()
    try:
        ended.engine.ingest(MIXED, now=1e9, tick=0.0, pace=Ending(after))
    except EndedError:
        assert ended.snapshot() == before
    else:
        return  # it had fewer pauses
    for one in (ended, plain):
        one.feed(MIXED)
        one.flush()
    assert Counter(sinks[1].points()) == Counter(sinks[0].points())
    assert [s.count for s in sinks[0].sealed] == [s.count for s in sinks[1].sealed]
