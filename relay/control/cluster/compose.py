"""Compose the sources of the desired state that the settings name."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from relay.config.exporter.loading.combine import Combiner
from relay.config.settings.settings import Settings
from relay.control.cluster.cluster_source import ClusterSource
from relay.control.cluster.control_plane import ControlPlaneStatistics, PlaneOptions
from relay.control.cluster.plane_set import PlaneSet
from relay.control.kubernetes.cache_file import CACHE_DIRECTORY
from relay.control.reconcile.combined_source import CombinedSource
from relay.control.reconcile.file_source import FileResources
from relay.control.reconcile.resource_source import ResourceSource


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that the desired state is read from; ``cluster`` is None without Kubernetes."""

    state: CombinedSource
    cluster: ClusterSource | None

    def statistics(self) -> tuple[ControlPlaneStatistics, ...]:
        """Return a snapshot of each control plane."""
        planes = self.cluster.planes if self.cluster is not None else ()
        return tuple(plane.statistics() for plane in planes)


def make_sources(settings: Settings) -> Sources:
    """Make the sources: files first, then Kubernetes. Each has to be started by itself."""
    # One lock: the resources of all sources are touched while they are combined.
    lock = asyncio.Lock()
    combiner = Combiner(
        secrets_root=settings.secrets,
        tenancy=settings.tenancy is not None,
        limits=settings.limits,
    )
    sources: list[ResourceSource] = [FileResources(settings, combiner, lock)]
    cluster = _make_cluster(settings)
    if cluster is not None:
        sources.append(cluster)
    watched = None if settings.watch.enabled else frozenset({ClusterSource.name})
    return Sources(CombinedSource(sources, combiner, lock, watched=watched), cluster)


def _make_cluster(settings: Settings) -> ClusterSource | None:
    if settings.kubernetes is None:
        return None
    projects = settings.kubernetes.projects
    options = PlaneOptions(
        namespaces=settings.kubernetes.namespaces,
        namespace_label=projects.namespace_label if projects is not None else "",
        cache=settings.storage.path / CACHE_DIRECTORY if settings.storage is not None else None,
    )
    return ClusterSource(settings.kubernetes, PlaneSet(settings.kubernetes, options=options))
