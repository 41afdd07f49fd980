"""Many known series at a time: what the interpreted build's shortcut is made of, and its edges."""

from __future__ import annotations

import struct
from collections import Counter

import pytest

from relay.hot_path import BUILD
from relay.pipeline import memo
from relay.pipeline.outline import Outline, Place
from relay.pipeline.stretches import Stretch
from relay.pipeline.unusual import TIME_HEAD, VALUE_HEAD
from relay.wire.blocks import Block, common_end
from relay.wire.fresh_bytes import fresh_bytes
from relay.wire.otlp import (
    MetricGroup,
    MetricIdentity,
    ResourceGroup,
    ScopeGroup,
    encode_time,
    point_prefix,
)
from tests.support import raw_writes as raw
from tests.support.engine_rig import Rig, RigSink

T = raw.T0_MS
TURNS = [[(b"__name__", b"up"), (b"instance", b"h%d" % n)] for n in range(2)]


def alternating(count: int) -> bytes:
    """Two series by turns, each with another time whenever it comes."""
    return b"".join(raw.series(pairs, (float(n), T + n)) for n in range(count) for pairs in TURNS)


def test_series_that_come_by_turns() -> None:
    """A series that stood in a stretch more than once could not be forgotten."""
    rig = Rig()
    sink = rig.export(RigSink("s", limit=10_000))
    one = raw.series(TURNS[0], (1.0, T)) * 30
    other = raw.series(TURNS[1], (1.0, T)) * 30
    for body in (alternating(20), alternating(20), other, one, alternating(20), one):
        rig.feed(body)
    rig.engine.table.invalidate()
    rig.feed(alternating(9))
    rig.flush()
    assert len(sink.points()) == 3 * 40 + 3 * 30 + 18


def test_what_is_kept_of_stretches_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little room for all of them: none is lost by that."""
    monkeypatch.setattr(memo, "STRETCHES_BYTES_MAX", 20_000)
    pairs = [[(b"__name__", b"m%d" % (n // 5)), (b"n", b"%d" % n)] for n in range(600)]
    rig = Rig()
    sink = rig.export(RigSink("s", limit=10_000))
    for number in range(4):
        rig.feed(b"".join(raw.series(one, (float(at), T + number)) for at, one in enumerate(pairs)))
    rig.flush()
    found = Counter((dict(point.attributes)["n"], point.time_ns) for point in sink.points())
    assert len(found) == 4 * 600
    assert set(found.values()) == {1}


def outline() -> tuple[Outline, bytes]:
    """Two sections of series, some of them without a value, and a body of just these."""
    places: list[Place] = []
    body = b""
    for at in range(8):
        pairs = [(b"__name__", b"m%d" % at), (b"job", b"j%d" % (at // 4))]
        width = 0 if at % 3 == 2 else 8
        key = raw.labels(pairs)
        series = raw.series(pairs, (float(at + 1 if width else 0), T + at // 4))
        if not width:
            series = raw.message(1, key + raw.sample(None, T + at // 4))
        assert key + (VALUE_HEAD if width else TIME_HEAD) in series
        places.append(Place(series[: series.index(key)], key, width))
        assert places[-1].size == len(series)
        body += series
    return Outline(places, [slice(0, 4), slice(4, 8)]), body


def test_streams_that_change_every_time_are_not_learnt_again_every_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To put a series into a stretch costs several times what it costs to take it singly."""
    made = 0
    keep = memo.Memo.keep

    def count(self: memo.Memo, stretch: Stretch) -> None:
        nonlocal made
        made += stretch.count
        keep(self, stretch)

    monkeypatch.setattr(memo.Memo, "keep", count)
    monkeypatch.setattr(memo, "CREDIT_MAX", memo.SERIES_PRICE * 500)
    rig = Rig()
    sink = rig.export(RigSink("s", limit=10**6))
    names = [[(b"__name__", b"m%d" % n)] for n in range(400)]
    times = range(60)
    for time in times:
        # Every fifth value is 0, and without a field, each time another one.
        values = [0.0 if (n + time) % 5 == 0 else 1.5 for n in range(400)]
        rig.feed(
            b"".join(
                raw.series(pairs, (value, T + time))
                for pairs, value in zip(names, values, strict=True)
            )
        )
    assert sink.batches[0].count == 400 * len(times)
    if BUILD == "compiled":
        assert not made, "stretches are the interpreted build's"
    else:
        assert 400 <= made <= 500 + 400 * len(times) * 2 // memo.SERIES_PRICE + 256


