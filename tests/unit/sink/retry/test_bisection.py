"""How far a refused batch is halved."""

from __future__ import annotations

from relay.sink.retry.bisection import REQUESTS_MAX, REST_S, STREAK_MAX, Bisector


def test_a_single_point_is_not_searched() -> None:
    bisector = Bisector()
    assert bisector.search(None, 1, 0.0) is None
    assert (bisector.batches, bisector.unsearched) == (0, 0)


def test_a_batch_has_a_budget_of_its_own() -> None:
    bisector = Bisector()
    search = bisector.search(None, 100, 0.0)
    assert search is not None
    halvings = 1
    while bisector.search(search, 2, 0.0) is search:
        halvings += 1
    assert halvings == REQUESTS_MAX // 2
    assert bisector.unsearched == 1
    other = bisector.search(None, 100, 0.0)
    assert other is not None
    assert other is not search
    assert bisector.batches == 2


def test_a_sink_rests_after_many_bad_batches() -> None:
    bisector = Bisector()
    for _ in range(STREAK_MAX):
        assert bisector.search(None, 100, 10.0) is not None
    assert bisector.search(None, 100, 10.0 + REST_S / 2) is None
    assert bisector.unsearched == 1
    assert bisector.search(None, 100, 10.0 + REST_S) is not None


def test_a_piece_is_searched_while_the_sink_rests() -> None:
    bisector = Bisector()
    searches = [bisector.search(None, 100, 0.0) for _ in range(STREAK_MAX)]
    assert bisector.search(searches[-1], 50, 1.0) is searches[-1]


def test_a_good_batch_ends_the_streak() -> None:
    bisector = Bisector()
    for _ in range(5 * STREAK_MAX):
        assert bisector.search(None, 100, 0.0) is not None
        assert not bisector.delivered(None, 100)
    piece = bisector.search(None, 100, 0.0)
    for _ in range(STREAK_MAX - 1):
        bisector.search(None, 100, 0.0)
        bisector.delivered(piece, 1)
    assert bisector.search(None, 100, 0.0) is None, "pieces do not end it"


def test_batches_that_are_mostly_good_never_rest() -> None:
    bisector = Bisector()
    for _ in range(5 * STREAK_MAX):
        search = bisector.search(None, 100, 0.0)
        assert search is not None
        bisector.delivered(search, 50)
        bisector.delivered(search, 1)
    assert not bisector.unsearched


def test_batches_of_several_shards_that_turn_out_good_end_the_rest() -> None:
    bisector = Bisector()
    searches = [bisector.search(None, 100, 0.0) for _ in range(STREAK_MAX)]
    bisector.delivered(searches[0], 50)
    assert bisector.search(None, 100, 0.0) is None
    bisector.delivered(searches[0], 1)
    assert bisector.search(None, 100, 0.0) is not None


def test_what_became_of_others_is_told() -> None:
    bisector = Bisector()
    search = bisector.search(None, 3, 0.0)
    assert not bisector.rejected(search, 1)
    assert bisector.delivered(search, 1)
    assert bisector.rejected(search, 1)
    assert not bisector.rejected(None, 1)
