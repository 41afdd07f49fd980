"""Compose the sources of the desired state that the settings name.

What works with Kubernetes, which takes 2 MiB, is imported only where the settings name it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from relay.config.exporter.load_result import SourceName
from relay.config.exporter.loading.combine import Combiner, OriginResources
from relay.config.settings.settings import Settings
from relay.control.reconcile.combined_source import CombinedSource
from relay.control.reconcile.file_source import FileResources
from relay.control.reconcile.resource_source import ResourceSource

if TYPE_CHECKING:
    from relay.control.cluster.cluster_source import ClusterSource
    from relay.control.cluster.control_plane import ControlPlaneStatistics


class Sources(msgspec.Struct, frozen=True):
    """Everything that the desired state is read from; ``cluster`` is None without Kubernetes.

    ``is_served``: a source may give objects later, so that none at the start is no fault.
    """

    state: CombinedSource
    cluster: ClusterSource | None
    is_served: bool = False

    def files(self) -> tuple[OriginResources, ...]:
        """Return the resources of all files: the same object while none has changed."""
        return self.state.origins_of(FileResources.name)

    def statistics(self) -> tuple[ControlPlaneStatistics, ...]:
        """Return a snapshot of each control plane."""
        planes = self.cluster.planes if self.cluster is not None else ()
        return tuple(plane.statistics() for plane in planes)


def make_sources(settings: Settings, api: ResourceSource | None = None) -> Sources:
    """Make the sources: files first, then Kubernetes; ``api`` is that of the relay's own API.

    Each has to be started by itself.
    """
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
    if api is not None:
        sources.append(api)
    named: frozenset[SourceName] = frozenset({"kubernetes", "api"})
    watched = None if settings.watch.enabled else named
    state = CombinedSource(sources, combiner, lock, watched=watched)
    return Sources(state, cluster, cluster is not None or api is not None)


def _make_cluster(settings: Settings) -> ClusterSource | None:
    if settings.kubernetes is None:
        return None
    from relay.control.cluster.cluster_source import ClusterSource
    from relay.control.cluster.control_plane import PlaneOptions
    from relay.control.cluster.plane_set import PlaneSet
    from relay.control.kubernetes.cache_file import CACHE_DIRECTORY

    projects = settings.kubernetes.projects
    options = PlaneOptions(
        namespaces=settings.kubernetes.namespaces,
        namespace_label=projects.namespace_label if projects is not None else "",
        cache=settings.storage.path / CACHE_DIRECTORY if settings.storage is not None else None,
    )
    return ClusterSource(settings.kubernetes, PlaneSet(settings.kubernetes, options=options))
