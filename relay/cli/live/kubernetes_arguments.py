"""Declare and read the arguments that say which Kubernetes API a command reads from.

Imports nothing that talks to one: :mod:`relay.cli.live.kubernetes` does, and takes 50 MiB of
modules that a command without these arguments has no use for.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from relay.control.kubernetes.kubeconfig import ClusterAccess, in_cluster, read_kubeconfig


def add_kubernetes_arguments(
    parser: argparse.ArgumentParser, group: argparse._ActionsContainer | None = None
) -> None:
    """Declare the arguments by which objects are read from a Kubernetes API.

    ``group``: that of the alternatives to it.
    """
    (group or parser).add_argument(
        "--kubernetes",
        action="store_true",
        help="read from the Kubernetes API of --kubeconfig, $KUBECONFIG, ~/.kube/config or this "
        "pod",
    )
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="implies --kubernetes")
    parser.add_argument("--context", default="", metavar="NAME", help="of the kubeconfig")


def wants_kubernetes(arguments: argparse.Namespace) -> bool:
    """Return whether the arguments name a Kubernetes API."""
    return bool(arguments.kubernetes or arguments.kubeconfig or arguments.context)


def access_of(arguments: argparse.Namespace) -> ClusterAccess:
    """Return the access that the arguments describe. Raises ConfigError."""
    path = arguments.kubeconfig
    if path is None and os.environ.get("KUBECONFIG"):
        path = Path(os.environ["KUBECONFIG"])
    if path is None and not os.environ.get("KUBERNETES_SERVICE_HOST"):
        path = Path.home() / ".kube/config"
    if path is None:
        return in_cluster(os.environ)
    return read_kubeconfig(path, context=arguments.context)
