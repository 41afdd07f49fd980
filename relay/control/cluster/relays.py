"""Compose this relay's part among those over the same objects, from settings and environment."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from relay.config.settings.kubernetes import KubernetesSettings
from relay.config.settings.settings import ListenAddress, Settings
from relay.control.cluster.cluster_source import ClusterSource
from relay.control.cluster.finalizers import FinalizerHost, FinalizerOptions, Finalizers
from relay.control.cluster.held_objects import HeldObjects
from relay.control.cluster.status_publisher import (
    CountedObjects,
    PublisherOptions,
    StatusPublisher,
)
from relay.control.kubernetes.client import ApiClient
from relay.control.kubernetes.kubeconfig import ClusterAccess, in_cluster, read_kubeconfig
from relay.control.replicas.peer_access import PeerAccess, advertised_address
from relay.control.replicas.presence import ReplicaIdentity
from relay.runtime.errors import ConfigError, Fault
from relay.runtime.event_loop import run_in_thread

_log = logging.getLogger("relay.control.cluster")

RELEASE_MARGIN_S: Final = 30.0
"""Longest time from the end of the drain timeout until a finalizer is taken away anyway; s."""
REREAD_S: Final = 10.0
"""Time between two looks at the kubeconfig of the relays' Leases; s."""


def make_publisher(
    settings: Settings,
    cluster: ClusterSource,
    board: CountedObjects,
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
    # A control plane gets no more connections than the source of objects may have. One that may
    # go takes its client along.
    own, projects = kubernetes.relays.kubeconfig, kubernetes.projects
    stays = own is None and (projects is None or projects.kubeconfigs is None)
    planes = cluster.planes if stays else ()
    shared = next((one.client for one in planes if one.access == access), None)
    client = shared or ApiClient(access, connections_max=2)
    publisher = StatusPublisher(
        client,
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
    kubeconfig = own or kubernetes.kubeconfig
    if shared is None and kubeconfig is not None:
        publisher.always(lambda: follow_kubeconfig(kubeconfig, client))
    return publisher


async def follow_kubeconfig(path: Path, client: ApiClient) -> None:
    """Give a client what its kubeconfig says, as it changes, until cancelled.

    A faulty kubeconfig changes nothing, and is logged once.
    """
    fault = ""
    while True:
        await asyncio.sleep(REREAD_S)
        try:
            access = await run_in_thread(lambda: read_kubeconfig(path))
        except ConfigError as error:
            if fault != str(error):
                fault = str(error)
                _log.warning("the kubeconfig of the relays' Leases is not used: %s", fault)
            continue
        fault = ""
        if access != client.access:
            client.replace_access(access)
            _log.info("relays' Leases have another access", extra={"server": access.server})


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
