"""Apply the desired state of a source, at the start and after every change.

* States are compared in a thread; the event loop only applies differences, a few milliseconds at a
  time. Only one state is applied at a time, and never one older than the last.
* A faulty edit keeps the last good version running; its fault is logged once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

import msgspec

from relay.config.exporter.load_result import LoadResult, keep_last_good
from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import Exporter, SecretRef
from relay.config.inventory_manifests import InventoryLoad
from relay.control.reconcile.desired_state import DesiredState, DesiredStateSource
from relay.control.reconcile.diff import Changes, Differences
from relay.control.reconcile.reconciler import SinkReconciler
from relay.runtime.errors import ConfigError, Fault
from relay.runtime.event_loop import run_in_thread
from relay.selector.inventory.store import ManifestIndex
from relay.sink.http.credentials import SecretLookup
from relay.sink.spill.owner import Owner

_log = logging.getLogger("relay.control.reconcile")

RETRY_S = 1.0
"""Pause before a source that has failed is watched again; s."""

OUTCOMES = ("good", "faulty", "failed")
"""Outcomes of a reload. good: everything was loaded; faulty: some objects have faults, and their
last good version runs on; failed: a bug in the relay, and the change was not or partly applied."""

_RUNS_ON = "its last good version goes on running"
_DOES_NOT_RUN = "it does not run"
LOGGED_MAX = 100
"""Most faults of one change that are logged one by one."""


class ReloadStatistics(msgspec.Struct, frozen=True):
    """Exporters ``added``, ``changed`` and ``removed`` since the start, including the first ones.

    ``applied`` counts sets of changes; ``applied_at`` is the time of the last (wall clock, s; 0:
    never) and ``applied_in_s`` its duration. ``failures`` are bugs; ``reloads`` is by outcome, see
    :data:`OUTCOMES`.
    """

    added: int
    changed: int
    removed: int
    applied: int
    applied_at: float
    applied_in_s: float
    failures: int
    reloads: Mapping[str, int]


class _News(msgspec.Struct, frozen=True):
    """Lines to log after a change; found in a thread, as there may be thousands of exporters."""

    faults: list[Fault]
    faulty_running: list[str]
    faulty_stopped: list[str]
    good_again: list[str]
    sinks_running: list[str]
    sinks_stopped: list[str]
    files_lost: list[str]
    files_back: list[str]

    @classmethod
    def between(cls, before: LoadResult, given: LoadResult, now: LoadResult) -> _News:
        """Return what is new in a result; ``given`` is without what runs on in ``now``."""
        running = {exporter.id for exporter in now.exporters}
        known = {(one.id, sink.name) for one in before.exporters for sink in one.refused}
        refused = {(one.id, sink.name) for one in now.exporters for sink in one.refused} - known
        names = {one for one, _ in refused}
        sinks = {
            (one.id, sink.name) for one in now.exporters if one.id in names for sink in one.sinks
        }
        return cls(
            _new_faults(before.faults, now.faults),
            sorted((now.faulty - before.faulty) & running),
            sorted(now.faulty - before.faulty - running),
            # One in a file that cannot be read runs on and is not faulty: nobody has seen it.
            sorted((before.faulty - now.faulty) & running & {one.id for one in given.exporters}),
            [f"{name}, sink {sink}" for name, sink in sorted(refused & sinks)],
            [f"{name}, sink {sink}" for name, sink in sorted(refused - sinks)],
            sorted(now.faulty_files - before.faulty_files),
            sorted(before.faulty_files - now.faulty_files),
        )


class _SecretsOf(msgspec.Struct, frozen=True):
    """Looks up the secrets of the exporters of one namespace; each sink has one."""

    reloader: Reloader
    project: str
    namespace: str

    def __call__(self, reference: SecretRef, default_key: str) -> str:
        secrets = self.reloader.secrets
        return secrets.get(self.project, self.namespace, reference, default_key)


class Reloader:
    """Keep the reconciler and the inventory in step with a source. Lives on the event loop.

    ``may_be_empty``: the source may give exporters later, so that it is no fault of the operator's
    if none can run.
    """

    def __init__(
        self,
        source: DesiredStateSource,
        reconciler: SinkReconciler,
        set_inventory: Callable[[ManifestIndex], Awaitable[None]],
        *,
        clock: Callable[[], float] = time.time,
        may_be_empty: bool = False,
    ) -> None:
        self._may_be_empty = may_be_empty
        self._source = source
        self._inventory = InventoryLoad()
        self._reconciler = reconciler
        self._set_inventory = set_inventory
        self._clock = clock
        self._version = 0
        self._given: LoadResult | None = None
        """Part of the last state that was applied; ``_loaded`` also has what runs on."""
        self._loaded = LoadResult((), (), SecretStore())
        self._lock = asyncio.Lock()
        self._added = self._changed = self._removed = 0
        self._applied = 0
        self._applied_at = 0.0
        self._applied_in_s = 0.0
        self._failures = 0
        self._reloads = dict.fromkeys(OUTCOMES, 0)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults of the last state."""
        return (*self._loaded.faults, *self._inventory.faults)

    @property
    def loaded(self) -> LoadResult:
        """The result of loading that was applied last, or is being applied."""
        return self._loaded

    @property
    def secrets(self) -> SecretStore:
        """The secrets that exporters refer to."""
        return self._loaded.secrets

    def secrets_of(self, exporter: Exporter) -> SecretLookup:
        """Return the lookup of an exporter's secrets, those of later states among them."""
        # Through self: a reload brings a new store, and a rotated secret is found without one.
        return _SecretsOf(self, exporter.project, exporter.namespace)

    async def start(self) -> None:
        """Load and apply everything. Raise ConfigError if no exporter could run, nor will later."""
        async with self._lock:
            state = await self._source.load()
            runs = any(one.sinks for one in state.loaded.exporters)
            if state.loaded.faults and not runs and not self._may_be_empty:
                raise ConfigError(state.loaded.faults)
            await self._take_inventory(state.inventory)
            await self._apply(state.loaded)
            self._version = state.version
            if not runs and self._may_be_empty:
                # None at all is how a relay starts whose customers are still to come.
                level = logging.WARNING if state.loaded.faults else logging.INFO
                _log.log(level, "no exporter can run yet: received samples are not exported")

    async def reload(self) -> Changes:
        """Load what has changed and apply it at once; read all secrets again."""
        async with self._lock:
            try:
                state = await self._source.load()
                await self._take_inventory(state.inventory)
                changes = await self._apply(state.loaded)
                self._version = state.version
                self._reconciler.reread_secrets()  # mounted ones too
            except Exception:
                self._count_failure()
                raise
            if not changes:
                _log.info("reloaded: no exporter has changed, secrets are read again")
            return self._log_changes(changes)

    async def watch(self) -> None:
        """Apply changes as the source reports them, until cancelled. Log and count bugs."""
        while True:
            try:
                async with aclosing(self._source.changes()) as states:
                    async for state in states:
                        await self._take(state)
            except Exception:
                self._count_failure()
                _log.exception("bug in the relay: the desired state was not applied")
            await asyncio.sleep(RETRY_S)

    def statistics(self) -> ReloadStatistics:
        """Return a snapshot."""
        return ReloadStatistics(
            self._added,
            self._changed,
            self._removed,
            self._applied,
            self._applied_at,
            self._applied_in_s,
            self._failures,
            dict(self._reloads),
        )

    async def _take(self, state: DesiredState) -> None:
        """Apply the parts of a state that have changed, unless a newer one was applied."""
        async with self._lock:
            if state.version <= self._version:
                return
            await self._take_inventory(state.inventory)
            if state.rotated is None or state.rotated:
                self._reconciler.reread_secrets(state.rotated)
                _log.info("mounted secrets have changed and are read again")
            if state.loaded is not self._given:
                self._log_changes(await self._apply(state.loaded))
            self._version = state.version

    async def _apply(self, loaded: LoadResult) -> Changes:
        def compare() -> tuple[LoadResult, Differences, _News]:
            wanted = keep_last_good(self._reconciler.exporters, loaded)
            found = self._reconciler.compare(wanted.exporters)
            gone = self._deleted(running, found, self._loaded.secrets)
            return wanted, replace(found, deleted=gone), _News.between(self._loaded, loaded, wanted)

        started = time.monotonic()
        running = {one.id: one for one in self._reconciler.exporters}
        wanted, differences, news = await run_in_thread(compare)
        self._report(news, differences)
        self._loaded = wanted
        self._given = loaded
        changes = await self._reconciler.apply(differences)
        self._reconciler.keep_orphans(
            complete=not wanted.faults, is_deleted=self._source.is_deleted
        )
        if wanted.renewed:
            self._reconciler.reread_secrets(wanted.renewed)
        if changes:
            self._added += len(changes.added)
            self._changed += len(changes.changed)
            self._removed += len(changes.removed)
            self._applied += 1
            self._applied_at = self._clock()
            self._applied_in_s = time.monotonic() - started
        return changes

    def _deleted(
        self, running: Mapping[str, Exporter], found: Differences, secrets: SecretStore
    ) -> dict[str, SecretLookup]:
        """Return the exporters whose object is deleted, with the secrets that they had."""
        gone = (
            old
            for name in (*found.removed, *found.changed)
            if (old := running[name]).uid
            and old.control_plane
            and (name not in found.wanted or found.wanted[name].uid != old.uid)
        )
        return {
            old.id: secrets.of(old)
            for old in gone
            if self._source.is_deleted(Owner(old.id, "", "", old.uid, old.control_plane))
        }

    def _count_failure(self) -> None:
        self._failures += 1
        self._reloads["failed"] += 1

    def _log_changes(self, changes: Changes) -> Changes:
        """Log the number of changes; count the reload."""
        self._reloads["faulty" if self.faults else "good"] += 1
        if changes:
            _log.info(
                "exporters changed",
                extra={
                    "added": len(changes.added),
                    "changed": len(changes.changed),
                    "removed": len(changes.removed),
                    "seconds": round(self._applied_in_s, 3),
                },
            )
            if changes.removed and not any(True for _ in self._reconciler.exporters):
                _log.warning("no exporter is left: received samples are not exported")
        return changes

    def _report(self, news: _News, differences: Differences) -> None:
        """Log new faults and warnings, and the exporters that run in spite of them."""
        _log_faults("faulty", news.faults)
        _log_each(logging.WARNING, _RUNS_ON, news.faulty_running)
        _log_each(logging.WARNING, _DOES_NOT_RUN, news.faulty_stopped)
        _log_each(logging.INFO, "its manifest is good again", news.good_again)
        _log_each(logging.WARNING, _RUNS_ON, news.sinks_running)
        _log_each(logging.WARNING, _DOES_NOT_RUN, news.sinks_stopped)
        for file in news.files_lost:
            _log.warning("%s: its last good contents stay in effect", file)
        for file in news.files_back:
            _log.info("%s: can be read again", file)
        for name in (*differences.added, *differences.changed):
            for warning in differences.wanted[name].warnings:
                _log.warning("exporter %s: %s", name, warning.summary)

    async def _take_inventory(self, inventory: InventoryLoad) -> None:
        _log_faults(
            "faulty in the inventory", _new_faults(self._inventory.faults, inventory.faults)
        )
        if inventory.index is not self._inventory.index:
            await self._set_inventory(inventory.index)
        self._inventory = inventory

    def __repr__(self) -> str:
        return f"<Reloader {self._source!r}, {self._applied} times applied>"


def _log_each(level: int, text: str, exporters: Sequence[str]) -> None:
    """Log the same text for several exporters, the first :data:`LOGGED_MAX` one by one."""
    for name in exporters[:LOGGED_MAX]:
        _log.log(level, "exporter %s: %s", name, text)
    if len(exporters) > LOGGED_MAX:
        _log.log(level, "%d more exporters: %s", len(exporters) - LOGGED_MAX, text)


def _new_faults(before: Iterable[Fault], now: Iterable[Fault]) -> list[Fault]:
    known = set(before)
    return [fault for fault in now if fault not in known]


def _log_faults(title: str, new: Sequence[Fault]) -> None:
    """Log faults, the first :data:`LOGGED_MAX` one by one."""
    for fault in new[:LOGGED_MAX]:
        extra = {"excerpt": fault.excerpt} if fault.excerpt else None
        _log.error("%s: %s", title, fault.summary, extra=extra)
    if len(new) > LOGGED_MAX:
        _log.error("%s: %d more faults; /status has all", title, len(new) - LOGGED_MAX)
