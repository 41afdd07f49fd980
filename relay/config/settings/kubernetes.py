"""Settings of Kubernetes as a source of the desired state: the section ``kubernetes``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import msgspec

from relay.config.schema.rules import Faults, Rule

PROJECT_MARK: Final = "{project}"
"""Stands for the name of a project in a server's path."""

_SERVER_PATH: Final = re.compile(r"(/[A-Za-z0-9._~{}-]+)+")


class ServerPath(msgspec.Struct, frozen=True):
    """One control plane a project, below a path of one server; ``path`` holds ``{project}``."""

    path: str
    names: tuple[str, ...] = ()


class KubernetesProjects(msgspec.Struct, frozen=True):
    """Rule that gives an object its project: exactly one of the three is set.

    ``namespace_label``: a label of its Namespace, in one cluster. ``kubeconfigs``: a directory with
    a kubeconfig for each project's control plane.
    """

    namespace_label: str = ""
    kubeconfigs: Path | None = None
    server_path: ServerPath | None = None


class KubernetesRelays(msgspec.Struct, frozen=True):
    """Access of several relays over the same objects to each other; "" and None: the default."""

    group: str = "telemetry-relay"
    namespace: str = ""
    kubeconfig: Path | None = None
    advertise: str = ""
    ca_file: Path | None = None


class KubernetesSettings(msgspec.Struct, frozen=True):
    """Access to Kubernetes; ``namespaces`` without any stands for all.

    Exactly one of ``kubeconfig``, ``in_cluster`` and ``projects.kubeconfigs`` is set. ``projects``
    is None without tenancy. ``finalizer``: a deleted object stays until its sinks have drained.
    """

    kubeconfig: Path | None = None
    in_cluster: bool = False
    namespaces: tuple[str, ...] = ()
    projects: KubernetesProjects | None = None
    status_writes_per_second_max: int = 20
    finalizer: bool = False
    relays: KubernetesRelays = msgspec.field(default_factory=KubernetesRelays)


def build_kubernetes(values: dict[str, Any] | None, *, base: Path) -> KubernetesSettings | None:
    """Return the section ``kubernetes``; paths are relative to ``base``."""
    if values is None:
        return None
    default = KubernetesSettings()
    return KubernetesSettings(
        kubeconfig=base / values["kubeconfig"] if "kubeconfig" in values else None,
        in_cluster=values.get("inCluster", default.in_cluster),
        namespaces=tuple(one for one in values.get("namespaces", ()) if one is not None),
        projects=_projects(values.get("projects"), base),
        status_writes_per_second_max=values.get(
            "maxStatusWritesPerSecond", default.status_writes_per_second_max
        ),
        finalizer=values.get("finalizer", default.finalizer),
        relays=_relays(values.get("relays", {}), base),
    )


def _relays(values: dict[str, Any], base: Path) -> KubernetesRelays:
    default = KubernetesRelays()
    return KubernetesRelays(
        group=values.get("group", default.group),
        namespace=values.get("namespace", default.namespace),
        kubeconfig=base / values["kubeconfig"] if "kubeconfig" in values else None,
        advertise=values.get("advertise", default.advertise).rstrip("/"),
        ca_file=base / values["caFile"] if "caFile" in values else None,
    )


def _projects(values: dict[str, Any] | None, base: Path) -> KubernetesProjects | None:
    if values is None:
        return None
    below = values.get("serverPath")
    server_path: ServerPath | None = None
    if below is not None and "path" in below:
        names = tuple(one for one in below.get("names", ()) if one is not None)
        server_path = ServerPath(below["path"].rstrip("/"), names)
    return KubernetesProjects(
        namespace_label=values.get("namespaceLabel", ""),
        kubeconfigs=base / values["kubeconfigs"] if "kubeconfigs" in values else None,
        server_path=server_path,
    )


def server_path_problem(text: str) -> str:
    """Return the fault of a path with the mark of a project, or ""."""
    if text.count(PROJECT_MARK) != 1:
        return f'must hold {PROJECT_MARK} once, such as "/projects/{PROJECT_MARK}"'
    if not _SERVER_PATH.fullmatch(text.rstrip("/")) or ".." in text:
        return f'must be a path that begins with "/", such as "/projects/{PROJECT_MARK}"'
    return ""


def projects_with_tenancy(settings: Any) -> Faults:
    """Yield the fault of ``kubernetes.projects`` beside the tenancy of the settings."""
    kubernetes = settings.get("kubernetes")
    if not isinstance(kubernetes, dict):
        return
    if "tenancy" in settings and "projects" not in kubernetes:
        yield ("kubernetes", "projects"), "is required with tenancy"
    elif "tenancy" not in settings and "projects" in kubernetes:
        yield ("kubernetes", "projects"), "only has a meaning with tenancy"


def _accesses(kubernetes: Any) -> int:
    projects = kubernetes.get("projects")
    return sum(
        (
            "kubeconfig" in kubernetes,
            kubernetes.get("inCluster") is True,
            isinstance(projects, dict) and "kubeconfigs" in projects,
        )
    )


_ONE_PROJECTS: Final = ("namespaceLabel", "kubeconfigs", "serverPath")

KUBERNETES_RULES: Final = {
    "kubernetesProjectsWithTenancy": Rule(
        cel="!has(self.kubernetes) || has(self.kubernetes.projects) == has(self.tenancy)",
        find=projects_with_tenancy,
        message="kubernetes.projects is required with tenancy and has no meaning without",
    ),
    "oneAccess": Rule(
        cel="(has(self.kubeconfig) ? 1 : 0) + (has(self.inCluster) && self.inCluster ? 1 : 0) + "
        "(has(self.projects) && has(self.projects.kubeconfigs) ? 1 : 0) == 1",
        holds=lambda self: _accesses(self) == 1,
        message="needs exactly one of kubeconfig, inCluster: true and projects.kubeconfigs",
        reads=(("inCluster",), ("projects",)),
    ),
    "oneOfProjects": Rule(
        cel="(has(self.namespaceLabel) ? 1 : 0) + (has(self.kubeconfigs) ? 1 : 0) + "
        "(has(self.serverPath) ? 1 : 0) == 1",
        holds=lambda self: sum(name in self for name in _ONE_PROJECTS) == 1,
        message="needs exactly one of namespaceLabel, kubeconfigs and serverPath",
    ),
}
"""By name."""
