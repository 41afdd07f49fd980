"""A combined source whose combination fails: nothing of what has changed is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from relay.config.exporter.load_result import LoadResult, SourceName
from relay.config.exporter.loading.combine import Combiner, OriginResources
from relay.control.reconcile.combined_source import CombinedSource
from relay.control.reconcile.resource_source import SourceResources
from relay.runtime.errors import Fault
from tests.own_time import patience

ROTATED = frozenset({("", "shop")})


class Source:
    """A source that gives one change, and then nothing more."""

    name: SourceName = "kubernetes"

    def __init__(self) -> None:
        self.news = [SourceResources(2, (), (Fault("spec", "is new"),), rotated=ROTATED)]

    async def read(self) -> SourceResources:
        return self.news.pop() if self.news else SourceResources(1, ())

    async def changes(self) -> AsyncGenerator[SourceResources, None]:
        while self.news:
            yield self.news.pop()
        await asyncio.Event().wait()


class FailingOnce(Combiner):
    """A combiner with a bug that strikes once."""

    failures = 1

    def combine(self, parts: Sequence[OriginResources], faults: Sequence[Fault]) -> LoadResult:
        if faults and self.failures:
            self.failures -= 1
            raise RuntimeError("a bug")
        return super().combine(parts, faults)


@pytest.mark.parametrize("failing_in_load", [False, True])
async def test_what_could_not_be_combined_is_tried_again(failing_in_load: bool) -> None:
    combined = CombinedSource([Source()], FailingOnce(), asyncio.Lock())
    changed = combined.load() if failing_in_load else anext(combined.changes())
    with pytest.raises(RuntimeError):
        await changed
    async with patience(5), aclosing(combined.changes()) as states:
        state = await anext(states)
    assert [one.summary for one in state.faults] == ["spec: is new"]
    assert state.rotated == ROTATED
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), aclosing(combined.changes()) as states:
            await anext(states)


async def test_loading_again_renews_all_secrets_by_itself() -> None:
    combined = CombinedSource([Source()], Combiner(), asyncio.Lock())
    assert (await combined.load()).rotated == frozenset()
