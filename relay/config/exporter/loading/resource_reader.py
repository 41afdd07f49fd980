"""Reads the value of one resource by its kind, whatever document it stands in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from relay.config.export_policy import dialect
from relay.config.export_policy.build import build_export_policy, export_policy_schema
from relay.config.exporter import build
from relay.config.exporter import secrets as secrets_module
from relay.config.exporter.load_result import ObjectKey, SourceName
from relay.config.exporter.loading.resource import ManifestResource
from relay.config.exporter.secrets import build_secret_data
from relay.config.exporter.types import Exporter
from relay.config.schema.validate import Reading, Schema
from relay.config.yaml.document import Where
from relay.config.yaml.report import Report

_Builder = Callable[[Reading, tuple[str, str], str], Exporter]

_DIALECTS: Mapping[str, tuple[Callable[[], Schema], _Builder]] = {
    build.KIND: (build.exporter_schema, build.build_exporter),
    dialect.KIND: (export_policy_schema, build_export_policy),
}
"""Schema and builder of each kind that becomes an Exporter."""
EXPORTER_KINDS = tuple(_DIALECTS)
"""Kinds that become an Exporter."""
KINDS = (*EXPORTER_KINDS, secrets_module.KIND)
"""Kinds that are read."""


def read_resource(
    resource: ManifestResource, kind: str, value: object, *, source: SourceName = "files"
) -> None:
    """Read the value of a resource of one of :data:`KINDS`; its faults go to its report.

    ``resource.identity`` stays None if the value does not even tell that.
    """
    if kind == secrets_module.KIND:
        _read_secret(resource, value)
    else:
        _read_exporter(kind, resource, value, source)


def _read_exporter(
    kind: str, resource: ManifestResource, value: object, source: SourceName
) -> None:
    resource.exporter, identity = build_of_kind(
        kind, resource.report, value, resource.project, where=resource.where
    )
    if identity is None:
        return
    resource.identity = (kind, resource.project, *identity)
    resource.uid, resource.generation = resource.exporter.uid, resource.exporter.generation
    if resource.key is None:
        resource.key = ObjectKey(source, "", resource.exporter.kind, resource.project, *identity)


def build_of_kind(
    kind: str, report: Report, value: object, project: str, *, where: Where = ()
) -> tuple[Exporter, tuple[str, str] | None]:
    """Return the Exporter of a value of one of :data:`EXPORTER_KINDS`, with its namespace and name.

    Faults go to the report. The name is None if the value does not even tell that.
    """
    schema, builder = _DIALECTS[kind]
    reading = schema().read(report, where, value)
    identity = build.identity_of(reading, kind)
    return builder(reading, identity or ("", ""), project), identity


def _read_secret(resource: ManifestResource, value: object) -> None:
    reading = build.secret_schema().read(resource.report, resource.where, value)
    identity = build.identity_of(reading, secrets_module.KIND)
    data = build_secret_data(reading)
    if identity is not None:
        resource.identity = (secrets_module.KIND, resource.project, *identity)
        if not resource.report.faulty:
            resource.data = data
            kind = reading.values.get("type")
            resource.type = kind if isinstance(kind, str) else ""
