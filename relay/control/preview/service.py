"""Previews of the running relay: of what may be asked, and how many at a time.

* A manifest is previewed beside the running exporter of its name, if there is one; a running
  exporter alone.
* One preview counts at a time and one measures at a time; :data:`WAITING_MAX` more may wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from relay.config.exporter.types import Exporter
from relay.control.explain import unknown_exporter
from relay.control.preview.manifest import read_manifest
from relay.control.preview.preview import EngineTurns, Preview, PreviewEvent
from relay.pipeline.engine import MetricsPipeline
from relay.runtime.errors import ConfigError, Fault, OverloadedError
from relay.runtime.event_loop import run_in_thread
from relay.selector.resources.compiler import Compiler

WAITING_MAX: Final = 8
"""Previews that are under way or wait."""


@dataclass(frozen=True, slots=True)
class PreviewQuery:
    """A preview to make, of ``manifest`` if it is set, else of the running ``exporter`` (its id).

    ``project`` is that of the manifest, "" without tenancy. ``measure_s``: longest time to measure
    samples a minute, 0 for not at all.
    """

    manifest: str = ""
    project: str = ""
    exporter: str = ""
    measure_s: float = 0.0


class PreviewService:
    """Makes previews over an engine; ``running`` returns its exporters."""

    def __init__(
        self,
        engine: MetricsPipeline,
        turns: EngineTurns,
        running: Callable[[], Iterable[Exporter]],
        compiler: Compiler,
    ) -> None:
        self._engine = engine
        self._turns = turns
        self._running = running
        self._compiler = compiler
        self._counting = asyncio.Lock()
        self._measuring = asyncio.Lock()
        self._waiting = 0

    async def open(self, query: PreviewQuery) -> AsyncIterator[PreviewEvent]:
        """Return the events of a preview, to be read to the end or closed.

        Raises ConfigError for a query that cannot be answered, OverloadedError where too many wait.
        """
        exporter, stored = await self._subject(query)
        preview = Preview(self._engine, self._turns, exporter, stored, compiler=self._compiler)
        if self._waiting >= WAITING_MAX:
            raise OverloadedError(f"{self._waiting} previews are under way already")
        return self._events(preview, query.measure_s)

    async def _events(self, preview: Preview, measure_s: float) -> AsyncIterator[PreviewEvent]:
        self._waiting += 1
        try:
            async with self._counting:
                async for event in preview.count():
                    yield event
            if measure_s > 0:
                async with self._measuring:
                    async for event in preview.measure(measure_s):
                        yield event
        finally:
            self._waiting -= 1

    async def _subject(self, query: PreviewQuery) -> tuple[Exporter, Exporter | None]:
        """Return the exporter to preview and its stored version."""
        running = tuple(self._running())
        if not query.manifest:
            return require_running(running, query.exporter), None
        check_project(query.project, has_tenancy=self._engine.router.tenancy.enabled)
        exporter = await run_in_thread(
            partial(
                read_manifest,
                query.manifest,
                query.project,
                origin="the manifest",
                need_sinks=False,
            )
        )
        return exporter, next((one for one in running if one.id == exporter.id), None)

    def __repr__(self) -> str:
        return f"<PreviewService {self._waiting} under way>"


def require_running(running: Iterable[Exporter], exporter: str) -> Exporter:
    """Return a running exporter by its id; raise ConfigError, with ids that may be meant."""
    by_id = {one.id: one for one in running}
    if exporter not in by_id:
        raise ConfigError([Fault("exporter", unknown_exporter(exporter, by_id))])
    return by_id[exporter]


def check_project(project: str, *, has_tenancy: bool) -> None:
    """Raise ConfigError unless a manifest's project is given with tenancy, and only then."""
    if has_tenancy and not project:
        raise ConfigError([Fault("project", "is required: this relay has tenancy")])
    if project and not has_tenancy:
        raise ConfigError([Fault("project", "goes with tenancy, which this relay does not have")])
