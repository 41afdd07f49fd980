"""Our own metrics, as a scrape shows them.

Rules:

* Nothing here is touched per sample. Counters are plain integers where they arise; a scrape takes
  one frozen :class:`Snapshot` and turns it into metric families, as :mod:`relay.telemetry.metrics`
  says. A scrape is therefore consistent: a sink's ledger balances within it.
* A snapshot is plain values, so it may be taken on the event loop and written out in a thread.
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
    """What a scrape shows: our catalogue, and the figures of process, platform and GC."""

    def __init__(self) -> None:
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def render(self, snapshot: Snapshot, *, accept: str = "") -> tuple[bytes, str]:
        """The exposition of a snapshot and its content type, chosen by the ``Accept`` header.

        Touches nothing of this process but its own files in ``/proc``, so any thread may call it.
        """
        return expose(snapshot, self._process, accept=accept)

    def __repr__(self) -> str:
        return f"<Telemetry {len(CATALOGUE)} metrics>"
