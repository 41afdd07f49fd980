"""The parts of figures and of ``/status`` that only an ExportPolicy has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from relay.config.export_policy.conditions import (
    PolicyCondition,
    policy_conditions,
    sink_conditions,
)
from relay.config.export_policy.dialect import KIND
from relay.config.exporter.types import Exporter
from relay.runtime.event_loop import yield_to_loop
from relay.telemetry.snapshot import PolicyFigures


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


def policy_document(exporter: Exporter) -> dict[str, Any]:
    """Return the conditions of an ExportPolicy, and its sinks that do not run; {} for others."""
    if exporter.kind != KIND:
        return {}
    running = {sink.name for sink in exporter.sinks}
    return {
        "kind": exporter.kind,
        "conditions": [_condition(one) for one in policy_conditions(exporter)],
        "refusedSinks": [
            {"name": name, "conditions": [_condition(one)]}
            for name, one in sink_conditions(exporter)
            if name not in running
        ],
    }


def policy_sink_document(exporter: Exporter) -> dict[str, dict[str, Any]]:
    """Return the conditions of the running sinks of an ExportPolicy, by name; {} for others."""
    if exporter.kind != KIND:
        return {}
    return {name: {"conditions": [_condition(one)]} for name, one in sink_conditions(exporter)}


def _condition(one: PolicyCondition) -> dict[str, str]:
    return {"type": one.type, "status": one.status, "reason": one.reason, "message": one.message}
