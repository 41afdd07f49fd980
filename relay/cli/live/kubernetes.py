"""Read an Exporter or ExportPolicy, and the Secrets that it names, of a Kubernetes API."""

from __future__ import annotations

import argparse
import base64
import binascii
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from relay.config.export_policy import dialect
from relay.config.exporter import build
from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import Endpoint, Exporter, SecretRef, Sink
from relay.control.kubernetes.client import ApiClient, decoded
from relay.control.kubernetes.errors import AbsentError, KubernetesError
from relay.control.kubernetes.kubeconfig import ClusterAccess, in_cluster, read_kubeconfig
from relay.control.kubernetes.objects import ApiResource
from relay.runtime.errors import ConfigError, Fault
from relay.runtime.event_loop import run_on_uvloop

_SECRETS: Final = ApiResource("", "v1", "secrets", "Secret")


def _resource(api_version: str, plural: str, kind: str) -> ApiResource:
    group, _, version = api_version.partition("/")
    return ApiResource(group, version, plural, kind)


_RESOURCES: Final[dict[str, tuple[ApiResource, ...]]] = {
    build.KIND: (_resource(build.API_VERSION, "exporters", build.KIND),),
    dialect.KIND: tuple(
        _resource(version, "exportpolicies", dialect.KIND) for version in dialect.API_VERSIONS
    ),
}


def add_kubernetes_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments by which an object is read from a Kubernetes API."""
    parser.add_argument(
        "--kubernetes",
        action="store_true",
        help="read the exporter from the Kubernetes API of --kubeconfig, $KUBECONFIG, "
        "~/.kube/config or this pod",
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


def fetch_exporter(access: ClusterAccess, name: str) -> dict[str, Any]:
    """Return an object by its id, ``[namespace/][ExportPolicy/]name``. Raises ConfigError."""
    *namespace, own = (quote(part, safe="") for part in name.split("/"))
    kind = build.KIND
    if namespace and namespace[-1] == dialect.KIND:
        kind = namespace.pop()
    if len(namespace) > 1:
        raise ConfigError([Fault("--exporter", "must be namespace/name on Kubernetes")])
    where = namespace[0] if namespace else access.namespace or "default"
    paths = [resource.path(where, own) for resource in _RESOURCES[kind]]
    return run_on_uvloop(_first(access, paths, f"{kind} {where}/{own}"))


def fetch_secrets(access: ClusterAccess, exporter: Exporter, sink: Sink) -> SecretStore:
    """Return the Secrets that a sink refers to; missing ones are not in it. Raises ConfigError."""
    names = {reference.name for reference in _references(sink.endpoint)}
    return run_on_uvloop(_secrets(access, exporter, sorted(names)))


async def _first(access: ClusterAccess, paths: Iterable[str], what: str) -> dict[str, Any]:
    async with ApiClient(access) as client:
        for path in paths:
            try:
                return decoded(await client.request("GET", path), dict[str, Any])
            except AbsentError:
                continue
            except KubernetesError as error:
                raise ConfigError([Fault("--kubernetes", f"{access.server}: {error}")]) from error
    raise ConfigError([Fault("--exporter", f"{access.server} has no {what}")])


async def _secrets(access: ClusterAccess, exporter: Exporter, names: Iterable[str]) -> SecretStore:
    store = SecretStore()
    async with ApiClient(access) as client:
        for name in names:
            path = _SECRETS.path(exporter.namespace, name)
            try:
                found = decoded(await client.request("GET", path), _Secret)
                data = {key: base64.b64decode(text) for key, text in found.data.items()}
            except AbsentError:
                continue
            except (KubernetesError, binascii.Error) as error:
                message = f"Secret {exporter.namespace}/{name}: {error}"
                raise ConfigError([Fault("--kubernetes", message)]) from error
            store.add(exporter.project, exporter.namespace, name, data, found.type)
    return store


class _Secret(msgspec.Struct):
    data: dict[str, str] = {}
    type: str = ""


def _references(endpoint: Endpoint) -> Iterable[SecretRef]:
    tls = endpoint.tls
    references = (
        endpoint.authentication.secret,
        tls.ca if tls else None,
        tls.certificate if tls else None,
    )
    return (reference for reference in references if reference is not None)
