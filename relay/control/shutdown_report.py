"""Count and log the points that a shutdown loses."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from relay.control.reconcile.reconciler import SinkReconciler
from relay.control.reconcile.sink_entry import SinkKey
from relay.sink.reporting.ledger import LedgerStatistics

_log = logging.getLogger("relay.app")

_REMOVED: SinkKey = ("removed", "sinks")
"""Placeholder for all removed sinks."""


class ShutdownLosses:
    """Points lost from now on, but for those of deleted objects. Make it before the sinks drain."""

    def __init__(self, reconciler: SinkReconciler) -> None:
        self._reconciler = reconciler
        self._before = _dropped(reconciler)

    def count(self, keeps: Callable[[int, int], bool] | None) -> int:
        """Log by sink, and count, the points dropped or left in memory without the journal.

        ``keeps`` returns whether the journal has everything between two positions; None: no
        journal.
        """
        lost = _dropped(self._reconciler)
        lost.subtract(self._before)
        if keeps is not None:
            for worker in self._reconciler.workers():
                lost[worker.exporter_id, worker.sink_id] += worker.unkept_points(keeps)
        for (exporter, sink), points in lost.items():
            if points > 0:
                _log.error(
                    "points were given up",
                    extra={"exporter": exporter, "sink": sink, "points": points},
                )
        return max(0, lost.total())

    def __repr__(self) -> str:
        return f"<ShutdownLosses of {self._reconciler!r}>"


def _lost(ledger: LedgerStatistics) -> int:
    return sum(points for reason, points in ledger.dropped.items() if reason != "deleted")


def _dropped(reconciler: SinkReconciler) -> Counter[SinkKey]:
    found: Counter[SinkKey] = Counter()
    for report in reconciler.reports():
        found[report.exporter, report.sink] += _lost(report.ledger)
    found[_REMOVED] = _lost(reconciler.removed_ledger())
    return found
