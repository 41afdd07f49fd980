"""The answer of a running relay: in turns, bounded, ended."""

from __future__ import annotations

import pytest

from relay.control import explain
from relay.control.explain import Explainer, ExplainQuery, answer
from relay.control.time_slicing import Turns
from relay.pipeline.routing.router import Router
from relay.runtime.errors import ConfigError
from tests.own_time import patience


class Lines(Explainer):
    """Says so many lines of everything."""

    def __init__(self, count: int) -> None:
        super().__init__(Router(), {})
        self.count = count

    def series(self, *_: object, **__: object):  # type: ignore[no-untyped-def]
        """The lines."""
        return iter(f"line {n}" for n in range(self.count))


@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 400, 1_000])
async def test_every_line_is_given(count: int) -> None:
    async with patience(10):
        lines = await answer(ExplainQuery("up"), Lines(count), Turns())
    assert lines == [f"line {n}" for n in range(count)]


async def test_a_long_answer_ends_with_a_word_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "ANSWER_CHARS_MAX", 100)
    lines = await answer(ExplainQuery("up"), Lines(1_000), Turns())
    assert len(lines) < 20
    assert lines[-1] == "… and more: ask for one exporter"


@pytest.mark.parametrize("question", [ExplainQuery("up{"), ExplainQuery("up", exporter="nobody")])
async def test_what_cannot_be_answered(question: ExplainQuery) -> None:
    with pytest.raises(ConfigError):
        await answer(question, Lines(1), Turns())
