"""Render the relay's own metrics for a scrape.

* Nothing here runs per sample. Counters are plain integers at their sources; a scrape takes one
  frozen :class:`Snapshot`, so a sink's ledger balances within one scrape.
* A snapshot holds plain values only: take it on the event loop, render it in a thread.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)

from relay.telemetry.exposition import expose
from relay.telemetry.metric_spec import MetricSpec
from relay.telemetry.metrics import CATALOGUE
from relay.telemetry.snapshot import (
    IngestFigures,
    SinkFigures,
    Snapshot,
    SourceFigures,
    StorageFigures,
)

__all__ = [
    "CATALOGUE",
    "IngestFigures",
    "MetricSpec",
    "SinkFigures",
    "Snapshot",
    "SourceFigures",
    "StorageFigures",
    "Telemetry",
]


class Telemetry:
    """Render the catalogue and the metrics of process, platform and GC."""

    def __init__(self) -> None:
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def render(self, snapshot: Snapshot, *, accept: str = "") -> tuple[bytes, str]:
        """Return the exposition of a snapshot and its content type, by the ``Accept`` header.

        Safe to call from any thread: it reads this process's files in ``/proc`` and nothing else.
        """
        return expose(snapshot, self._process, accept=accept)

    def __repr__(self) -> str:
        return f"<Telemetry {len(CATALOGUE)} metrics>"