def test_an_outline_reads_what_it_was_made_of() -> None:
    made, body = outline()
    assert made.size == len(body)
    times = [b"\x10" + raw.varint(T), b"\x10" + raw.varint(T + 1)]
    values = tuple(b"" if at % 3 == 2 else struct.pack("<d", at + 1) for at in range(8))
    assert made.read(b"before" + body + b"behind", 6) == (values, times, True)
    assert made.read(body, 1) is None
    assert made.read(body[:-1], 0) is None


def test_of_an_outline_only_values_and_times_may_be_others() -> None:
    _, body = outline()
    values_at, times_at = set[int](), set[int]()
    for at in range(len(body)):
        if body.startswith(VALUE_HEAD, at):
            values_at.update(range(at + 3, at + 11))
            times_at.update(range(at + 11, at + 18))
        elif body.startswith(TIME_HEAD, at):
            times_at.update(range(at + 2, at + 9))
    assert len(values_at) == 6 * 8
    assert len(times_at) == 8 * 7
    for at in range(len(body)):
        made, _ = outline()
        changed = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        found = made.read(changed, 0)
        assert (found is not None) == (at in values_at | times_at), at
        if found is not None:
            assert found.shared == (at in values_at)
            assert len(found.times) == (2 if found.shared else 8)
            # Once times were others, every one is read; what is read stays the same.
            again = made.read(body, 0)
            assert again is not None
            assert len(again.times) == len(found.times)


def test_a_block_is_filled_again_and_again() -> None:
    scope = ScopeGroup(ResourceGroup(()), "s")
    groups = [MetricGroup(scope, MetricIdentity(name, "gauge")) for name in ("a", "b")]
    prefix = point_prefix([("k", "v")])
    block = Block([(3, groups[0], prefix), (1, groups[1], prefix), (0, groups[0], prefix)])
    assert block.places == [3, 0, 1]
    stamps = [encode_time(T + at) or b"" for at in range(4)]
    values = [struct.pack("<d", at) for at in range(4)]
    point = [prefix + stamp + value for stamp, value in zip(stamps, values, strict=True)]
    encoded = block.fill(None, stamps, values)
    assert [encoded[metric.first : metric.stop] for metric in block.metrics] == [
        point[3] + point[0],
        point[1],
    ]
    assert block.size == 3 * len(point[0])
    at_once = block.fill(stamps[2], stamps, values[::-1])
    first = block.metrics[0].first
    assert at_once[first : first + len(point[0])] == prefix + stamps[2] + values[0]
    assert block.fill(None, stamps, values) == encoded


def test_what_texts_end_with() -> None:
    assert common_end([b"abc"]) == b"abc"
    assert common_end([b"abc", b"bc", b"xbc"]) == b"bc"
    assert common_end([b"abc", b"abd"]) == b""
    assert common_end([b"abc", b""]) == b""


@pytest.mark.parametrize("size", [0, 1, 2, 1000])
def test_fresh_bytes_belong_to_nobody_else(size: int) -> None:
    def write(view: memoryview) -> int:
        view[:] = b"x" * size
        return size

    made = fresh_bytes(size, write)
    assert made == b"x" * size
    assert bytes(1) == b"\x00"  # what Python keeps of the shortest was not written to
    assert fresh_bytes(size, write) == made
