"""What the relay says about itself: the scrape's snapshot and the ``/status`` document.

Both are made from the same reports, so they never disagree. Nothing here holds a secret: an
endpoint is shown without query or user part, which validation does not let in anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from relay import __version__
from relay.errors import Fault
from relay.exporter.model import Exporter, Source
from relay.fleet import SinkReport
from relay.pipeline.engine import EngineStatistics
from relay.pipeline.plans import SourceTally
from relay.reloading import ReloadStatistics
from relay.selector.resources import ResourceSelection
from relay.sink.delivery import Remark
from relay.telemetry import IngestFigures, SinkFigures, Snapshot, SourceFigures

BUILD = "interpreted"
"""How the kernel runs."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the two documents are made of, taken at one moment. ``now`` is the wall clock,
    s."""

    now: float
    started_at: float
    ingest: IngestFigures
    engine: EngineStatistics
    lag_last_s: float
    lag_max_s: float
    exporters: tuple[Exporter, ...]
    faults: tuple[Fault, ...]
    sources: tuple[SourceTally, ...]
    sinks: tuple[SinkReport, ...]
    changes: ReloadStatistics | None


def snapshot(facts: Facts) -> Snapshot:
    """The figures of a scrape."""
    engine = facts.engine
    return Snapshot(
        version=__version__,
        build=BUILD,
        ingest=facts.ingest,
        received_samples={str(name): n for name, n in engine.received_by_protocol.items()},
        dropped_samples=engine.dropped_samples,
        unmatched_samples=engine.router.unmatched_samples,
        sources=tuple(
            SourceFigures(tally.exporter, tally.source, tally.samples) for tally in facts.sources
        ),
        sinks=tuple(_sink_figures(report, facts.now) for report in facts.sinks),
        series_active=engine.table.active,
        series_created=engine.table.created,
        series_forgotten={
            "idle": engine.table.forgotten_idle,
            "full": engine.table.forgotten_full,
        },
        series_retyped=engine.types.retyped,
        metadata_families=engine.types.families,
        metadata_contradictions=engine.types.contradictions,
        assembled_samples=engine.assembly.outcomes,
        assembled_points=engine.assembly.points,
        waiting_samples=engine.assembly.waiting_samples,
        histogram_families=engine.assembly.families,
        exemplars={
            "received": engine.exemplars.received,
            "sent": engine.exemplars.sent,
            "dropped": engine.exemplars.dropped,
        },
        delta_points=engine.deltas.outcomes,
        delta_states=engine.deltas.states,
        exporters=len(facts.exporters),
        exporter_faults=len(facts.faults),
        selectors_always_asked=engine.router.always_asked,
        inventory_objects={
            "manifests": engine.inventory.from_manifests,
            "series": engine.inventory.from_stream,
        },
        ingest_next_position=engine.positions.next,
        ingest_oldest_held_position=engine.positions.low,
        loop_lag_last_s=facts.lag_last_s,
        loop_lag_max_s=facts.lag_max_s,
    )


def _sink_figures(report: SinkReport, now: float) -> SinkFigures:
    ledger = report.ledger
    worker = report.worker
    return SinkFigures(
        exporter=report.exporter,
        sink=report.sink,
        matched_points=report.matched,
        matched_samples=report.matched_samples,
        delivered=ledger.delivered,
        rejected=ledger.rejected,
        expired=ledger.expired,
        dropped=ledger.dropped,
        queued_points=ledger.queued + report.open,
        queue_bytes=worker.queue.bytes,
        queue_bytes_max=worker.queue.bytes_max,
        oldest_point_age_s=_oldest_age_s(report, now),
        requests=worker.requests,
        sent_bytes=worker.bytes_sent,
        last_success_at=worker.last_success_at or 0.0,
        paused=bool(worker.paused),
        internal_errors=worker.internal_errors,
    )


def document(facts: Facts) -> dict[str, Any]:
    """The ``/status`` document."""
    engine = facts.engine
    sources = {(tally.exporter, tally.source): tally.samples for tally in facts.sources}
    sinks = {(report.exporter, report.sink): report for report in facts.sinks}
    return {
        "version": __version__,
        "build": BUILD,
        "startedAt": _time(facts.started_at),
        "ingest": {
            "requests": {str(code): count for code, count in facts.ingest.requests.items()},
            "refusedRequests": dict(facts.ingest.refused),
            "receivedSamples": engine.received_samples,
            "droppedSamples": engine.dropped_samples,
            "unmatchedSamples": engine.router.unmatched_samples,
            "exemplars": {
                "received": engine.exemplars.received,
                "sent": engine.exemplars.sent,
                "dropped": engine.exemplars.dropped,
                "waiting": engine.exemplars.waiting,
            },
            "activeSeries": engine.table.active,
            "metadataFamilies": engine.types.families,
            "assembly": {
                "families": engine.assembly.families,
                "points": engine.assembly.points,
                "samples": engine.assembly.outcomes,
                "waitingSamples": engine.assembly.waiting_samples,
            },
            "deltas": {"streams": engine.deltas.states, "points": engine.deltas.outcomes},
        },
        "changes": _changes(facts.changes),
        "exporters": [
            _exporter(exporter, sources, sinks, facts.now) for exporter in facts.exporters
        ],
        "faults": [
            {"origin": fault.origin, "path": fault.path, "message": fault.message}
            for fault in facts.faults
        ],
    }


def _changes(changes: ReloadStatistics | None) -> dict[str, Any] | None:
    """What reloading and watching did since the start."""
    if changes is None:
        return None
    return {
        "added": changes.added,
        "changed": changes.changed,
        "removed": changes.removed,
        "lastAt": _time(changes.applied_at),
        "lastSeconds": round(changes.applied_in_s, 3),
        "failures": changes.failures,
    }


def _exporter(
    exporter: Exporter,
    sources: Mapping[tuple[str, str], int],
    sinks: Mapping[tuple[str, str], SinkReport],
    now: float,
) -> dict[str, Any]:
    name = exporter.id
    return {
        "name": name,
        "origin": exporter.origin,
        "warnings": list(exporter.warnings),
        "sources": [
            {
                "name": source.name,
                **_selected(source),
                "matchedSamples": sources.get((name, source.name), 0),
            }
            for source in exporter.sources
        ],
        "sinks": [
            {
                "name": sink.name,
                "endpoint": sink.otlp.url,
                "sources": list(sink.sources),
                **_sink(sinks[name, sink.name], now),
            }
            for sink in exporter.sinks
        ],
    }


def _selected(source: Source) -> dict[str, Any]:
    """As its author wrote it, nearly."""
    if isinstance(source.selector, ResourceSelection):
        return {"resourceSelectors": [str(one) for one in source.selector.selectors]}
    return {"metricsql": source.query}


def _sink(report: SinkReport, now: float) -> dict[str, Any]:
    ledger = report.ledger
    worker = report.worker
    return {
        "ledger": {
            "matched": report.matched,
            "delivered": ledger.delivered,
            "rejected": dict(ledger.rejected),
            "expired": ledger.expired,
            "dropped": dict(ledger.dropped),
            "queued": ledger.queued + report.open,
            "balanced": report.balanced,
        },
        "queue": {
            "requests": worker.queue.payloads,
            "bytes": worker.queue.bytes,
            "maxBytes": worker.queue.bytes_max,
            "oldestPointAgeSeconds": round(_oldest_age_s(report, now), 3),
        },
        "requests": dict(worker.requests),
        "sentBytes": worker.bytes_sent,
        "lastSuccessAt": _time(worker.last_success_at),
        "state": worker.state,
        "lastError": _remark(worker.last_error),
        "lastWarning": _remark(worker.last_warning),
        "paused": worker.paused or None,
    }


def _oldest_age_s(report: SinkReport, now: float) -> float:
    """Age of the oldest point that is queued or in an open batch; 0 where there is none."""
    opened = report.open_since
    return max(report.worker.oldest_point_age_s or 0.0, now - opened if opened else 0.0)


def _remark(remark: Remark | None) -> dict[str, Any] | None:
    return {"text": remark.text, "at": _time(remark.at)} if remark else None


def _time(seconds: float | None) -> str | None:
    """RFC 3339 in UTC, as Kubernetes writes times; None where it never happened."""
    if not seconds:
        return None
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=0)
    return moment.isoformat().replace("+00:00", "Z")


def unbalanced(reports: Iterable[SinkReport]) -> list[SinkReport]:
    """Sinks whose ledger does not balance; there is none unless we have a bug."""
    return [report for report in reports if not report.balanced]
