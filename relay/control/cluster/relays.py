"""Compose this relay's part among those over the same objects, from settings and environment."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

from relay.config.settings.kubernetes import KubernetesSettings
from relay.config.settings.settings import ListenAddress, Settings
from relay.control.cluster.cluster_source import ClusterSource
from relay.control.cluster.finalizers import FinalizerHost, FinalizerOptions, Finalizers
from relay.control.cluster.held_objects import HeldObjects
from relay.control.cluster.status_publisher import (
    JudgedObjects,
    PublisherOptions,
    StatusPublisher,
)
from relay.control.kubernetes.client import ApiClient
from relay.control.kubernetes.kubeconfig import ClusterAccess, in_cluster, read_kubeconfig
from relay.control.replicas.peer_access import PeerAccess, advertised_address
from relay.control.replicas.presence import ReplicaIdentity
from relay.runtime.errors import ConfigError, Fault

RELEASE_MARGIN_S: Final = 30.0
"""Longest time from the end of the drain timeout until a finalizer is taken away anyway; s."""


def make_publisher(
    settings: Settings,
    cluster: ClusterSource,
    board: JudgedObjects,
    held: HeldObjects,
    *,
    listen: ListenAddress,
    environment: Mapping[str, str],
    hostname: str,
) -> StatusPublisher:
    """Return what writes statuses and finalizers.

    ``listen`` is the bound address of the admin listener.
    Raises ConfigError if the cluster of the relays' Leases cannot be told.
    """
    kubernetes = settings.kubernetes
    assert kubernetes is not None
    access = access_of_relays(kubernetes, environment)
    peers = PeerAccess(settings.admin, ca_file=kubernetes.relays.ca_file)
    identity = ReplicaIdentity(
        kubernetes.relays.namespace
        or environment.get("POD_NAMESPACE", "")
        or access.namespace
        or "default",
        kubernetes.relays.group,
        environment.get("POD_NAME", "") or f"{hostname}-{listen.port}",
        secrets.token_hex(4),
        advertised_address(
            kubernetes.relays.advertise, listen, peers.scheme, environment, hostname
        ),
    )
    # A control plane gets no more connections than the source of objects may have.
    shared = next((one.client for one in cluster.planes if one.access == access), None)
    publisher = StatusPublisher(
        shared or ApiClient(access, connections_max=2),
        PublisherOptions(
            identity,
            peers,
            float(kubernetes.status_writes_per_second_max),
            owns_client=shared is None,
        ),
        board,
        cluster.target,
        draining=held.draining,
    )
    replicas = publisher.replicas
    finalizers = Finalizers(
        FinalizerHost(
            seen=cluster.seen,
            revision=lambda: (cluster.revision, publisher.count()),
            judged=publisher.uids,
            held=lambda: held.all() | replicas.reports.held(),
            settled=lambda: replicas.settled,
            spend=publisher.spend,
        ),
        FinalizerOptions(
            kubernetes.finalizer, settings.shutdown.drain_timeout_s + RELEASE_MARGIN_S
        ),
    )
    publisher.also(finalizers.run)
    return publisher


def access_of_relays(
    kubernetes: KubernetesSettings, environment: Mapping[str, str]
) -> ClusterAccess:
    """Return the access to the cluster of the relays' Leases. Raises ConfigError."""
    kubeconfig = kubernetes.relays.kubeconfig or kubernetes.kubeconfig
    if kubeconfig is not None:
        return read_kubeconfig(kubeconfig)
    try:
        return in_cluster(environment)
    except ConfigError as error:
        if kubernetes.in_cluster:
            raise
        message = "is needed outside of a pod: Leases tell which relay writes statuses"
        raise ConfigError([Fault("kubernetes.relays.kubeconfig", message)]) from error
