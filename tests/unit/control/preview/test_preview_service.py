"""Previews wait for each other, and no project keeps the others from theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from bench.micro.preview import exporter
from relay.control.preview.preview import PreviewEvent
from relay.control.preview.result import PreviewResult
from relay.control.preview.service import MEASURING_MAX, PreviewService
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


async def measuring(service: PreviewService, project: str) -> AsyncIterator[PreviewEvent]:
    """Return the events of a preview that measures now."""
    events = await service.open_of(replace(exporter("{}"), project=project), None, measure_s=30)
    while not isinstance(await anext(events), PreviewResult):
        pass
    await anext(events)
    return events


async def rates_of(service: PreviewService, project: str, measure_s: float) -> list[float | None]:
    one = replace(exporter("{}"), project=project)
    events = await service.open_of(one, None, measure_s=measure_s)
    found = [event async for event in events][-1]
    assert isinstance(found, PreviewResult)
    return [found.total.samples_per_minute]


async def test_one_of_a_project_measures_beside_others() -> None:
    rig = Rig(tenancy=Tenancy("tenant"))
    for tenant in ("acme", "globex"):
        rig.feed(raw.text_series({"__name__": "up", "tenant": tenant}, (1.0, 10**12)))
    service = service_of(rig)
    first = await measuring(service, "acme")
    assert await rates_of(service, "acme", 0.05) == [None]
    assert await rates_of(service, "globex", 0.05) == [0.0]
    await first.aclose()  # type: ignore[attr-defined]
    assert await rates_of(service, "acme", 0.05) == [0.0]
    assert repr(service) == "<PreviewService 0 under way>"
    assert service._watch.__repr__() == "<ArrivalWatch of 0 series>"


async def test_without_tenancy_some_measure_at_the_same_time() -> None:
    rig = Rig()
    rig.feed(raw.text_series({"__name__": "up"}, (1.0, 10**12)))
    service = service_of(rig)
    begun = [await measuring(service, "") for _ in range(MEASURING_MAX)]
    assert await rates_of(service, "", 0.05) == [None]
    await begun.pop().aclose()  # type: ignore[attr-defined]
    assert await rates_of(service, "", 0.05) == [0.0]
    for events in begun:
        await events.aclose()  # type: ignore[attr-defined]
