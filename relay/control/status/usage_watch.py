"""Mark and read the usage of all exporters, a little at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from relay.config.exporter.types import Exporter
from relay.control.status.usage import ExporterUsage, UsageMeter
from relay.runtime.event_loop import WorkSlice

AT_ONCE: Final = 200
"""Exporters that are marked between two pauses; about 5 ms."""


class UsageWatch:
    """The usage of what runs. Lives on the event loop.

    ``exporters`` returns the running ones; ``settled`` waits until the engine is between two
    requests; ``tick`` is the monotonic clock, s.
    """

    def __init__(
        self,
        meter: UsageMeter,
        exporters: Callable[[], Iterable[Exporter]],
        *,
        settled: Callable[[], Awaitable[None]],
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        self._meter = meter
        self._exporters = exporters
        self._settled = settled
        self._tick = tick

    async def mark(self, *, spread_s: float = 0.0) -> None:
        """Take a mark of every exporter within ``spread_s``, and forget those that are gone."""
        names = [one.id for one in self._exporters()]
        pause_s = spread_s * AT_ONCE / max(len(names), 1)
        for start in range(0, len(names), AT_ONCE):
            if start:
                await asyncio.sleep(pause_s)
            part = names[start : start + AT_ONCE]
            await self._slowly(part, lambda name: self._meter.mark(name, self._tick()))
        self._meter.forget_all_but(one.id for one in self._exporters())

    def usage(self, exporter: str, *, kept: bool = True) -> ExporterUsage:
        """Return the usage of an exporter by its id; cheap where it is asked for often, if kept."""
        return self._meter.usage(exporter, self._tick(), kept=kept)

    def now(self) -> dict[str, ExporterUsage]:
        """Return the usage of every exporter. Takes long beside thousands."""
        return {one.id: self.usage(one.id, kept=False) for one in self._exporters()}

    async def look(self) -> dict[str, ExporterUsage]:
        """Return the same; yields to the event loop in between."""
        found: dict[str, ExporterUsage] = {}

        def read(name: str) -> None:
            found[name] = self.usage(name, kept=False)

        await self._slowly([one.id for one in self._exporters()], read)
        return found

    async def _slowly(self, names: Iterable[str], action: Callable[[str], object]) -> None:
        await self._settled()
        part = WorkSlice()
        for name in names:
            action(name)
            if part.is_over:
                await part.rest()
                await self._settled()
                part.begin()

    def __repr__(self) -> str:
        return f"<UsageWatch {self._meter!r}>"
