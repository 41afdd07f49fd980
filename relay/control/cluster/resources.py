"""Name the kinds of objects that a control plane is watched for."""

from __future__ import annotations

from typing import Final

from relay.config.export_policy import dialect
from relay.config.exporter import build
from relay.control.kubernetes.objects import ApiResource


def _of(api_version: str, plural: str, kind: str) -> ApiResource:
    group, _, version = api_version.partition("/")
    return ApiResource(group, version, plural, kind)


EXPORTERS: Final = _of(build.API_VERSION, "exporters", build.KIND)
EXPORT_POLICIES: Final = tuple(
    _of(version, "exportpolicies", dialect.KIND) for version in dialect.API_VERSIONS
)
"""One kind in two groups; a server has one of them, both, or none."""
EXPORTING: Final = (EXPORTERS, *EXPORT_POLICIES)
"""Kinds that become Exporters, in the order in which they claim names."""
NAMESPACES: Final = ApiResource("", "v1", "namespaces", "Namespace", namespaced=False)
SECRETS: Final = ApiResource("", "v1", "secrets", "Secret")
SECRET_VERSIONS: Final = ApiResource("", "v1", "secrets", "Secret", versions_only=True)
"""Secrets as they are watched: to learn of a change, never of a value."""
