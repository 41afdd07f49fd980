"""Metrics of ExportPolicies, with the names and labels of the platform's operator.

They are the only metrics that do not begin with ``relay_``: dashboards know them by these names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relay.telemetry.metric_spec import MetricSpec, Row
from relay.telemetry.snapshot import PolicyFigures, Snapshot

SERVICE_NAME: Final = "telemetry.miloapis.com"
RESOURCE_KIND: Final = "ExportPolicy"

_POLICY: Final = (
    "service_name",
    "resource_kind",
    "resourcemanager_datumapis_com_project_name",
    "resource_namespace",
    "resource_name",
    "resource_uid",
)


def _labels(policy: PolicyFigures) -> tuple[str, ...]:
    return (
        SERVICE_NAME,
        RESOURCE_KIND,
        policy.project,
        policy.namespace,
        policy.name,
        policy.uid,
    )


def _info(snapshot: Snapshot) -> Iterator[Row]:
    for policy in snapshot.policies:
        yield _labels(policy), 1


def _created(snapshot: Snapshot) -> Iterator[Row]:
    for policy in snapshot.policies:
        if policy.created_at is not None:
            yield _labels(policy), policy.created_at


def _conditions(snapshot: Snapshot) -> Iterator[Row]:
    for policy in snapshot.policies:
        labels = _labels(policy)
        for condition, reason, status in policy.conditions:
            yield (*labels, condition, reason, status), status == "True"


def _sink_conditions(snapshot: Snapshot) -> Iterator[Row]:
    for policy in snapshot.policies:
        labels = _labels(policy)
        for sink, condition, reason, status in policy.sink_conditions:
            yield (*labels, sink, condition, reason, status), status == "True"


POLICIES: tuple[MetricSpec, ...] = (
    MetricSpec(
        "datum_cloud_telemetry_export_policy_info",
        "info",
        "An ExportPolicy that the relay knows.",
        _POLICY,
        _info,
    ),
    MetricSpec(
        "datum_cloud_telemetry_export_policy_created",
        "gauge",
        "When an ExportPolicy was created, in seconds since the epoch, where its manifest says so.",
        _POLICY,
        _created,
    ),
    MetricSpec(
        "datum_cloud_telemetry_export_policy_status_condition",
        "gauge",
        "1 where a condition of an ExportPolicy is True, 0 where it is not.",
        (*_POLICY, "condition", "reason", "status"),
        _conditions,
    ),
    MetricSpec(
        "datum_cloud_telemetry_export_policy_sink_status_condition",
        "gauge",
        "1 where a condition of a sink of an ExportPolicy is True, 0 where it is not.",
        (*_POLICY, "sink_name", "condition", "reason", "status"),
        _sink_conditions,
    ),
)
