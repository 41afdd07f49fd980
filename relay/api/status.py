"""Build the scrape's snapshot and the ``/status`` document from the same reports.

Neither contains a secret: an endpoint is shown without query or user part, which validation refuses
anyway.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from relay import __version__
from relay.api.conditions import (
    cluster_figures,
    conditions_document,
    not_running_document,
    policy_figures,
    sink_conditions_document,
)
from relay.api.contract import EVERYTHING, StatusFilter
from relay.api.kubernetes_figures import kubernetes_figures
from relay.api.records_status import (
    RecordsView,
    outputs_document,
    record_figures,
    record_sources_document,
    records_document,
)
from relay.api.sink_document import sink_document
from relay.api.storage_status import (
    journal_document,
    journal_figures,
    journal_storage,
    orphan_document,
    orphan_figures,
    queues_document,
    queues_figures,
    removed_figures,
    time_document,
    without_namesakes,
)
from relay.api.usage_status import figures_document, project_documents, project_figures
from relay.config.exporter.records.outputs import main_url, signals_of
from relay.config.exporter.types import Exporter, Source, kind_and_version
from relay.control.durability.admission import ZERO_MEMORY, MemoryStatistics
from relay.control.durability.replay import IDLE_REPLAY, ReplayStatistics
from relay.control.projects.usage_facts import UsageFacts
from relay.control.reconcile.reloader import ReloadStatistics
from relay.control.reconcile.sink_report import SinkReport
from relay.control.status.object_status import ObjectConditions
from relay.pipeline.drop_counters import REASONS
from relay.pipeline.metrics.metadata.project_types import Contradiction
from relay.pipeline.routing.match_set import SourceCounter
from relay.pipeline.statistics import EngineStatistics
from relay.runtime.errors import Fault
from relay.runtime.event_loop import yield_to_loop
from relay.selector.resources.label_selector import ResourceSelection
from relay.sink.reporting.health import STATES, State
from relay.sink.reporting.ledger import LedgerStatistics
from relay.storage.journal.statistics import JournalStatistics
from relay.telemetry.snapshot import (
    ApiFigures,
    Drop,
    IngestFigures,
    LagFigures,
    SinkFigures,
    Snapshot,
    SourceFigures,
)

if TYPE_CHECKING:
    from relay.control.cluster.control_plane import ControlPlaneStatistics
    from relay.control.cluster.status_publisher import PublisherStatistics
    from relay.sink.spill.store import StoreStatistics

_SEVERITY: Sequence[State] = ("healthy", "behind", "paused", "failing")
"""States, the worst last: a sink counts by the worst of what it sends."""
UNEXPORTED_MAX = 100
"""Most families that a sink's status names as not exported; the metrics have all of them."""


class StatusSource(msgspec.Struct, frozen=True):
    """Source of snapshot and status, taken at one moment. ``now`` is the wall clock in s.

    ``lone_exemplars``: those that were sent to a batch of remote write 2.0, and found no point of
    their series there; once for each sink.

    Immutable but for the counts of sources, which may run some samples ahead: any thread may render
    it.
    """

    now: float
    started_at: float
    ingest: IngestFigures
    engine: EngineStatistics
    lag: LagFigures
    exporters: tuple[Exporter, ...]
    faults: tuple[Fault, ...]
    sources: tuple[SourceCounter, ...]
    sinks: tuple[SinkReport, ...]
    removed_ledger: LedgerStatistics
    changes: ReloadStatistics | None
    store: StoreStatistics | None = None
    journal: JournalStatistics | None = None
    replay: ReplayStatistics = IDLE_REPLAY
    memory: MemoryStatistics = ZERO_MEMORY
    unreachable_endpoints: int = 0
    lone_exemplars: int = 0
    kubernetes: tuple[ControlPlaneStatistics, ...] = ()
    objects: tuple[ObjectConditions, ...] = ()
    """The conditions of all objects that were loaded."""
    publishing: PublisherStatistics | None = None
    """The state of writing statuses to Kubernetes."""
    usage: UsageFacts = msgspec.field(default_factory=UsageFacts)
    own_api: ApiFigures | None = None
    records: tuple[RecordsView, ...] = ()

    def snapshot(self) -> Snapshot:
        """Return the figures of a scrape."""
        return snapshot(self)

    def status(self, wanted: StatusFilter = EVERYTHING) -> dict[str, Any]:
        """Return the ``/status`` document; with a project, only what that project may see."""
        return project_document(self, wanted) if wanted.project else document(self, wanted)


