"""Interned values: kept while anything refers to them, forgotten when only the table does."""

from __future__ import annotations

from relay.codec.otlp.groups import ResourceGroup
from relay.pipeline.metrics.translate.interned import LOOKS_MAX, Interned


def group(number: int) -> ResourceGroup:
    return ResourceGroup([("service.name", f"service-{number}")])


def test_up_to_the_limit_all_are_kept() -> None:
    interned = Interned[int, ResourceGroup](3)
    for number in range(3):
        assert interned.add(number, group(number)) is interned.by_key[number]
    assert list(interned.by_key) == [0, 1, 2]
    assert repr(interned) == "<Interned 3>"


def test_beyond_it_only_those_in_use_are_kept() -> None:
    interned = Interned[int, ResourceGroup](1)
    used = [interned.add(number, group(number)) for number in range(2 * LOOKS_MAX)]
    assert list(interned.by_key.values()) == used
    kept = used[::2]
    del used
    # Each new one looks at some of the others; what is looked at and in use goes behind them.
    fresh = [interned.add(number, group(number)) for number in range(100, 104)]
    assert set(interned.by_key.values()) == {*kept, *fresh}
    assert interned.by_key[0] is kept[0]
