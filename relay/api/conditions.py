"""The parts of figures and of ``/status`` that conditions are in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from relay.config.export_policy.conditions import policy_conditions, sink_conditions
from relay.config.export_policy.dialect import KIND
from relay.config.exporter.types import Exporter
from relay.control.kubernetes.status_body import condition_document
from relay.control.status.conditions import StatusCondition
from relay.control.status.object_status import ObjectConditions
from relay.runtime.event_loop import yield_to_loop
from relay.telemetry.snapshot import ClusterFigures, PolicyFigures

if TYPE_CHECKING:
    from relay.control.cluster.status_publisher import PublisherStatistics


def policy_figures(exporters: Iterable[Exporter]) -> Iterator[PolicyFigures]:
    """Yield the figures of each ExportPolicy."""
    for policy in exporters:
        if policy.kind != KIND:
            continue
        yield_to_loop()
        yield PolicyFigures(
            policy.project,
            policy.namespace,
            policy.name,
            policy.uid,
            policy.created_at,
            tuple((one.type, one.reason, one.status) for one in policy_conditions(policy)),
            tuple(
                (sink, one.type, one.reason, one.status) for sink, one in sink_conditions(policy)
            ),
        )


def cluster_figures(publishing: PublisherStatistics) -> ClusterFigures:
    """Return the figures of writing statuses and Events to Kubernetes."""
    events, writer = publishing.replicas.events, publishing.writer
    return ClusterFigures(
        leads=publishing.leader.leads,
        relays=len(publishing.replicas.members),
        unreached=sum(bool(one.why) for one in publishing.replicas.peers)
        if publishing.leader.leads
        else 0,
        status_writes={"written": publishing.written, "failed": publishing.failed},
        events={
            "written": events.written,
            "failed": events.failed,
            "given_up": events.schedule.given_up,
        },
        waiting=writer.schedule.waiting if writer is not None else 0,
        oldest_waiting_s=publishing.oldest_waiting_s,
    )


def conditions_document(exporter: Exporter, judged: ObjectConditions | None) -> dict[str, Any]:
    """Return the conditions of a running exporter, and its sinks that do not run.

    ``judged`` is None where it has just begun to run.
    """
    running = {sink.name for sink in exporter.sinks}
    sinks = judged.sinks if judged is not None else {}
    return {
        "kind": exporter.kind,
        "conditions": _conditions(judged.conditions if judged is not None else ()),
        "refusedSinks": [
            {"name": name, "conditions": _conditions(conditions)}
            for name, conditions in sinks.items()
            if name not in running
        ],
    }


def sink_conditions_document(judged: ObjectConditions | None, sink: str) -> dict[str, Any]:
    """Return the conditions of a running sink."""
    known: Mapping[str, tuple[StatusCondition, ...]] = judged.sinks if judged is not None else {}
    return {"conditions": _conditions(known.get(sink, ()))}


def not_running_document(judged: ObjectConditions) -> dict[str, Any]:
    """Return the document of an object of which nothing runs."""
    yield_to_loop()
    return {
        "name": judged.key.id,
        "kind": judged.key.kind,
        "source": judged.key.source,
        "controlPlane": judged.key.plane or None,
        "apiGroup": judged.key.group or None,
        "conditions": _conditions(judged.conditions),
    }


def _conditions(conditions: Iterable[StatusCondition]) -> list[dict[str, Any]]:
    return [condition_document(one) for one in conditions]
