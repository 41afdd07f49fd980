"""The series table: what stays, what goes, and what that costs those who use it well."""

from __future__ import annotations

from itertools import pairwise

import pytest

from relay.pipeline.engine import Limits
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.metrics.series.series_table import EPOCHS, SeriesTable
from relay.pipeline.routing.tenancy import ANYWHERE, IngestPath
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write import raw

T = raw.T0_MS
UP, DOWN = [(b"__name__", b"up")], [(b"__name__", b"down")]


def key_of(number: int) -> bytes:
    return b"%d" % number


def see(table: SeriesTable, key: bytes) -> bool:
    """What the engine does for a sample that its link did not find; whether it was known."""
    series = table.find(key)
    if series is None:
        table.add(Series(key))
        return False
    series.generation = table.generation
    return True


def keys(table: SeriesTable) -> set[bytes]:
    return {series.key for _, part in table.parts() for series in part()}


def test_newcomers_turn_out_newcomers_oldest_first() -> None:
    table = SeriesTable(series_max=10)
    for number in range(10):
        see(table, key_of(number))
    for number in (3, 5):
        assert see(table, key_of(number))
    for number in range(10, 18):
        see(table, key_of(number))
    assert keys(table) == {key_of(n) for n in (3, 5, *range(10, 18))}
    statistics = table.statistics()
    assert (statistics.active, statistics.probationary, statistics.created) == (10, 8, 18)
    assert (statistics.forgotten_full, statistics.forgotten_idle) == (8, 0)


def test_known_series_survive_any_flood_of_new_ones() -> None:
    """Also one that lasts for many times the table's size between two of their samples."""
    table = SeriesTable(series_max=1_000)
    regulars = [b"r%d" % n for n in range(900)]
    for _ in range(2):
        for key in regulars:
            see(table, key)
    flood = 0
    for _ in range(3):
        for _ in range(5_000):
            flood += 1
            assert not see(table, b"f%d" % flood)
            assert table.statistics().active <= 1_000
        assert all(see(table, key) for key in regulars)


def test_where_known_series_fill_the_table_new_ones_still_become_known() -> None:
    table = SeriesTable(series_max=100)
    for _ in range(2):
        for number in range(100):
            see(table, key_of(number))
    for number in range(200, 205):
        assert not see(table, key_of(number))
        assert see(table, key_of(number))
    assert table.statistics().active == 100


def test_of_known_series_those_not_seen_lately_go_first() -> None:
    table = SeriesTable(series_max=8)
    for _ in range(2):
        for number in range(8):
            see(table, key_of(number))
    table.invalidate()
    for number in range(0, 8, 2):
        see(table, key_of(number))
    for number in range(100, 103):
        see(table, key_of(number))
        see(table, key_of(number))
    assert keys(table) >= {key_of(n) for n in range(0, 8, 2)}


def run_idle(table: SeriesTable, seconds: float, *, regulars: list[bytes], start: float) -> None:
    """Let time pass in steps of a tenth of an epoch; ``regulars`` are seen in each."""
    steps = round(seconds / 10)
    for step in range(steps):
        table.evict_idle(start + step * 10)
        for key in regulars:
            assert see(table, key)


def test_what_is_idle_for_long_is_forgotten_and_nothing_else() -> None:
    table = SeriesTable(series_max=10_000, idle_s=EPOCHS * 100)
    table.evict_idle(0)
    for _ in range(2):
        for number in range(2_000):
            see(table, key_of(number))
    for number in range(2_000, 2_500):  # seen once only
        see(table, key_of(number))
    regulars = [key_of(number) for number in range(0, 2_000, 100)]
    run_idle(table, EPOCHS * 100 - 100, regulars=regulars, start=10)
    assert table.statistics().active == 2_500, "not idle for long enough"
    run_idle(table, 1_000, regulars=regulars, start=EPOCHS * 100)
    assert keys(table) == set(regulars)
    assert table.statistics().forgotten_idle == 2_500 - len(regulars)


def test_a_long_silence_is_swept_in_small_steps() -> None:
    table = SeriesTable(series_max=10_000, idle_s=EPOCHS * 10)
    for _ in range(2):
        for number in range(5_000):
            see(table, key_of(number))
    table.evict_idle(1)
    active = [table.statistics().active]
    for step in range(200):
        table.evict_idle(1_000 + step * 10)
        active.append(table.statistics().active)
    assert active[-1] == 0
    assert max(a - b for a, b in pairwise(active)) <= 2_000


def test_two_origins_are_two_series_and_one_budget() -> None:
    table = SeriesTable(series_max=4)
    acme, zeta = IngestPath("acme"), IngestPath("zeta")
    for origin in (acme, zeta):
        table.select_scope(origin)
        assert table.find(b"a") is None
        series = Series(b"a")
        table.add(series)
        table.first_in_request.predicted_next = series
    assert table.statistics().active == 2
    table.select_scope(acme)
    first, root = table.find(b"a"), table.first_in_request
    table.select_scope(zeta)
    assert table.find(b"a") is not first
    assert table.first_in_request is not root
    table.select_scope(ANYWHERE)
    assert table.find(b"a") is None
    for number in range(10):
        see(table, key_of(number))
    assert table.statistics().active == 4


