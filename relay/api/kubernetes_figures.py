"""Figures of control planes for a scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.telemetry.snapshot import KubernetesFigures, KubernetesWatch

if TYPE_CHECKING:
    from relay.control.cluster.control_plane import ControlPlaneStatistics
    from relay.control.kubernetes.reflector import ReflectorStatistics


def kubernetes_figures(plane: ControlPlaneStatistics) -> KubernetesFigures:
    """Return the figures of one control plane."""
    secrets = plane.secrets
    return KubernetesFigures(
        plane.name,
        tuple(_watch(name, kind, plane.now) for name, kind in plane.kinds.items()),
        dict(plane.client.requests),
        plane.client.connections,
        {"held": secrets.held, "absent": secrets.referred - secrets.held},
        plane.bugs,
    )


def _watch(name: str, found: ReflectorStatistics, now: float) -> KubernetesWatch:
    return KubernetesWatch(
        name,
        synced=found.freshness == "synced",
        stale_s=0.0 if found.stale_since is None else max(0.0, now - found.stale_since),
        objects=found.store.objects,
        lists=found.lists,
        failures=found.failures,
        unusable=found.unusable,
    )
