"""Sinks that were removed, until they have ended.

* Each sends what it has for at most the drain timeout.
* If its object is deleted, the rest is dropped and counted as ``deleted``, with and without a disk.
  The sink never comes back: another object of the name gets an entry of its own, and may begin
  while this one drains.
* Otherwise the rest becomes an orphan on disk (:mod:`relay.sink.spill.orphans`), or is dropped as
  ``removed`` without a disk, and a sink of the name that comes meanwhile continues.
* What a sink has lost is added to the ledger of removed sinks when it has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from relay.config.exporter.types import Exporter
from relay.control.projects.project_totals import RemovedTotals
from relay.control.reconcile.sink_entry import SinkEntry, SinkKey, farewell
from relay.control.reconcile.sink_report import sum_ledgers
from relay.sink.http.credentials import SecretLookup
from relay.sink.reporting.ledger import LedgerStatistics
from relay.sink.spill.owner import Owner
from relay.sink.worker import SinkWorker

_log = logging.getLogger("relay.control.reconcile")


class DrainingSinks:
    """All of them. Lives on the event loop; ``on_end`` is called with each worker that has ended.

    ``totals`` are those of projects over sinks that have ended.
    """

    def __init__(self, timeout_s: float, on_end: Callable[[SinkWorker], object]) -> None:
        self._timeout_s = timeout_s
        self._on_end = on_end
        self._entries: dict[SinkKey, SinkEntry] = {}
        """Those that may come back."""
        self._deleted: dict[SinkWorker, SinkEntry] = {}
        self._ends: dict[SinkWorker, asyncio.Task[None]] = {}
        self._ledgers: list[LedgerStatistics] = []
        self.totals = RemovedTotals()

    def __iter__(self) -> Iterator[SinkEntry]:
        """Iterate over the entries, those that may come back first."""
        yield from (*self._entries.values(), *reversed(self._deleted.values()))

    def ledger(self) -> LedgerStatistics:
        """Return the ledger of all sinks that have ended."""
        return sum_ledgers(self._ledgers)

    def add(self, entry: SinkEntry, secrets: SecretLookup | None = None) -> None:
        """Let a removed sink's worker drain, then stop it.

        ``secrets`` are given if its object is deleted: those of before.
        """
        worker = entry.worker
        # A crash from now on finds all of it on disk.
        worker.save(at_once=True)
        if secrets is None:
            self._entries[entry.key] = entry
        else:
            self._delete(entry, secrets)
        self._ends[worker] = asyncio.get_running_loop().create_task(self._end(entry, worker))

    def delete(self, exporter: Exporter, secrets: SecretLookup) -> None:
        """Note that an object is deleted of which sinks drain that it had before."""
        found = [
            entry
            for entry in self._entries.values()
            if entry.key[0] == exporter.id and entry.owner.uid == exporter.uid
        ]
        for entry in found:
            del self._entries[entry.key]
            self._delete(entry, secrets)

    def take_back(self, key: SinkKey, owner: Owner) -> tuple[SinkEntry | None, bool]:
        """Return the entry of a sink that is added again, and whether its worker can go on.

        Otherwise that one drains on, and the entry needs another worker.
        """
        entry = self._entries.pop(key, None)
        if entry is None or entry.worker.removed or not owner.may_adopt(entry.owner):
            return entry, False
        self._ends.pop(entry.worker).cancel()
        return entry, True

    async def wait(self) -> None:
        """Wait until all have ended."""
        await asyncio.gather(*self._ends.values())

    def _delete(self, entry: SinkEntry, secrets: SecretLookup) -> None:
        for worker in entry.workers:
            worker.delete(secrets)
        self._deleted[entry.worker] = entry

    async def _end(self, entry: SinkEntry, worker: SinkWorker) -> None:
        try:
            left = await worker.remove(self._timeout_s)
        finally:
            if self._ends.get(worker) is asyncio.current_task():
                del self._ends[worker]
        self._on_end(worker)
        entry.counter.points -= left
        ledger = worker.statistics().ledger
        if worker is not entry.worker:
            entry.draining = tuple(one for one in entry.draining if one is not worker)
            entry.ended_ledgers = (sum_ledgers([*entry.ended_ledgers, ledger]),)
        elif entry.draining:  # removed, added and removed again
            self._deleted.pop(worker, None)
            *others, entry.worker = entry.draining
            entry.draining = tuple(others)
            if entry.worker.deleted:
                self._deleted[entry.worker] = entry
            entry.ended_ledgers = (sum_ledgers([*entry.ended_ledgers, ledger]),)
        else:
            if self._deleted.pop(worker, None) is None:
                del self._entries[entry.key]
            self.totals.add(entry.report(removed=True))
            self._ledgers = [sum_ledgers([*self._ledgers, *entry.ended_ledgers, ledger])]
        self._log_end(entry.key, worker, left, ledger)

    def _log_end(
        self, key: SinkKey, worker: SinkWorker, left: int, ledger: LedgerStatistics
    ) -> None:
        lost = ledger.dropped.get("deleted" if worker.deleted else "removed", 0)
        _log.log(
            logging.WARNING if lost or left else logging.INFO,
            farewell(left, lost, is_deleted=worker.deleted),
            extra={"exporter": key[0], "sink": key[1], "points": left, "dropped": lost},
        )

    def __repr__(self) -> str:
        return f"<DrainingSinks {len(self._ends)}, {len(self._deleted)} of deleted objects>"