def test_a_forgotten_series_holds_nothing_and_matches_nothing() -> None:
    rig = Rig(Limits(series_max=1))
    rig.export(RigSink("s", limit=100))
    rig.feed(raw.series(UP, (1.0, T)))
    gone = rig.engine.table.first_in_request.predicted_next
    assert gone is not None
    rig.feed(raw.series(DOWN, (1.0, T)))
    assert (gone.routes, gone.predicted_next, gone.generation) == ((), None, -1)
    assert not raw.series(UP, (1.0, T)).startswith(gone.key, 2)
    rig.feed(raw.series(UP, (1.0, T)))
    assert rig.engine.statistics().table.created == 3


def test_a_series_in_use_is_kept_though_its_link_alone_finds_it() -> None:
    """New series come and go; those that come with every request are resolved only once."""
    rig = Rig(Limits(series_max=8))
    rig.export(RigSink("s", limit=1000))
    steady = raw.series(UP, (1.0, T)) + raw.series(DOWN, (1.0, T))
    for n in range(40):
        rig.feed(steady + raw.series([*UP, (b"n", b"%d" % n)], (1.0, T)))
    statistics = rig.engine.statistics().table
    assert statistics.forgotten_full > 30
    assert statistics.created == 2 + 40


def test_a_forgotten_series_is_never_used_by_its_link() -> None:
    """More series than fit, over and over: each pass forgets and finds them anew."""
    rig = Rig(Limits(series_max=2))
    sink = rig.export(RigSink("s", limit=1000))
    body = b"".join(raw.series([*UP, (b"n", b"%d" % n)], (1.0, T)) for n in range(7))
    for _ in range(3):
        rig.feed(body)
        rig.engine.table.invalidate()
    assert sink.held == 21
    statistics = rig.engine.statistics().table
    assert statistics.active <= 2
    assert statistics.forgotten_full > 10


def test_forgotten_series_are_not_kept_alive_behind_a_link() -> None:
    """Faulty series turn the table over while the last good one waits for its successor."""
    rig = Rig(Limits(series_max=4))
    parts = []
    for n in range(50):
        parts.append(raw.series([*UP, (b"n", b"%d" % n)], (1.0, T)))
        parts += [raw.series([(b"nameless", b"%d.%d" % (n, f))], (1.0, T)) for f in range(5)]
    rig.feed(b"".join(parts))
    table = rig.engine.table
    assert table.statistics().active <= 4
    chain = 0
    series = table.first_in_request.predicted_next
    while series is not None and chain < 100:
        chain, series = chain + 1, series.predicted_next
    assert chain <= 4


def see_in(table: SeriesTable, share: str, key: bytes) -> bool:
    """As :func:`see`, of a series in the share of a project; whether it was known."""
    series = table.find(key)
    if series is None:
        table.add(Series(key), share)
        return False
    series.generation = table.generation
    return True


@pytest.mark.parametrize("times", [1, 2, 3], ids=["once", "twice", "thrice"])
def test_no_flood_of_a_project_turns_out_what_another_one_has(times: int) -> None:
    """However often the flood sends each of its series: those that it sends again are known, too,
    and as young as those of the other one."""
    table = SeriesTable(series_max=1_000)
    quiet = [b"q%d" % n for n in range(400)]
    for _ in range(2):
        for key in quiet:
            see_in(table, "quiet", key)
    fresh = [b"new%d" % n for n in range(40)]
    for key in fresh:
        see_in(table, "quiet", key)  # probationary, seen once only
    table.invalidate()
    for number in range(10_000):
        for _ in range(times):
            see_in(table, "flood", b"f%d" % number)
        assert table.statistics().active <= 1_000
    assert all(see_in(table, "quiet", key) for key in (*quiet, *fresh))
    assert table.statistics().active == 1_000


def test_a_project_that_comes_late_gets_its_even_share_of_a_full_table() -> None:
    table = SeriesTable(series_max=300)
    for share in ("a", "b"):
        for _ in range(2):
            for number in range(150):
                see_in(table, share, b"%s%d" % (share.encode(), number))
    late = [b"c%d" % number for number in range(100)]
    for start in range(0, 100, 5):
        for _ in range(2):
            for key in late[start : start + 5]:
                see_in(table, "late", key)
    assert all(see_in(table, "late", key) for key in late)
    kept = [sum(series.key[:1] == share for series in table.kept()) for share in (b"a", b"b")]
    assert kept == [100, 100]


def test_more_projects_than_places() -> None:
    table = SeriesTable(series_max=3)
    for number in range(20):
        see_in(table, f"project-{number}", key_of(number))
        assert table.statistics().active <= 3
    assert see_in(table, "project-19", key_of(19))


def test_shares_without_series_are_forgotten_and_many_are_swept() -> None:
    table = SeriesTable(series_max=1_000, idle_s=EPOCHS * 100)
    table.evict_idle(1)
    for number in range(300):
        for _ in range(2):
            see_in(table, f"project-{number}", key_of(number))
    regular = key_of(7)
    run_idle(table, EPOCHS * 100 + 1_000, regulars=[regular], start=11)
    assert keys(table) == {regular}
    assert repr(table) == "<SeriesTable 1 known series, 0 new>"
    assert [series.key for series in table.kept()] == [regular]