def snapshot(facts: StatusSource) -> Snapshot:
    """Return the figures of a scrape."""
    engine = facts.engine
    sinks, removed = without_namesakes(facts.sinks, facts.removed_ledger)
    return Snapshot(
        version=__version__,
        build="compiled",
        ingest=facts.ingest,
        received_samples={str(name): n for name, n in engine.received_by_protocol.items()},
        dropped_samples=engine.dropped_samples,
        unmatched_samples=engine.router.unmatched_samples,
        sources=tuple(
            SourceFigures(counter.exporter, counter.source, counter.samples)
            for counter in facts.sources
        ),
        sinks=tuple(_sink_figures(report, facts.now) for report in sinks),
        orphans=orphan_figures(facts.store.orphans) if facts.store else None,
        removed_sinks=removed_figures(removed),
        storage=(
            *((journal_storage(facts.journal),) if facts.journal else ()),
            *((queues_figures(facts.store),) if facts.store else ()),
        ),
        journal=journal_figures(facts.journal, facts.replay) if facts.journal else None,
        cluster=cluster_figures(facts.publishing) if facts.publishing else None,
        own_api=facts.own_api,
        memory_bytes={
            "queued": facts.memory.queued_bytes,
            "open": facts.memory.open_bytes,
            "pending": facts.memory.pending_bytes,
        },
        memory_bytes_max=facts.memory.bytes_max,
        unreachable_endpoints=facts.unreachable_endpoints,
        kubernetes=tuple(kubernetes_figures(plane) for plane in facts.kubernetes),
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
            "dropped": engine.exemplars.dropped + facts.lone_exemplars,
        },
        delta_points=engine.deltas.outcomes,
        delta_states=engine.deltas.states,
        drops=engine.drops,
        exporters=len(facts.exporters),
        sink_kinds=Counter(_kinds(facts.exporters)),
        records=tuple(record_figures(one) for one in facts.records),
        policies=tuple(policy_figures(facts.exporters)),
        projects=project_figures(facts.usage, facts.exporters, facts.sinks),
        projects_forgotten=facts.usage.forgotten,
        exporter_faults=len(facts.faults),
        reloads=facts.changes.reloads if facts.changes else {},
        selectors_always_asked=engine.router.always_asked,
        inventory_objects=_inventory_objects(engine),
        ingest_next_position=engine.offsets.next,
        ingest_oldest_held_position=engine.offsets.low,
        loop_lag=facts.lag,
    )


def _inventory_objects(engine: EngineStatistics) -> dict[str, int]:
    """Return the number of known objects by where they are known from."""
    inventory = engine.inventory
    return {"manifests": inventory.from_manifests, "series": inventory.from_stream}


def _kinds(exporters: Iterable[Exporter]) -> Iterator[tuple[str, str]]:
    for exporter in exporters:
        yield_to_loop()
        yield from (kind_and_version(sink.endpoint) for sink in exporter.sinks)


def _sink_figures(report: SinkReport, now: float) -> SinkFigures:
    yield_to_loop()
    ledger = report.ledger
    worker = report.worker
    forecast = worker.forecast
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
        queue_bytes=report.queue.bytes,
        queue_bytes_max=report.queue.bytes_max,
        oldest_point_age_s=report.oldest_age_s(now),
        memory_bytes=report.queue.memory_bytes,
        stored_bytes=report.queue.stored_bytes,
        full_in_s=math.inf if forecast.full_in_s is None else forecast.full_in_s,
        stalled_s=forecast.stalled_s,
        unreachable=worker.circuit_open,
        requests=worker.requests,
        sent_bytes=worker.bytes_sent,
        last_success_at=worker.last_success_at or 0.0,
        last_error_at=worker.last_error.at if worker.last_error else 0.0,
        paused=bool(worker.paused),
        owner_paused=worker.owner_paused,
        internal_errors=worker.internal_errors,
        behind=worker.state == "behind",
        request_durations=worker.throughput.requests,
        delivery_latency=worker.throughput.latency,
    )


