"""A mapping in order of insertion, in one part or many."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.pipeline.metrics.metadata import ordered_parts
from relay.pipeline.metrics.metadata.ordered_parts import OrderedParts

NAMES = st.integers(0, 40).map(str)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "pop", "pop_first"]), NAMES), max_size=120)


@given(STEPS)
def test_it_is_an_ordered_dict_that_divides_itself(steps: list[tuple[str, str]]) -> None:
    model: OrderedDict[str, int] = OrderedDict()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered_parts, "SPLIT_AT", 5)
        parts: OrderedParts[int] = OrderedParts()
        for value, (step, name) in enumerate(steps):
            if step == "add":
                model.setdefault(name, value)
                parts.add(name, value)
            else:
                gone = name if step == "pop" else next(iter(model), name)
                model.pop(gone, None)
                parts.pop(gone)
            assert parts.first() == next(iter(model), None)
            assert len(parts) == len(model)
            assert (name in parts) is (name in model)
            assert parts.get(name) == model.get(name)
    assert parts.items() == list(model.items())


def test_many_names_are_in_many_parts() -> None:
    parts: OrderedParts[None] = OrderedParts()
    for number in range(ordered_parts.SPLIT_AT + 2):
        parts.add(str(number), None)
    assert len(parts) == ordered_parts.SPLIT_AT + 2
    assert parts.first() == "0"
    assert f"{len(parts)} names" in repr(parts)
