"""Previews wait for each other, and no project keeps the others from theirs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from bench.micro.preview import exporter
from relay.control.preview.preview import PreviewEvent
from relay.control.preview.result import PreviewResult
from relay.control.preview.service import PreviewService
from relay.control.time_slicing import Turns
from relay.pipeline.routing.tenancy import Tenancy
from relay.runtime.errors import OverloadedError
from relay.selector.resources.compiler import Compiler
from tests.kit.engine_rig import Rig
from tests.kit.remote_write import raw


def service_of(rig: Rig) -> PreviewService:
    return PreviewService(rig.engine, Turns(), tuple, Compiler())


async def test_a_project_has_two_at_a_time() -> None:
    service = service_of(Rig(tenancy=Tenancy("tenant")))
    one = replace(exporter("{}"), project="acme")
    first, second, third = [await service.open_of(one, None) for _ in range(3)]
    await anext(first)
    waiting = asyncio.ensure_future(anext(second))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="2 previews of the project are under way"):
        await service.open_of(one, None)
    with pytest.raises(OverloadedError):
        await anext(third)  # it was opened before the others began
    await service.open_of(replace(one, project="globex"), None)
    assert [event async for event in first]
    assert await waiting


async def test_a_preview_that_may_not_measure_has_no_rates() -> None:
    rig = Rig()
    rig.feed(raw.text_series({"__name__": "up"}, (1.0, 10**12)))
    service = service_of(rig)
    first = await service.open_of(exporter("{}"), None, measure_s=30)
    event: PreviewEvent | None = None
    while not (isinstance(event, PreviewResult)):
        event = await anext(first)
    await anext(first)  # it measures now
    second = await service.open_of(exporter("{}"), None, measure_s=0.05)
    found = [event async for event in second][-1]
    assert isinstance(found, PreviewResult)
    assert (found.total.series, found.total.samples_per_minute) == (1, None)
    await first.aclose()  # type: ignore[attr-defined]
    assert repr(service) == "<PreviewService 0 under way>"