def document(facts: StatusSource, wanted: StatusFilter = EVERYTHING) -> dict[str, Any]:
    """Return the ``/status`` document for the operator."""
    engine = facts.engine
    return {
        "version": __version__,
        "build": "compiled",
        "startedAt": time_document(facts.started_at),
        "ingest": {
            "requests": {str(code): count for code, count in facts.ingest.requests.items()},
            "refusedRequests": dict(facts.ingest.refused),
            "receivedSamples": engine.received_samples,
            "droppedSamples": engine.dropped_samples,
            "unmatchedSamples": engine.router.unmatched_samples,
            "exemplars": {
                "received": engine.exemplars.received,
                "sent": engine.exemplars.sent,
                "dropped": engine.exemplars.dropped + facts.lone_exemplars,
                "waiting": engine.exemplars.waiting,
            },
            "activeSeries": engine.table.active,
            "metadataFamilies": engine.types.families,
            "metadataRefused": engine.types.refused,
            "metadataContradictions": [_contradiction(one) for one in engine.types.contradicted],
            "assembly": {
                "families": engine.assembly.families,
                "points": engine.assembly.points,
                "samples": engine.assembly.outcomes,
                "waitingSamples": engine.assembly.waiting_samples,
            },
            "firstSight": {
                "families": engine.first_sight.families,
                "samples": engine.first_sight.samples,
                "settledFamilies": engine.first_sight.settled,
                "earlyFamilies": engine.first_sight.early,
            },
            "deltas": {"streams": engine.deltas.states, "points": engine.deltas.outcomes},
            "records": {one.signal: records_document(one) for one in facts.records},
        },
        "changes": _changes(facts.changes),
        **_resources(facts, wanted, facts.exporters, facts.faults, facts.objects),
        "removedSinks": [
            {"exporter": report.exporter, "name": report.sink, **sink_document(report, facts.now)}
            for report in facts.sinks
            if report.removed
        ],
        "storage": {
            **(journal_document(facts.journal, facts.replay) if facts.journal else {}),
            **(queues_document(facts.store) if facts.store else {}),
        }
        or None,
        "memory": {"usedBytes": facts.memory.used_bytes, "maxBytes": facts.memory.bytes_max},
    }


def project_document(facts: StatusSource, wanted: StatusFilter) -> dict[str, Any]:
    """Return the document of one project: its exporters and faults, and nothing of any other."""
    project = wanted.project
    return {
        "project": project,
        **_resources(
            facts,
            wanted,
            [exporter for exporter in facts.exporters if exporter.project == project],
            [fault for fault in facts.faults if fault.project == project],
            [one for one in facts.objects if one.key.project == project],
        ),
        "orphans": [
            orphan_document(queue)
            for queue in (facts.store.orphans.queues if facts.store else ())
            if queue.exporter.startswith(f"{project}/")
        ],
        "metadataContradictions": [
            _contradiction(one) for one in facts.engine.types.contradicted if one.project == project
        ],
    }


def _contradiction(one: Contradiction) -> dict[str, Any]:
    """Return a family for which senders of one project report different types."""
    return {
        "project": one.project,
        "family": one.family,
        "type": one.kept,
        "otherType": one.other,
        "count": one.count,
    }


def _resources(
    facts: StatusSource,
    wanted: StatusFilter,
    exporters: Sequence[Exporter],
    faults: Iterable[Fault],
    objects: Sequence[ObjectConditions],
) -> dict[str, Any]:
    sources = {(counter.exporter, counter.source): counter.samples for counter in facts.sources}
    sinks = {(report.exporter, report.sink): report for report in facts.sinks if not report.removed}
    drops: dict[tuple[str, str], list[Drop]] = {}
    for drop in facts.engine.drops:
        drops.setdefault((drop.exporter, drop.sink), []).append(drop)
    states = Counter(
        max((sinks[one.id, name].worker.state for name in names.values()), key=_SEVERITY.index)
        for one in exporters
        for names in signals_of(one).values()
    )
    judged = {one.key.id: one for one in objects if one.runs}
    shown = (
        _exporter(exporter, judged.get(exporter.id), sources, sinks, drops, facts)
        for exporter in exporters
        if wanted.admits(exporter.id)
    )
    return {
        "summary": {
            "exporters": len(exporters),
            "sinks": {state: states[state] for state in STATES},
        },
        "exporters": [one for one in map(partial(_in_state, wanted.state), shown) if one],
        "notRunning": [
            not_running_document(one)
            for one in objects
            if not one.runs and not wanted.state and wanted.admits(one.key.id)
        ],
        "projects": project_documents(facts.usage, exporters, facts.sinks),
        "faults": [
            {"origin": fault.origin, "path": fault.path, "message": fault.message}
            for fault in faults
        ],
    }


