"""Looks after all projects: measures their usage, enforces their limits, forgets those gone.

A project is gone when no exporter of it runs or drains and no queue of it is left on disk. Then all
that was learned of it is dropped, on record. What a project's limits need is done once a second for
queues, and once a minute for the rest, in slices.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zlib import crc32

from relay.config.exporter.load_result import ObjectResult
from relay.config.exporter.records.outputs import carries_records
from relay.config.limits.limit_checks import LIMIT_EXCEEDED
from relay.config.limits.project_limits import LimitSettings
from relay.control.projects.limiter import RateLimiter, cut_queues
from relay.control.projects.taken_series_file import load_taken, save_taken
from relay.control.projects.usage_facts import UsageFacts
from relay.control.reconcile.reconciler import SinkReconciler
from relay.control.reconcile.sink_entry import members_of
from relay.control.status.assess import ObjectVerdicts
from relay.control.status.conditions import ConditionVerdict
from relay.control.status.history import Amend
from relay.control.status.usage import MARK_S, ExporterUsage, UsageMeter
from relay.control.status.usage_reader import UsageReader
from relay.control.status.usage_watch import UsageWatch
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.forget_project import ProjectForgetting
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.records.pipeline import RecordsPipeline
from relay.runtime.event_loop import give_way, run_in_thread

if TYPE_CHECKING:
    from relay.sink.spill.store import QueueStore

_log = logging.getLogger("relay.control.projects")

SERIES_AT_ONCE: Final = 4_000
"""Series whose CRCs are computed between two turns of the event loop: about 2 ms."""
FOLDED_AT_ONCE: Final = 500
"""Sinks whose samples are counted between two turns of the event loop: about 2 ms."""
LOOK_S: Final = 1.0
"""Interval at which queues are compared with their limits; s."""


class Projects:
    """The projects of one relay. Lives on the event loop.

    ``settled`` waits until the engine is between two requests; ``tick`` is the monotonic clock, s.
    Without ``store`` there are no queues on disk. ``directory`` is that of the data, None without
    one; ``reserve_s`` the time for which places are kept for series that were taken before a
    restart.
    """

    def __init__(  # noqa: PLR0913 - a composition point: every collaborator is named once, here
        self,
        engine: MetricsPipeline,
        reconciler: SinkReconciler,
        limits: LimitSettings,
        *,
        records: Sequence[RecordsPipeline] = (),
        store: QueueStore | None = None,
        directory: Path | None = None,
        reserve_s: float = 3600.0,
        settled: Callable[[], Awaitable[None]],
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._reconciler = reconciler
        self._limits = limits.lookup()
        self._has_limits = limits.any
        self._store = store
        self._settled = settled
        self._tick = tick
        self._records = records
        self._limiter = RateLimiter(
            "maxSamplesPerMinute",
            "series",
            lambda project: self._limits(project).samples_per_minute_max,
            self._set_share,
        )
        self._record_limiter = RateLimiter(
            "maxRecordsPerMinute",
            "traces and log records",
            lambda project: self._limits(project).records_per_minute_max,
            self._set_record_share,
        )
        self._known: set[str] = set()
        self._looked_at = -1  # version of the exporters when all projects were last found
        self._refusing: set[str] = set()
        self._directory = directory
        self._reserved = load_taken(directory) if directory is not None and limits.any else {}
        self._reserved_until = tick() + reserve_s
        self._hold_to_shares()
        self._forgotten = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._saving: asyncio.Task[None] | None = None
        self.watch = UsageWatch(
            UsageMeter(
                UsageReader(engine.router, reconciler.running, tuple(one.router for one in records))
            ),
            lambda: reconciler.exporters,
            settled=settled,
            tick=tick,
        )

    def start(self) -> None:
        """Begin to look after them. Needs a running loop."""
        assert not self._tasks, "started twice"
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._run(), name="projects"))
        self._tasks.append(loop.create_task(self._mark(), name="mark usage"))

    async def stop(self) -> None:
        """Stop; figures can still be asked for."""
        for one in self._tasks:
            one.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._saving is not None:
            await asyncio.wait([self._saving])  # its thread may be writing yet
        if self._directory is not None and (self._refusing or not self._reserved):
            table, reserved = self._engine.table, self._reserved
            found = {one: _taken(table.of_share(one)) for one in self._refusing}
            save_taken(
                self._directory,
                {one: crcs | reserved.get(one, set()) for one, crcs in found.items()},
            )

    def usage(self, exporter: str) -> ExporterUsage:
        """Return the usage of an exporter by its id; cheap where it is asked for often."""
        return self.watch.usage(exporter)

    def facts(self) -> UsageFacts:
        """Return the usage of everything. Takes long beside thousands of exporters."""
        return self._facts(self.watch.now())

    async def look(self) -> UsageFacts:
        """Return the same; yields to the event loop in between."""
        return self._facts(await self.watch.look())

    def amend(self, result: ObjectResult) -> Amend:
        """Return what says in an object's conditions that a limit of its project bites."""
        remark = self.limit_remark(result.key.project)

        def say(verdicts: ObjectVerdicts) -> None:
            if remark and verdicts.conditions["Accepted"].status == "True":
                verdicts.conditions["Accepted"] = ConditionVerdict("True", LIMIT_EXCEEDED, remark)

        return say

    def limit_remark(self, project: str) -> str:
        """Return what the limits of a project refuse now, and what to do; "" where nothing is."""
        limits = self._limits(project)
        share = self._limiter.share(project)
        if share < 1.0:
            return (
                f"the project has more than {limits.samples_per_minute_max} samples a minute: only "
                f"{share:.1%} of its series are taken; select less, or ask the operator for more"
            )
        share = self._record_limiter.share(project)
        if share < 1.0:
            return (
                f"the project has more than {limits.records_per_minute_max} log records and spans "
                f"a minute: only {share:.1%} of them are taken; select less, or ask the operator "
                "for more"
            )
        if project in self._refusing:
            return (
                f"the project has {limits.series_max} series, its limit: more are not taken; "
                "select less, or ask the operator for more"
            )
        return ""

    def totals(self) -> UsageFacts:
        """Return the usage of projects alone; cheap."""
        return self._facts({})

    def _facts(self, exporters: dict[str, ExporterUsage]) -> UsageFacts:
        return UsageFacts(
            exporters,
            self._engine.router.project_series(),
            self._reconciler.removed_totals.of,
            self._limits,
            self._forgotten,
        )

    async def _run(self) -> None:
        while True:
            try:
                if self._has_limits:
                    cut_queues(members_of(self._reconciler.entries()), self._limits)
                    self._report_refused()
                    await self._settled()
                    self._hold_to_shares()
                await self._forget_gone()
            except Exception:
                _log.exception("bug in the relay: projects are not looked after")
            await asyncio.sleep(LOOK_S)

    async def _mark(self) -> None:
        """Mark usage once a minute, a part of the exporters at a time; then look at the limits."""
        while True:
            due_at = self._tick() + MARK_S
            try:
                await self.watch.mark(spread_s=MARK_S / 2)
                await self._limit_samples()
                await self._save_taken()
            except Exception:
                _log.exception("bug in the relay: usage is not marked")
            await asyncio.sleep(max(LOOK_S, due_at - self._tick()))

    async def _save_taken(self) -> None:
        """Save the series of the projects at their limit; give up the places kept for too long."""
        if self._reserved and self._tick() >= self._reserved_until:
            for project in self._reserved:
                self._engine.router.reserve(project, set())
            self._reserved = {}
        directory = self._directory
        if directory is None or (self._reserved and not self._refusing):
            return  # a project may yet come to its limit again with the series of the file
        found: dict[str, set[int]] = {}
        for project in sorted(self._refusing):
            found[project] = set(self._reserved.get(project, ()))
            series = self._engine.table.of_share(project)
            for start in range(0, len(series), SERIES_AT_ONCE):
                found[project] |= _taken(series[start : start + SERIES_AT_ONCE])
                await give_way()
        self._saving = asyncio.create_task(run_in_thread(lambda: save_taken(directory, found)))
        await asyncio.shield(self._saving)

    async def _limit_samples(self) -> None:
        """Compare the samples of the last minute with the limits."""
        if not self._has_limits:
            return
        entries = list(self._reconciler.entries())
        for start in range(0, len(entries), FOLDED_AT_ONCE):
            await give_way()
            await self._settled()
            for entry in entries[start : start + FOLDED_AT_ONCE]:
                self._engine.router.fold_exporter(entry.counter.exporter)
        samples: dict[str, int] = {}
        records: dict[str, int] = {}
        for entry in entries:
            counter = entry.counter
            taken = records if carries_records(counter.sink) else samples
            count = counter.samples - counter.refused
            taken[counter.group] = taken.get(counter.group, 0) + count
        now, removed = self._tick(), self._reconciler.removed_totals.of
        for project, count in samples.items():
            self._limiter.observe(project, count + removed(project).samples, now)
        for project, count in records.items():
            self._record_limiter.observe(project, count + removed(project).records, now)

    def _hold_to_shares(self) -> None:
        """Apply shares and kept places again where a project's last exporter was replaced."""
        for project, share in self._limiter.shares.items():
            self._set_share(project, share)
        for project, share in self._record_limiter.shares.items():
            self._set_record_share(project, share)
        for project, crcs in self._reserved.items():
            self._engine.router.reserve(project, crcs)

    def _set_record_share(self, project: str, share: int) -> None:
        for pipeline in self._records:
            pipeline.router.set_share(project, share)

    def _set_share(self, project: str, share: int) -> None:
        if self._engine.router.set_share(project, share):
            self._engine.table.invalidate()

    def _report_refused(self) -> None:
        """Log the projects that have come to their limit of series, and those below it again."""
        refusing = {
            project
            for project, counts in self._engine.router.project_series().items()
            if counts.refused and self._limiter.share(project) == 1.0
        }
        for project in sorted(refusing - self._refusing):
            _log.warning(
                "project is at maxSeries: its sinks take no new series",
                extra={"project": project, "maxSeries": self._limits(project).series_max},
            )
        for project in sorted(self._refusing - refusing):
            _log.info("project is below maxSeries again", extra={"project": project})
        self._refusing = refusing

    async def _forget_gone(self) -> None:
        version = self._reconciler.version
        if version == self._looked_at:
            return
        running = {one.project for one in self._reconciler.exporters if one.project}
        gone = self._known - running
        self._known |= running
        if not gone:
            self._looked_at = version
            return
        busy = {entry.counter.group for entry in self._reconciler.entries()}
        if self._store is not None:
            queues = self._store.statistics().orphans.queues
            busy |= {one.exporter.partition("/")[0] for one in queues}
        for project in sorted(gone - busy):
            forgetting = ProjectForgetting(self._engine, project)
            while not forgetting.done and not self._engine.router.has_project(project):
                await self._settled()
                forgetting.step()
                await give_way()
            if not forgetting.done:
                continue  # it has come back
            self._reconciler.removed_totals.forget(project)
            self._limiter.forget(project)
            self._record_limiter.forget(project)
            self._known.discard(project)
            self._forgotten += 1
            extra = {"project": project, **forgetting.dropped}
            _log.info("project is gone, and what was learned of it", extra=extra)

    def __repr__(self) -> str:
        return f"<Projects {len(self._known)} known>"


def _taken(series: Iterable[Series]) -> set[int]:
    """Return the CRCs of those of the series that any sink takes."""
    return {crc32(one.key) for one in series if one.match_set.base.matched}
