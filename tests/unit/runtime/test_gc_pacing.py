"""The collector's pace: young ones often, everything rarely."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

from relay.runtime import gc_pacing


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [1_000.0]
    before = gc.get_threshold()
    monkeypatch.setattr(gc_pacing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(gc_pacing, "_full_at", 0.0)
    yield now
    gc.set_threshold(*before)
    gc.callbacks.remove(gc_pacing._pace)
    gc.unfreeze()


def test_full_collections_are_well_apart(clock: list[float]) -> None:
    if gc_pacing._pace in gc.callbacks:
        gc.callbacks.remove(gc_pacing._pace)
    gc_pacing.configure_gc()
    gc_pacing.configure_gc()
    assert gc.callbacks.count(gc_pacing._pace) == 1
    assert gc.get_threshold() == (
        gc_pacing.GEN0_CONTAINERS_MAX,
        gc_pacing.GEN0_PER_GEN1,
        gc_pacing._NEVER,
    )
    clock[0] += gc_pacing.FULL_INTERVAL_S - 1
    gc.collect(1)
    assert gc.get_threshold()[2] == gc_pacing._NEVER
    clock[0] += 1
    gc.collect(0)
    assert gc.get_threshold()[2] == gc_pacing._NEVER, "too cheap to ask for the time"
    gc.collect(1)
    assert gc.get_threshold()[2] == gc_pacing._GEN1_PER_GEN2
    gc.collect()
    assert gc.get_threshold()[2] == gc_pacing._NEVER


def test_what_is_kept_is_looked_at_before_and_not_after(clock: list[float]) -> None:
    gc_pacing.configure_gc()
    circle: list[object] = []
    circle.append(Circle(circle))
    gone = weakref.ref(circle[0])
    del circle
    kept = [[] for _ in range(10_000)]
    before = gc.get_freeze_count()
    gc_pacing.freeze_survivors()
    assert gone() is None, "garbage is not kept"
    assert gc.get_freeze_count() >= before + len(kept)
    assert not any(one is kept for generation in range(3) for one in gc.get_objects(generation))


def test_what_replaces_others_is_looked_at_in_parts(clock: list[float]) -> None:
    """The collector itself counts what is made less what is dropped, which is nothing here."""
    gc_pacing.configure_gc()

    def young_after(replace: Callable[[list[object]], None]) -> int:
        things: list[object] = [[] for _ in range(100_000)]
        gc_pacing.freeze_survivors()
        replace(things)
        return len(gc.get_objects(0)) + len(gc.get_objects(1))

    def at_once(things: list[object]) -> None:
        for number in range(len(things)):
            things[number] = []

    def in_parts(things: list[object]) -> None:
        for number in range(len(things)):
            things[number] = []
            if not number % 1_000:
                gc_pacing.collect_young()

    assert young_after(at_once) > 90_000
    assert young_after(in_parts) < 10_000


class Circle:
    def __init__(self, other: object) -> None:
        self.other = other
