"""Previews of the running relay: of what may be asked, and how many at a time.

* A manifest is previewed beside the running exporter of its name, if there is one; a running
  exporter alone.
* One preview counts at a time; :data:`MEASURING_MAX` measure, one of each project with tenancy.
  :data:`WAITING_MAX` are under way or wait, :data:`WAITING_PER_PROJECT_MAX` of one project.
* A preview that cannot begin to measure within the time that it may measure ends without rates.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from relay.config.exporter.types import Exporter
from relay.control.explain import unknown_exporter
from relay.control.preview.arrivals import LOOK_S, ArrivalWatch
from relay.control.preview.manifest import read_manifest
from relay.control.preview.preview import EngineTurns, Preview, PreviewEvent
from relay.control.preview.record_rates import RecordRates
from relay.control.preview.records import preview_records
from relay.control.project_slots import ProjectSlots
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.records.pipeline import RecordsPipeline
from relay.runtime.errors import ConfigError, Fault
from relay.runtime.event_loop import run_in_thread
from relay.selector.resources.compiler import Compiler

WAITING_MAX: Final = 8
"""Previews that are under way or wait."""
WAITING_PER_PROJECT_MAX: Final = 2
"""Those of one project, with tenancy."""
MEASURING_MAX: Final = 4
"""Previews that measure at the same time: each look at their series takes some milliseconds."""


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
        records: Sequence[RecordsPipeline] = (),
    ) -> None:
        self._engine = engine
        self._records = records
        self._turns = turns
        self._running = running
        self._compiler = compiler
        self._counting = asyncio.Lock()
        self._measuring = ProjectSlots("measurements", slots_max=MEASURING_MAX, project_slots_max=1)
        self._watch = ArrivalWatch(engine.table)
        self._slots = ProjectSlots(
            "previews", slots_max=WAITING_MAX, project_slots_max=WAITING_PER_PROJECT_MAX
        )

    async def open(self, query: PreviewQuery) -> AsyncIterator[PreviewEvent]:
        """Return the events of a preview, to be read to the end or closed.

        Raises ConfigError for a query that cannot be answered, OverloadedError where too many wait.
        """
        exporter, stored = await self._subject(query)
        return await self.open_of(exporter, stored, measure_s=query.measure_s)

    async def open_of(
        self, exporter: Exporter, stored: Exporter | None, *, measure_s: float = 0.0
    ) -> AsyncIterator[PreviewEvent]:
        """Return the events of a preview of any exporter beside another version of it.

        Raises ConfigError where it cannot be previewed, OverloadedError where too many wait.
        """
        self._slots.check(exporter.project)
        # Its selectors are compiled, which takes a while if there are many.
        preview = await run_in_thread(
            partial(Preview, self._engine, self._turns, exporter, stored, compiler=self._compiler)
        )
        return self._events(preview, exporter, measure_s)

    def running(self, exporter: str) -> Exporter | None:
        """Return a running exporter by its id, None if there is none."""
        return next((one for one in self._running() if one.id == exporter), None)

    async def _events(
        self, preview: Preview, exporter: Exporter, measure_s: float
    ) -> AsyncIterator[PreviewEvent]:
        project = exporter.project
        with self._slots.take(project):
            async with self._counting:
                preview.records = await preview_records(
                    exporter, self._records, self._turns.settled
                )
                async for event in preview.count():
                    yield event
            if measure_s <= 0 or not await self._may_measure(project, measure_s):
                return
            preview.record_rates = RecordRates(exporter, self._records)
            with self._measuring.take(project):
                async for event in preview.measure(measure_s):
                    yield event

    async def _may_measure(self, project: str, wait_s: float) -> bool:
        """Wait for the turn to measure, at most ``wait_s``; return whether it has come."""
        end_s = time.monotonic() + wait_s
        while self._measuring.is_full(project):
            if time.monotonic() >= end_s:
                return False
            await asyncio.sleep(LOOK_S / 2)
        return True

    async def _subject(self, query: PreviewQuery) -> tuple[Exporter, Exporter | None]:
        """Return the exporter to preview and its stored version."""
        if not query.manifest:
            return require_running(self._running(), query.exporter), None
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
        return exporter, self.running(exporter.id)

    def __repr__(self) -> str:
        return f"<PreviewService {self._slots.taken} under way>"


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
