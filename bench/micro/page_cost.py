"""Measure what open pages cost a whole relay: ``python -m bench.micro.page_cost [EXPORTERS]``.

A relay with senders, without pages, and with one and a hundred that are open, on the list and on
an exporter each. The browsers are connections of this process. Prints CPU in percent of a core,
medians of some ticks of five seconds. No pass or fail; tests/integration/ui/test_page_cost.py has
the limits.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from pathlib import Path

from relay.ui.live import TICK_S
from tests.kit.apiserver.running import ADMIN, EDITOR, VIEWER
from tests.kit.ui.open_pages import open_pages
from tests.kit.ui.platform import USERS, Platform, platform

EXPORTERS = 50
TICKS = 5
LIST = "/ui/projects/acme/exporters"
EVE = "token-of-acme-eve"
"""A fourth user: one may have 30 pages open."""


async def used(found: Platform) -> float:
    """Return the relay's CPU as a part of a core."""
    parts = []
    for _ in range(TICKS):
        before = found.process.cpu_s()
        await asyncio.sleep(TICK_S)
        parts.append((found.process.cpu_s() - before) / TICK_S)
    return statistics.median(parts)


async def measure(folder: Path, exporters: int) -> None:
    """Print a line for each number and kind of pages."""
    users = [*USERS, {"token": EVE, "user": "eve", "role": "viewer", "projects": ["acme"]}]
    async with platform(folder, users=users) as found:
        names = [f"e{number:04}" for number in range(exporters)]
        for name in names:
            await found.make(name, found.good.origin)
        await asyncio.sleep(2 * TICK_S)
        idle = await used(found)
        print(f"{exporters} exporters, no page: {idle:.2%} of a core")
        for count in (1, 100):
            for words, paths in (
                ("on the list", [LIST] * count),
                (
                    "on an exporter each",
                    [f"{LIST}/default/{names[n % len(names)]}" for n in range(count)],
                ),
            ):
                async with open_pages(found.url, (EDITOR, VIEWER, ADMIN, EVE)) as pages:
                    await pages.open(*paths)
                    more = await used(found) - idle
                    pages.check()
                print(f"{count} pages {words}: {more:+.2%}, {pages.events} parts were sent")
                await asyncio.sleep(TICK_S)
        await found.process.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(measure(Path(place), int(sys.argv[1]) if len(sys.argv) > 1 else EXPORTERS))
