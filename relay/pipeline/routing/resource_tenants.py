"""Determines the project of an OTLP resource, by its attributes and the request's path."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from relay.pipeline.routing.tenancy import ACCOUNT_LABELS, IngestPath, Tenancy


class TenantRule(Protocol):
    """Options for the tenants of resources.

    ``tenant_attributes``: the first of these that a resource has names its project.
    ``reports_nobody``: senders are told of data of nobody.
    """

    @property
    def tenant_attributes(self) -> tuple[str, ...]:
        """Attributes that may name a project."""
        ...

    @property
    def reports_nobody(self) -> bool:
        """True if data of nobody is in partial success."""
        ...


@dataclass(frozen=True, slots=True)
class ResourceTenants:
    """A :class:`TenantRule` as a value."""

    tenant_attributes: tuple[str, ...] = ("milo.project.id",)
    reports_nobody: bool = True


DEFAULT_RULE: Final = ResourceTenants()


def project_of(
    attributes: Iterable[tuple[str, str]],
    origin: IngestPath,
    tenancy: Tenancy,
    names: Sequence[str],
) -> str | None:
    """Return the project of a resource; "" without tenancy, None for nobody's.

    ``names``: attributes that may name it; the first one that the resource has counts.
    """
    if not tenancy.enabled:
        return ""
    values = dict(reversed(list(attributes)))
    named = next((values[name] for name in names if values.get(name)), "")
    labels = {name: values[name] for name in ACCOUNT_LABELS if name in values}
    if named and tenancy.label:
        labels[tenancy.label] = named
    return tenancy.project_of(labels, origin) or None


def nobody(service: str, names: Sequence[str]) -> str:
    """Say that a resource of a service, "" for none, names no project, and how it would."""
    of = f" of service.name {service[:80]!r}" if service else ""
    return f"the resource{of} names no project: set its attribute {' or '.join(names)}"
