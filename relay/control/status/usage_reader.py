"""Reads the counters of exporters for the meter of usage."""

from __future__ import annotations

from collections.abc import Callable

from relay.control.reconcile.sink_entry import RunningExporter
from relay.control.status.usage import SinkReading, SourceReading, UsageReading
from relay.pipeline.routing.router import Router


class UsageReader:
    """Reads the counters of one exporter at a time; lives on the event loop.

    ``running`` returns what runs of an exporter by its id, None if nothing does.
    """

    def __init__(self, router: Router, running: Callable[[str], RunningExporter | None]) -> None:
        self._router = router
        self._running = running

    def __call__(self, exporter: str) -> UsageReading | None:
        """Return the counters of an exporter by its id, None if it does not run."""
        router = self._router
        series = router.series_of(exporter)
        running = self._running(exporter)
        if series is None or running is None:
            return None
        router.fold_exporter(exporter)
        counters = router.counters_of(exporter)
        sources = {
            name: SourceReading(count, counters[name].samples)
            for name, count in series.sources.items()
        }
        sinks: dict[str, SinkReading] = {}
        for name, count in series.sinks.items():
            entry = running.entries.get(name)
            if entry is not None:
                counter = entry.counter
                taken = counter.samples - counter.refused
                sinks[name] = SinkReading(count, taken, *entry.worker.traffic)
        return UsageReading(series.total, sources, sinks)

    def __repr__(self) -> str:
        return f"<UsageReader of {self._router!r}>"
