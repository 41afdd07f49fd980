"""Users of the API: their projects, their roles, and what a role may do.

Roles: a viewer reads, previews and explains; an editor also tests sinks, and writes Exporters,
policies and Secrets; an admin also taps, and writes namespaces, status and Events. A user of every
project may read them all at once. Leases are written with tokens of relays, which read Secrets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from relay.apiserver.objects.failures import ApiRefusalError, forbidden
from relay.apiserver.objects.kinds import TAP, ResourceKind

Role = Literal["viewer", "editor", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
EVERY_PROJECT: Final = "*"
READING: Final = frozenset({"get", "list", "watch"})
_LEASES: Final = "leases"
_EDITED: Final = frozenset({"exporters", "exportpolicies", "secrets", "sinktests"})
_ASKED: Final = frozenset(
    {
        "exporterpreviews",
        "seriesexplanations",
        "selfsubjectreviews",
        "selfsubjectaccessreviews",
        "selfsubjectrulesreviews",
    }
)
"""Kinds whose creation only asks."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A user with the names of its projects, ``*`` for every one.

    ``reads_secrets``: Secrets are read with their values, as another relay needs them.
    """

    user: str
    projects: frozenset[str]
    role: Role
    reads_secrets: bool = False

    def may_enter(self, project: str) -> bool:
        """Return True if the user has a project; ``*`` needs every one."""
        return EVERY_PROJECT in self.projects or (
            project in self.projects and project != EVERY_PROJECT
        )

    def may(self, verb: str, kind: ResourceKind, subresource: str) -> bool:
        """Return True if the user's role allows a verb on a kind."""
        if kind.plural == _LEASES and verb not in READING:
            return self.reads_secrets  # they say where relays send their credential
        if self.role == "admin":
            return True
        if subresource == TAP:
            return False  # it shows live data, not objects
        if verb in READING:
            return True
        if kind.plural in _ASKED:
            return True
        return self.role == "editor" and kind.plural in _EDITED and not subresource


def forbidden_project(principal: Principal, verb: str, path: str) -> ApiRefusalError:
    """Return 403 for a project that a user does not have, whether or not it exists."""
    message = f'forbidden: User "{principal.user}" cannot {verb} path "{path}"'
    if not path.startswith("/projects/"):
        message += ": paths begin with /projects/<project>"
    return ApiRefusalError(403, "Forbidden", message, details={})


def forbidden_verb(
    principal: Principal,
    verb: str,
    kind: ResourceKind,
    subresource: str,
    namespace: str,
    name: str,
) -> ApiRefusalError:
    """Return 403 for what a role does not allow, in kube-apiserver's words."""
    resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
    if kind.storage_key == "namespaces":
        namespace = name  # a namespace is in itself
    scope = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
    message = (
        f'User "{principal.user}" cannot {verb} resource "{resource}" in API group '
        f'"{kind.group}"{scope}'
    )
    return forbidden(kind.names, name, message)
