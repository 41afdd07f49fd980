"""Determines the project of a series: the boundary between customers, outside of every selector.

Rules:

* A series belongs to the project that its tenancy label names, and to the project of the account
  under which it was sent (``/insert/<accountID>:<projectID>/…``), where the operator maps that.
  Where both say something, both must say the same; a series that contradicts itself has no project.
* On the multitenant path each series names its account in labels, a missing or unreadable number
  meaning 0 as in VictoriaMetrics; they are stripped before the series is matched.
* Without tenancy every series belongs to "", and so does every exporter.
* Metadata from a series belongs to the project of the series; a series without a project adds none.
  Metadata of remote write 1.0, which comes apart from series, belongs to the account of its path;
  on the multitenant path to the account that it is marked with (vmagent since 1.15x); and to the
  platform, :data:`PLATFORM`, where neither names an account. Metadata of an account without a
  project is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from relay.pipeline.contract import Tenant

Account: TypeAlias = tuple[int, int]
"""accountID and projectID of a VictoriaMetrics cluster, 32 bits each."""

ACCOUNT_LABEL: Final = "vm_account_id"
PROJECT_LABEL: Final = "vm_project_id"
ACCOUNT_LABELS: Final = frozenset((ACCOUNT_LABEL, PROJECT_LABEL))

_UINT32_MAX: Final = (1 << 32) - 1
_DIGITS_MAX: Final = 10


class IngestPath(NamedTuple):
    """The owner of a request's series by its path.

    Equal label bytes of two origins are two series. ``project`` is "" if the path names none;
    ``by_labels`` is the multitenant path, ``is_unmapped`` an account that no project has;
    ``is_otlp`` is for streams of OTLP metrics, whose keys are made of other labels.
    """

    project: str = ""
    by_labels: bool = False
    is_unmapped: bool = False
    is_otlp: bool = False


ANYWHERE: Final = IngestPath()
MULTITENANT: Final = IngestPath(by_labels=True)
UNMAPPED: Final = IngestPath(is_unmapped=True)

PLATFORM: Final = ""
"""Owner of metadata without a project: no project has this name; the only owner without tenancy."""


class Tenancy:
    """Determines projects of series; immutable. Without a label and accounts there is no tenancy.

    ``shares_metadata``: help and units of the platform are exported to every project.
    """

    __slots__ = ("_accounts", "enabled", "label", "shares_metadata")

    def __init__(
        self,
        label: str = "",
        accounts: Mapping[Account, str] | None = None,
        *,
        shares_metadata: bool = False,
    ) -> None:
        self.label: Final = label
        self.shares_metadata: Final = shares_metadata
        self._accounts: Final = dict(accounts or {})
        self.enabled: Final = bool(self.label or self._accounts)
        """True if series belong to projects."""

    def renamed(self, label: str) -> Tenancy:
        """Return the same tenancy with another label."""
        return Tenancy(label, self._accounts, shares_metadata=self.shares_metadata)

    def path_of(self, tenant: Tenant | None) -> IngestPath:
        """Return the ingest path of a request's tenant; None stands for a path that names none."""
        if tenant is None:
            return ANYWHERE
        if tenant.by_labels:
            return MULTITENANT
        return self.origin((tenant.account, tenant.project))

    def origin(self, account: Account | None) -> IngestPath:
        """Return the ingest path of an account; None stands for a path without one."""
        if account is None or not self.enabled:
            return ANYWHERE
        project = self._accounts.get(account)
        return IngestPath(project) if project else UNMAPPED

    def project_of(self, labels: Mapping[str, str], origin: IngestPath = ANYWHERE) -> str:
        """Return the project of a series; "" for none, and without tenancy."""
        named = labels.get(self.label, "") if self.label else ""
        owner = origin.project
        if origin.by_labels:
            account = _number(labels.get(ACCOUNT_LABEL)), _number(labels.get(PROJECT_LABEL))
            owner = self._accounts.get(account, "")
        if named and owner and named != owner:
            return ""
        return owner or named

    def teaches(self, project: str) -> bool:
        """Return True if metadata is learned from series of this project."""
        return bool(project) or not self.enabled

    def owner_of_metadata(self, origin: IngestPath, marked: Account | None) -> str | None:
        """Return the owner of remote write 1.0 metadata: a project, :data:`PLATFORM`, or None.

        ``marked`` is the account that the metadata itself names.
        """
        if not self.enabled:
            return PLATFORM
        if origin.by_labels:
            return PLATFORM if marked is None else self._accounts.get(marked)
        return None if origin.is_unmapped else origin.project

    def __repr__(self) -> str:
        return f"<Tenancy label {self.label!r}, {len(self._accounts)} accounts>"


def _number(text: str | None) -> int:
    """Parse an account part; 0 for a missing one or no 32-bit number, as VictoriaMetrics does."""
    if text is None or len(text) > _DIGITS_MAX or not (text.isascii() and text.isdigit()):
        return 0
    number = int(text)
    return number if number <= _UINT32_MAX else 0
