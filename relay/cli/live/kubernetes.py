"""Read Exporters and ExportPolicies of a Kubernetes API, Secrets that one names, and Namespaces."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from relay.apiserver.objects.masking import MASK
from relay.config.export_policy import dialect
from relay.config.exporter import build
from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import Exporter, Sink
from relay.config.yaml.document import parse_documents
from relay.control.cluster.resources import EXPORTING, NAMESPACES, SECRETS
from relay.control.kubernetes.client import ApiClient, WatchTarget, decoded
from relay.control.kubernetes.errors import AbsentError, KubernetesError
from relay.control.kubernetes.kubeconfig import ClusterAccess
from relay.control.kubernetes.objects import ApiResource
from relay.control.preview.manifest import read_document
from relay.runtime.errors import ConfigError, Fault
from relay.runtime.event_loop import run_on_uvloop
from relay.selector.inventory.store import Object


@dataclass(frozen=True, slots=True)
class ClusterObjects:
    """The objects of a Kubernetes API; ``faults`` are those of objects that are left out."""

    exporters: tuple[Exporter, ...]
    namespaces: tuple[Object, ...]
    faults: tuple[Fault, ...]


def fetch_exporter(access: ClusterAccess, name: str) -> dict[str, Any]:
    """Return an object by its id, ``[namespace/][ExportPolicy/]name``. Raises ConfigError."""
    *namespace, own = (quote(part, safe="") for part in name.split("/"))
    kind = build.KIND
    if namespace and namespace[-1] == dialect.KIND:
        kind = namespace.pop()
    if len(namespace) > 1:
        raise ConfigError([Fault("--exporter", "must be namespace/name on Kubernetes")])
    where = namespace[0] if namespace else access.namespace or "default"
    paths = [resource.path(where, own) for resource in EXPORTING if resource.kind == kind]
    return run_on_uvloop(_first(access, paths, f"{kind} {where}/{own}"))


def fetch_secrets(access: ClusterAccess, exporter: Exporter, sink: Sink) -> SecretStore:
    """Return the Secrets that a sink refers to; missing ones are not in it. Raises ConfigError."""
    names = {reference.name for reference in sink.endpoint.references}
    return run_on_uvloop(_secrets(access, exporter, sorted(names)))


def fetch_all(access: ClusterAccess, *, need_sinks: bool = False) -> ClusterObjects:
    """Return every Exporter, ExportPolicy and Namespace. Raises ConfigError.

    Without ``need_sinks`` faults of sinks do not count.
    """
    return run_on_uvloop(_all(access, need_sinks=need_sinks))


async def _all(access: ClusterAccess, *, need_sinks: bool) -> ClusterObjects:
    exporters: dict[str, Exporter] = {}
    namespaces: list[Object] = []
    faults: list[Fault] = []
    async with ApiClient(access) as client:
        for resource in EXPORTING:
            for text in await _listed(client, resource, faults, needed=True):
                try:
                    (document,) = parse_documents(text, f"{access.server} {resource.plural}")
                    # Items of a list do not say of what kind they are.
                    value = document.value
                    if isinstance(value, dict):
                        value |= {"kind": resource.kind, "apiVersion": resource.api_version}
                    one = read_document(document, "", need_sinks=need_sinks)
                except ConfigError as error:
                    faults += error.faults
                else:
                    exporters.setdefault(one.id, one)
        for text in await _listed(client, NAMESPACES, faults, needed=False):
            found = msgspec.json.decode(text, type=_Namespace).metadata
            namespaces.append(
                Object("", "", NAMESPACES.kind, "", found.name, found.uid, found.labels)
            )
    return ClusterObjects(tuple(exporters.values()), tuple(namespaces), tuple(faults))


async def _listed(
    client: ApiClient, resource: ApiResource, faults: list[Fault], *, needed: bool
) -> list[str]:
    """Return all objects of a resource as JSON; none where the API does not have it."""
    items: list[str] = []
    token = ""
    try:
        while True:
            page = await client.list_page(WatchTarget(resource), continue_token=token)
            items += (item.decode() for item in page.items)
            token = page.continue_token
            if not token:
                return items
    except AbsentError:
        return []
    except KubernetesError as error:
        fault = Fault("--kubernetes", f"{client.access.server}: {resource.plural}: {error}")
        if needed:
            raise ConfigError([fault]) from error
        faults.append(fault)
        return []


class _NamespaceMetadata(msgspec.Struct):
    name: str
    uid: str = ""
    labels: dict[str, str] = {}


class _Namespace(msgspec.Struct):
    metadata: _NamespaceMetadata


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
            path = SECRETS.path(exporter.namespace, name)
            try:
                found = decoded(await client.request("GET", path), _Secret)
                if MASK in found.data.values():
                    message = (
                        f"Secret {exporter.namespace}/{name}: its values are not shown to this "
                        "user: use a token that reads Secrets, or ask the relay by --relay"
                    )
                    raise ConfigError([Fault("--kubernetes", message)])
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