def _in_state(state: str, exporter: dict[str, Any]) -> dict[str, Any] | None:
    """Reduce an exporter's document to sinks in ``state`` ("" means any); None if it has none."""
    if not state:
        return exporter
    sinks = [sink for sink in exporter["sinks"] if state in _states(sink)]
    return {**exporter, "sinks": sinks} if sinks else None


def _states(sink: Mapping[str, Any]) -> set[str]:
    """Return the states of what a sink sends: its own counts unless it has no metrics."""
    found = {one["state"] for one in sink["signals"]}
    of_records = {name for one in sink["signals"] for name in one["sources"]}
    if not found or not of_records.issuperset(sink["sources"]):
        found.add(sink["state"])
    return found


def _changes(changes: ReloadStatistics | None) -> dict[str, Any] | None:
    """Return the counts of reloading since the start."""
    if changes is None:
        return None
    return {
        "added": changes.added,
        "changed": changes.changed,
        "removed": changes.removed,
        "applied": changes.applied,
        "lastAt": time_document(changes.applied_at),
        "lastSeconds": round(changes.applied_in_s, 3),
        "failures": changes.failures,
    }


def _exporter(
    exporter: Exporter,
    judged: ObjectConditions | None,
    sources: Mapping[tuple[str, str], int],
    sinks: Mapping[tuple[str, str], SinkReport],
    drops: Mapping[tuple[str, str], Sequence[Drop]],
    facts: StatusSource,
) -> dict[str, Any]:
    yield_to_loop()
    name, usage = exporter.id, facts.usage.of(exporter.id)
    return {
        "name": name,
        **conditions_document(exporter, judged),
        "origin": exporter.origin,
        "warnings": [one.text for one in exporter.warnings],
        "usage": figures_document(usage.total),
        "sources": [
            {
                "name": source.name,
                **_selected(source),
                "matchedSamples": sources.get((name, source.name), 0),
                "usage": figures_document(usage.sources.get(source.name)),
            }
            for source in exporter.sources
        ]
        + record_sources_document(exporter, facts.records, usage.sources),
        "sinks": [
            {
                "name": sink.name,
                "endpoint": main_url(exporter, sink),
                "kind": kind_and_version(sink.endpoint)[0],
                "protocolVersion": kind_and_version(sink.endpoint)[1] or None,
                "sources": list(sink.sources),
                **sink_conditions_document(judged, sink.name),
                **sink_document(sinks[name, sink.name], facts.now),
                "usage": figures_document(usage.sinks.get(sink.name)),
                "unexported": _unexported(drops.get((name, sink.name), ())),
                "signals": outputs_document(exporter, sink.name, sinks, facts.now),
            }
            for sink in exporter.sinks
        ],
    }


def _unexported(drops: Sequence[Drop]) -> dict[str, Any]:
    """Return the samples that matched but became no point of a sink.

    Lists the most recent families and reasons, at most :data:`UNEXPORTED_MAX`.
    """
    latest = sorted(drops, key=lambda drop: -drop.last)[:UNEXPORTED_MAX]
    return {
        "samples": sum(drop.samples for drop in drops),
        "families": [
            {
                "family": drop.family,
                "reason": drop.reason,
                "meaning": REASONS.get(drop.reason, ""),
                "samples": drop.samples,
                "since": time_document(drop.since),
                "lastAt": time_document(drop.last),
            }
            for drop in latest
        ],
    }


def _selected(source: Source) -> dict[str, Any]:
    """Return a source's selection in nearly its author's notation."""
    if isinstance(source.selector, ResourceSelection):
        return {"resourceSelectors": [str(one) for one in source.selector.selectors]}
    return {"metricsql": source.query}
