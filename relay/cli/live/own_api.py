"""Ask a relay's own API, where the kubeconfig leads to one, instead of fetching objects from it.

It answers previews, tests and explanations itself, with the Secrets that it shows to nobody and for
users who cannot reach the admin listener. Kubernetes has none of these kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

import msgspec

from relay.config.export_policy import dialect
from relay.control.cluster.resources import EXPORTERS
from relay.control.kubernetes.client import ApiClient, ClientTimings, decoded
from relay.control.kubernetes.errors import KubernetesError, RequestRefusedError
from relay.control.kubernetes.kubeconfig import ClusterAccess
from relay.control.kubernetes.objects import ApiResource
from relay.runtime.errors import ConfigError, Fault
from relay.runtime.event_loop import run_on_uvloop

PREVIEWS: Final = replace(EXPORTERS, plural="exporterpreviews", kind="ExporterPreview")
TESTS: Final = replace(EXPORTERS, plural="sinktests", kind="SinkTest")
EXPLANATIONS: Final = replace(EXPORTERS, plural="seriesexplanations", kind="SeriesExplanation")
_ANSWER_S: Final = 180.0
"""Longest wait for an answer: others are previewed and measured before."""


def answers(access: ClusterAccess, resource: ApiResource) -> bool:
    """Return whether an API answers a kind that can only be created. Raises ConfigError."""
    return run_on_uvloop(_answers(access, resource))


def ask_api(
    access: ClusterAccess, resource: ApiResource, namespace: str, spec: Mapping[str, Any]
) -> dict[str, Any]:
    """Create an object that is answered and not stored; return its status. Raises ConfigError."""
    return run_on_uvloop(_ask(access, resource, namespace, spec))


def namespace_and_name(access: ClusterAccess, exporter: str) -> tuple[str, str]:
    """Return the namespace of ``[namespace/][ExportPolicy/]name``, and the name as the API has it.

    Raises ConfigError.
    """
    *place, name = exporter.split("/")
    if place and place[-1] == dialect.KIND:
        name = f"{place.pop()}/{name}"
    if len(place) > 1:
        raise ConfigError([Fault("--exporter", "must be namespace/name on Kubernetes")])
    return (place[0] if place else access.namespace or "default"), name


async def _answers(access: ClusterAccess, resource: ApiResource) -> bool:
    async with ApiClient(access) as client:
        try:
            body = await client.request("GET", f"/apis/{resource.api_version}")
            found = decoded(body, _Resources)
        except RequestRefusedError:
            return False  # what is asked instead tells why, if it is refused as well
        except KubernetesError as error:
            raise _fault(access, error) from error
    return any(one.name == resource.plural for one in found.resources)


async def _ask(
    access: ClusterAccess, resource: ApiResource, namespace: str, spec: Mapping[str, Any]
) -> dict[str, Any]:
    path = resource.path(quote(namespace, safe=""))
    document = {"apiVersion": resource.api_version, "kind": resource.kind, "spec": spec}
    async with ApiClient(access, timings=ClientTimings(answer_s=_ANSWER_S)) as client:
        try:
            body = await client.request("POST", path, document=document)
            return decoded(body, _Answered).status
        except KubernetesError as error:
            raise _fault(access, error) from error


def _fault(access: ClusterAccess, error: KubernetesError) -> ConfigError:
    return ConfigError([Fault("--kubernetes", f"{access.server}: {error}")])


class _Named(msgspec.Struct):
    name: str


class _Resources(msgspec.Struct):
    resources: list[_Named] = []


class _Answered(msgspec.Struct):
    status: dict[str, Any] = {}
