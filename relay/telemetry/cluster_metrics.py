"""Metrics of Kubernetes, and of the relay's own API; none without.

Kubernetes: control planes, statuses, and relays that share the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from relay.telemetry.metric_spec import MetricSpec, Row, by
from relay.telemetry.snapshot import (
    ApiFigures,
    ClusterFigures,
    KubernetesFigures,
    KubernetesWatch,
    Snapshot,
)

_WATCH: Final = ("plane", "resource")


def _one(read: Callable[[ClusterFigures], float]) -> Callable[[Snapshot], Iterable[Row]]:
    return lambda snapshot: [((), read(snapshot.cluster))] if snapshot.cluster else []


def _per_watch(value: Callable[[KubernetesWatch], float]) -> Callable[[Snapshot], Iterable[Row]]:
    return lambda snapshot: (
        ((plane.name, watch.resource), value(watch))
        for plane in snapshot.kubernetes
        for watch in plane.watches
    )


def _per_plane(
    value: Callable[[KubernetesFigures], float],
) -> Callable[[Snapshot], Iterable[Row]]:
    return lambda snapshot: (((plane.name,), value(plane)) for plane in snapshot.kubernetes)


def _per_plane_by(
    read: Callable[[KubernetesFigures], Mapping[str, int]],
) -> Callable[[Snapshot], Iterable[Row]]:
    """Return a reader of a metric with label ``plane``, and one for the keys of a mapping."""
    return lambda snapshot: (
        ((plane.name, key), count)
        for plane in snapshot.kubernetes
        for key, count in read(plane).items()
    )


CLUSTER_METRICS: Final = (
    MetricSpec(
        "relay_kubernetes_leader",
        "gauge",
        "1 while this relay writes the statuses of objects on Kubernetes, for all relays.",
        (),
        _one(lambda c: c.leads),
    ),
    MetricSpec(
        "relay_kubernetes_relays",
        "gauge",
        "Relays that share the work on the same objects, this one included.",
        (),
        _one(lambda c: c.relays),
    ),
    MetricSpec(
        "relay_kubernetes_relays_unreached",
        "gauge",
        "Relays whose report this one cannot read while it leads: statuses are Unknown, NoReport.",
        (),
        _one(lambda c: c.unreached),
    ),
    MetricSpec(
        "relay_kubernetes_status_writes_total",
        "counter",
        "Writes of a status to Kubernetes, by result: written or failed. Failed ones are repeated.",
        ("result",),
        by(lambda s: s.cluster.status_writes if s.cluster else {}),
    ),
    MetricSpec(
        "relay_kubernetes_statuses_waiting",
        "gauge",
        "Objects with a changed condition that is not written yet.",
        (),
        _one(lambda c: c.waiting),
    ),
    MetricSpec(
        "relay_kubernetes_status_oldest_waiting_seconds",
        "gauge",
        "For how long the oldest changed condition has waited to be written.",
        (),
        _one(lambda c: c.oldest_waiting_s),
    ),
    MetricSpec(
        "relay_kubernetes_events_total",
        "counter",
        "Events on Kubernetes, by result: written, failed or given_up.",
        ("result",),
        by(lambda s: s.cluster.events if s.cluster else {}),
    ),
)

PLANE_METRICS: Final = (
    MetricSpec(
        "relay_kubernetes_synced",
        "gauge",
        "1 while the objects of a control plane are watched; 0: they are as last seen.",
        _WATCH,
        _per_watch(lambda one: one.synced),
    ),
    MetricSpec(
        "relay_kubernetes_stale_seconds",
        "gauge",
        "Time since when the objects of a control plane were last watched; 0 while they are.",
        _WATCH,
        _per_watch(lambda one: one.stale_s),
    ),
    MetricSpec(
        "relay_kubernetes_objects",
        "gauge",
        "Objects of a control plane that are known.",
        _WATCH,
        _per_watch(lambda one: one.objects),
    ),
    MetricSpec(
        "relay_kubernetes_lists_total",
        "counter",
        "Complete lists of a control plane's objects; more than a few mean that watches break.",
        _WATCH,
        _per_watch(lambda one: one.lists),
    ),
    MetricSpec(
        "relay_kubernetes_watch_failures_total",
        "counter",
        "Lists and watches that failed, and were tried again after a pause.",
        _WATCH,
        _per_watch(lambda one: one.failures),
    ),
    MetricSpec(
        "relay_kubernetes_unusable_objects_total",
        "counter",
        "Objects and events that could not be read; their last good version stays.",
        _WATCH,
        _per_watch(lambda one: one.unusable),
    ),
    MetricSpec(
        "relay_kubernetes_requests_total",
        "counter",
        "Requests to a control plane by the status code of the answer, or unreachable.",
        ("plane", "code"),
        _per_plane_by(lambda plane: plane.requests),
    ),
    MetricSpec(
        "relay_kubernetes_connections",
        "gauge",
        "Connections to a control plane in use.",
        ("plane",),
        _per_plane(lambda plane: plane.connections),
    ),
    MetricSpec(
        "relay_kubernetes_secrets",
        "gauge",
        "Secrets that Exporters of a control plane refer to: held, or absent.",
        ("plane", "state"),
        _per_plane_by(lambda plane: plane.secrets),
    ),
    MetricSpec(
        "relay_kubernetes_internal_errors_total",
        "counter",
        "Unexpected errors while a control plane was watched. Above 0 is a bug: see the log.",
        ("plane",),
        _per_plane(lambda plane: plane.bugs),
    ),
)


def _of_api(read: Callable[[ApiFigures], float]) -> Callable[[Snapshot], Iterable[Row]]:
    return lambda snapshot: [((), read(snapshot.own_api))] if snapshot.own_api else []


def _api_requests(snapshot: Snapshot) -> Iterator[Row]:
    if snapshot.own_api is not None:
        for (method, code), count in snapshot.own_api.answers.items():
            yield (method, str(code)), count


def _api_objects(snapshot: Snapshot) -> Iterator[Row]:
    if snapshot.own_api is not None:
        for kind, count in snapshot.own_api.objects.items():
            yield (kind,), count


def _api_changes(snapshot: Snapshot) -> Iterator[Row]:
    if snapshot.own_api is not None:
        yield ("stored",), snapshot.own_api.changes
        yield ("failed",), snapshot.own_api.failed


def _api_token_faults(snapshot: Snapshot) -> Iterator[Row]:
    if snapshot.own_api is not None and snapshot.own_api.token_faults is not None:
        yield (), snapshot.own_api.token_faults


API_METRICS: Final = (
    MetricSpec(
        "relay_api_requests_total",
        "counter",
        "Requests to the relay's own API that were answered, by method and status code.",
        ("method", "code"),
        _api_requests,
    ),
    MetricSpec(
        "relay_api_requests_in_progress",
        "gauge",
        "Requests to the relay's own API in progress, without watches.",
        (),
        _of_api(lambda a: a.requests),
    ),
    MetricSpec(
        "relay_api_watches",
        "gauge",
        "Watches of the relay's own API that are open.",
        (),
        _of_api(lambda a: a.watches),
    ),
    MetricSpec(
        "relay_api_objects",
        "gauge",
        "Objects of the relay's own API, by kind.",
        ("kind",),
        _api_objects,
    ),
    MetricSpec(
        "relay_api_version",
        "gauge",
        "The resourceVersion of the last change of an object of the relay's own API.",
        (),
        _of_api(lambda a: a.version),
    ),
    MetricSpec(
        "relay_api_changes_total",
        "counter",
        "Changes of objects of the relay's own API, by result: stored or failed.",
        ("result",),
        _api_changes,
    ),
    MetricSpec(
        "relay_api_transactions_total",
        "counter",
        "Transactions that made changes of the relay's own API durable, many at once.",
        (),
        _of_api(lambda a: a.transactions),
    ),
    MetricSpec(
        "relay_api_changes_waiting",
        "gauge",
        "Changes of objects of the relay's own API that are not durable yet.",
        (),
        _of_api(lambda a: a.waiting),
    ),
    MetricSpec(
        "relay_api_token_faults",
        "gauge",
        "Faults of the API's file of tokens; above 0 its users are those of an earlier file.",
        (),
        _api_token_faults,
    ),
)
