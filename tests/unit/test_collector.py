"""The collector's pace: young ones often, everything rarely."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from relay import collector


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [1_000.0]
    before = gc.get_threshold()
    monkeypatch.setattr(collector.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(collector, "_full_at", 0.0)
    yield now
    gc.set_threshold(*before)
    gc.callbacks.remove(collector._pace)
    gc.unfreeze()


def test_full_collections_are_well_apart(clock: list[float]) -> None:
    if collector._pace in gc.callbacks:
        gc.callbacks.remove(collector._pace)
    collector.settle()
    collector.settle()
    assert gc.callbacks.count(collector._pace) == 1
    assert gc.get_threshold() == (collector.YOUNG_MAX, collector.YOUNG_LOOKS, collector._NEVER)
    clock[0] += collector.FULL_INTERVAL_S - 1
    gc.collect(1)
    assert gc.get_threshold()[2] == collector._NEVER
    clock[0] += 1
    gc.collect(0)
    assert gc.get_threshold()[2] == collector._NEVER, "too cheap to ask for the time"
    gc.collect(1)
    assert gc.get_threshold()[2] == collector._FULL_LOOKS
    gc.collect()
    assert gc.get_threshold()[2] == collector._NEVER
