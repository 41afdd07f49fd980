"""What open pages cost the relay: its CPU time with them, less that without."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from relay.ui.live import TICK_S
from tests.kit.apiserver.running import ADMIN, EDITOR, VIEWER
from tests.kit.processes import eventually
from tests.kit.ui.open_pages import OpenPages, open_pages
from tests.kit.ui.platform import GROUP, USERS, Platform, platform
from tests.kit.ui.quick_relay import QUICK_TICK_S

pytestmark = [pytest.mark.slow]

LIST = "/ui/projects/acme/exporters"
EXPORTERS = 50
PAGES = 100
"""Half of them show the list, the others an exporter each."""
ONE_PAGE_MAX = 0.005
"""Part of a core that a page open on all of them may cost."""
ALL_PAGES_MAX = 0.05
TICKS = 2
EVE = "token-of-acme-eve"
TOKENS = (EDITOR, VIEWER, ADMIN, EVE)


async def spent_s(found: Platform) -> float:
    """The CPU time of the relay for as long as some ticks take, s."""
    before = found.process.cpu_s()
    await asyncio.sleep(TICKS * QUICK_TICK_S)
    return found.process.cpu_s() - before


async def part_of_a_core(found: Platform, pages: OpenPages, idle_s: float, most: float) -> float:
    """What the pages cost at real ticks: the least of up to three measurements above ``most``."""
    least = 1.0
    for _ in range(3):
        pages.events = 0
        tick_s = (await spent_s(found) - idle_s) / TICKS
        pages.check()
        assert pages.events >= len(pages), "the pages do not move"
        least = min(least, tick_s / TICK_S)
        if least < most:
            break
    return least


async def delivers(found: Platform) -> bool:
    """Whether the last of the exporters is followed."""
    code, answer = await found.ask("GET", f"{GROUP}/exporters/e{EXPORTERS - 1:02}")
    return code == 200 and "lastSuccess" in json.dumps(answer)


async def test_open_pages_cost_little(tmp_path: Path) -> None:
    users = [*USERS, {"token": EVE, "user": "eve", "role": "viewer", "projects": ["acme"]}]
    async with platform(tmp_path, module="tests.kit.ui.quick_relay", users=users) as found:
        names = [f"e{number:02}" for number in range(EXPORTERS)]
        await asyncio.gather(*(found.make(name, found.good.origin) for name in names))
        await eventually("all deliver", lambda: delivers(found), timeout_s=30)
        async with open_pages(found.url, TOKENS) as pages:
            idle_s = await spent_s(found)
            await pages.open(LIST)
            one = await part_of_a_core(found, pages, idle_s, ONE_PAGE_MAX)
            assert one < ONE_PAGE_MAX, f"{100 * one:.2f} % of a core"
            await pages.open(*(f"{LIST}/default/{name}" for name in names))
            await pages.open(*[LIST] * (PAGES - len(pages)))
            every = await part_of_a_core(found, pages, idle_s, ALL_PAGES_MAX)
            assert every < ALL_PAGES_MAX, f"{100 * every:.2f} % of a core"
        assert await found.process.stop() == 0
