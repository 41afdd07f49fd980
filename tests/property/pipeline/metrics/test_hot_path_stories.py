"""Whole stories against the slow derivation: series forgotten while they are remembered elsewhere,
several origins that use the same labels, exporters that come and go between requests."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from tests.kit.engine_rig import Rig
from tests.kit.oracle.stories import ORIGINS, OWNERS, PROJECTS, Step, check_story
from tests.kit.remote_write import raw

T = raw.T0_MS
MANY = [[(b"__name__", b"m%d" % (n // 5)), (b"code", b"%d" % n)] for n in range(24)]
ACCOUNTS = [
    [],
    [(b"vm_account_id", b"1")],
    [(b"vm_account_id", b"2")],
    [(b"vm_account_id", b"3")],
]


def value_of(place: int, owner: str) -> float:
    """A value that tells whose it is."""
    return float(1000 * (["", *PROJECTS].index(owner) + 1) + place)


@st.composite
def feeds(draw: st.DrawFn, tick: float) -> Step:
    """A request of one origin: mostly the known series, in order or not, with small changes."""
    origin = draw(st.integers(0, len(ORIGINS) - 1))
    account = draw(st.sampled_from(ACCOUNTS)) if ORIGINS[origin].by_labels else []
    owner = ORIGINS[origin].project
    for _, number in account:
        owner = OWNERS.get(number, "")
    order = list(range(len(MANY)))
    if draw(st.integers(0, 2)) == 0:
        order = draw(st.permutations(order))
    first = draw(st.integers(0, 4))
    time_ms = T + int(tick * 1000)
    parts = []
    for place in order[first:]:
        value = raw.bits_of(value_of(place, owner))
        parts.append(raw.message(1, raw.labels(MANY[place] + account) + raw.sample(value, time_ms)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(parts) - 1))
        pairs = raw.labels(draw(st.sampled_from(MANY)) + account)
        new = raw.labels([(b"__name__", b"n%d" % draw(st.integers(0, 20))), *account])
        mine = raw.bits_of(value_of(0, owner))
        exemplar = raw.message(3, raw.label(b"trace_id", b"0af7") + b"\x18" + raw.varint(time_ms))
        parts[at : at + draw(st.integers(0, 1))] = draw(
            st.sampled_from(
                [
                    [],
                    [raw.message(1, new + raw.sample(mine, time_ms))],
                    [raw.message(1, pairs + exemplar)],
                    [raw.message(1, pairs + exemplar)],
                    [raw.message(1, pairs + raw.sample(raw.STALE, time_ms))],
                    [raw.message(1, pairs + raw.sample(mine, time_ms) + exemplar)],
                    [raw.message(1, raw.label(b"", b"x") + raw.sample(mine, time_ms))],
                    [raw.message(1, raw.sample(mine, time_ms))],
                    [raw.message(1, b"\x07" + raw.sample(mine, time_ms))],
                    [raw.metadata("m1", 1)],
                    [b"\x0a"],
                ]
            )
        ) or [parts[0]]
    return ["feed", tick, "remote_write_v1", origin, b"".join(parts).hex()]


@st.composite
def stories(draw: st.DrawFn) -> list[Step]:
    """Exporters of both projects come first, and others come and go."""
    limit = st.sampled_from([1, 2, 7, 100])
    wait = st.sampled_from([0.0, 5.0])
    steps: list[Step] = [["export", each, each, draw(limit), draw(wait)] for each in PROJECTS]
    others: list[str] = []
    tick = 0.0
    # Many requests that are much the same, or nothing is recognised.
    for number in range(draw(st.integers(3, 14))):
        tick += draw(st.sampled_from([0.0, 1.0, 15.0, 500.0]))
        kind = draw(st.integers(0, 9))
        if kind == 0:
            others.append(f"{draw(st.sampled_from(PROJECTS))} {number}")
            steps.append(["export", others[-1], others[-1].split()[0], draw(limit), draw(wait)])
        elif kind == 1 and others:
            steps.append(["remove", others.pop(draw(st.integers(0, len(others) - 1)))])
        elif kind == 2:
            steps.append(["due", tick])
        else:
            fed = draw(feeds(tick))
            steps += [fed] * draw(st.sampled_from([1, 1, 2, 3]))
    return steps


def body_of(*places: int, tick: float) -> bytes:
    """A sample of each of these series."""
    return b"".join(
        raw.series(MANY[place], (value_of(place, "red"), T + int(tick * 1000))) for place in places
    )


def test_a_series_that_is_forgotten_amid_others_and_comes_again() -> None:
    """It may wait for a sample that others are recognised together with."""
    exemplar = raw.label(b"trace_id", b"0af7") + b"\x18" + raw.varint(T)
    again = raw.message(1, raw.labels(MANY[6]) + raw.message(3, exemplar))
    new = [raw.series([(b"__name__", b"n%d" % n)], (1000.0, T)) for n in range(2)]
    # The series that came first is the first to be forgotten.
    bodies = [body_of(6, *range(6), *range(7, 12), tick=0.0)]
    bodies += [body_of(*range(12), tick=tick) for tick in (1.0, 2.0, 3.0, 4.0)]
    bodies += [new[0], new[0], new[1], new[1], again, again, body_of(*range(12), tick=10.0)]
    steps: list[Step] = [["export", "red", "red", 100, 5.0]]
    steps += [["feed", 0.0, "remote_write_v1", 0, body.hex()] for body in bodies]
    rig = check_story(13, steps)
    statistics = rig.engine.statistics()
    assert statistics.table.forgotten_full > 1
    assert (statistics.exemplars.sent, statistics.exemplars.waiting) == (2, 0)


SERIES_MAX = st.sampled_from([1, 5, 20, 26, 50, 200])


@given(SERIES_MAX, stories())
def test_any_story(series_max: int, steps: list[Step]) -> None:
    assert_owners(check_story(series_max, steps))


def assert_owners(rig: Rig) -> None:
    """Every point is at a sink of its owner."""
    for sink in rig.sinks:
        project = sink.name.split()[0]
        for point in sink.points():
            if point.value_bits != raw.STALE:
                (value,) = struct.unpack("<d", point.value_bits.to_bytes(8, "little"))
                assert value_of(0, project) <= value < value_of(1000, project)


TURNS = [[(b"__name__", b"up"), (b"instance", b"h%d" % n)] for n in range(2)]


def alternating(count: int) -> bytes:
    """Two series by turns, each with another time whenever it comes."""
    return b"".join(raw.series(pairs, (float(n), T + n)) for n in range(count) for pairs in TURNS)


def test_series_that_come_by_turns() -> None:
    one = raw.series(TURNS[0], (1.0, T)) * 30
    other = raw.series(TURNS[1], (1.0, T)) * 30
    bodies = [alternating(20), alternating(20), other, one, alternating(20), one, alternating(9)]
    steps: list[Step] = [["export", "red", "red", 10_000, 5.0]]
    steps += [["feed", 0.0, "remote_write_v1", 0, body.hex()] for body in bodies]
    rig = check_story(1_000, steps)
    assert len(rig.sinks[0].points()) == 3 * 40 + 3 * 30 + 18
