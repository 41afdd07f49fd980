"""Reads the counters of exporters for the meter of usage."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relay.config.exporter.records.outputs import carries_records
from relay.control.reconcile.sink_entry import RunningExporter
from relay.control.status.usage import SinkReading, SourceReading, UsageReading
from relay.pipeline.records.routing import RecordRouter
from relay.pipeline.routing.router import Router


class UsageReader:
    """Reads the counters of one exporter at a time; lives on the event loop.

    ``running`` returns what runs of an exporter by its id, None if nothing does. ``records`` are
    the routers of logs and traces.
    """

    def __init__(
        self,
        router: Router,
        running: Callable[[str], RunningExporter | None],
        records: Sequence[RecordRouter] = (),
    ) -> None:
        self._router = router
        self._running = running
        self._records = records

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
        self._add_records(exporter, running, sources, sinks)
        return UsageReading(series.total, sources, sinks)

    def _add_records(
        self,
        exporter: str,
        running: RunningExporter,
        sources: dict[str, SourceReading],
        sinks: dict[str, SinkReading],
    ) -> None:
        """Add the sources of logs and traces, and what sinks send of these."""
        names = {source.name for source in running.exporter.record_sources}
        for router in self._records:
            for name, source in router.counters_of(exporter).items():
                if name in names:
                    before = sources.get(name, SourceReading())
                    sources[name] = before._replace(records=before.records + source.samples)
        for name, entry in running.entries.items():
            if carries_records(name):
                sink = name.rpartition("/")[0]
                total = sinks.get(sink, SinkReading())
                sent, resent = entry.worker.traffic
                sinks[sink] = total._replace(
                    bytes=total.bytes + sent,
                    resent=total.resent + resent,
                    records=total.records + entry.counter.samples - entry.counter.refused,
                )

    def __repr__(self) -> str:
        return f"<UsageReader of {self._router!r}>"
