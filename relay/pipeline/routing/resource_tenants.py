"""Determine the project of an OTLP resource by its attributes and the request's path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from relay.pipeline.contract import Tenant
from relay.pipeline.routing.tenancy import ACCOUNT_LABELS, IngestPath, Tenancy
from relay.selector.records.selection import TENANT_ATTRIBUTES

NO_TENANT: Final = "no_tenant"
"""Reason for data of a resource without a project: neither it nor the path names one, or they name
two."""

_LABEL: Final = "project"
_SHOWN_CHARS_MAX: Final = 80


class _Naming(NamedTuple):
    """The attribute that names a project, "" for none; first values; and those with two."""

    name: str
    values: Mapping[str, str]
    twice: AbstractSet[str]

    def contradicting(self, origin: IngestPath) -> str:
        """Return an attribute that counts on this path and has two values, "" for none."""
        if self.name in self.twice:
            return self.name
        return min(self.twice & ACCOUNT_LABELS, default="") if origin.by_labels else ""


class ResourceTenants:
    """Determines projects of resources; immutable.

    ``tenancy`` has the accounts of paths. ``attributes``: the first of these that a resource has
    names its project. ``tells_senders``: senders are told of data without a project, which is
    counted either way.
    """

    __slots__ = ("_tenancy", "attributes", "tells_senders")

    def __init__(
        self,
        tenancy: Tenancy | None = None,
        attributes: tuple[str, ...] = TENANT_ATTRIBUTES,
        *,
        tells_senders: bool = True,
    ) -> None:
        tenancy = tenancy or Tenancy()
        # The label of series, if any, is none of resources: their attribute stands for it.
        self._tenancy: Final = tenancy.renamed(_LABEL) if tenancy.enabled else tenancy
        self.attributes: Final = attributes
        self.tells_senders: Final = tells_senders

    @property
    def enabled(self) -> bool:
        """True if resources belong to projects."""
        return self._tenancy.enabled

    def path_of(self, tenant: Tenant | None) -> IngestPath:
        """Return the ingest path of a request's tenant; None stands for a path that names none."""
        return self._tenancy.path_of(tenant)

    def project_of(self, attributes: Iterable[tuple[str, str]], origin: IngestPath) -> str | None:
        """Return the project of a resource; "" without tenancy, None if it has none.

        An attribute that is there twice with two values names none: another reader may take the
        other value.
        """
        if not self.enabled:
            return ""
        naming = self._naming(attributes)
        if naming.contradicting(origin):
            return None
        values, name = naming.values, naming.name
        labels = {label: values[label] for label in ACCOUNT_LABELS if label in values}
        if name:
            labels[_LABEL] = values[name]
        return self._tenancy.project_of(labels, origin) or None

    def fault(self, attributes: Sequence[tuple[str, str]], origin: IngestPath) -> str:
        """Return what a resource without a project is told: its fault, and how to mend it."""
        service = next((text for name, text in attributes if name == "service.name"), "")
        of = f" of service.name {service[:_SHOWN_CHARS_MAX]!r}" if service else ""
        naming = self._naming(attributes)
        if twice := naming.contradicting(origin):
            return f"the resource{of} has two values of its attribute {twice}: keep one of them"
        if naming.name:
            # Whose project the account is, is not for every sender to know.
            owner = "account of its attributes" if origin.by_labels else "account of its path"
            named = naming.values[naming.name][:_SHOWN_CHARS_MAX]
            return (
                f"the resource{of} names the project {named!r} in its attribute {naming.name}, but "
                f"the {owner} belongs to another: change one of the two"
            )
        names = " or ".join(self.attributes)
        account = ""
        if origin.is_unmapped:
            account = "path"
        elif origin.by_labels and naming.values.keys() & ACCOUNT_LABELS:
            account = "attributes"
        if account:
            return (
                f"the resource{of} names no project, and the account of its {account} belongs to "
                f"none: name it in tenancy.accounts, or set the resource's attribute {names}"
            )
        return f"the resource{of} names no project: set its attribute {names}"

    def _naming(self, attributes: Iterable[tuple[str, str]]) -> _Naming:
        """Return what a resource's attributes say of its project."""
        asked = ACCOUNT_LABELS.union(self.attributes)
        values: dict[str, str] = {}
        twice: set[str] = set()
        for name, text in attributes:
            if name in asked and values.setdefault(name, text) != text:
                twice.add(name)
        naming = (name for name in self.attributes if name in twice or values.get(name))
        return _Naming(next(naming, ""), values, twice)

    def __repr__(self) -> str:
        return f"<ResourceTenants {', '.join(self.attributes)}, {self._tenancy!r}>"
