"""Write what deployments for Kubernetes share: ``python -m build_support.deployments .``

* :data:`CLUSTER`, :data:`FINALIZER`, :data:`SECRETS` and :data:`OWN_NAMESPACE` are what the relay
  may ask of an API server; the roles of the kustomize base and of the Helm chart are made of them.
* ``config/alerts`` has the alert rules; PrometheusRule, VMRule and the chart's copies are made of
  it, and the chart's copies of ``config/crds``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml


class Permission(NamedTuple):
    """What the relay may do with some resources, and why."""

    groups: tuple[str, ...]
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str

    @property
    def rule(self) -> dict[str, list[str]]:
        """Return the rule of a role."""
        return {
            "apiGroups": list(self.groups),
            "resources": list(self.resources),
            "verbs": list(self.verbs),
        }


WATCHED: Final = ("list", "watch")
DATUM: Final = "telemetry.datumapis.com"
MILO: Final = "telemetry.miloapis.com"

CLUSTER: Final = (
    Permission((DATUM,), ("exporters",), WATCHED, "the objects that say what is exported"),
    Permission((DATUM, MILO), ("exportpolicies",), WATCHED, "the same, in Datum's form"),
    Permission((DATUM,), ("exporters/status",), ("patch",), "the statuses of objects"),
    Permission((DATUM, MILO), ("exportpolicies/status",), ("patch",), "the same"),
    Permission(("",), ("namespaces",), WATCHED, "labels, for selectors and for projects"),
    Permission(("",), ("events",), ("create", "patch"), "Events of objects"),
)
"""Where objects may be: in all namespaces."""

FINALIZER: Final = (
    Permission((DATUM,), ("exporters",), ("patch",), "the finalizer, where it is wanted"),
    Permission((DATUM, MILO), ("exportpolicies",), ("patch",), "the same"),
)
"""In all namespaces, with the setting ``kubernetes.finalizer`` alone."""

SECRETS: Final = {
    "watch": Permission(("",), ("secrets",), ("get", *WATCHED), "credentials of sinks"),
    "get": Permission(("",), ("secrets",), ("get",), "the same, one by one"),
}
"""By the mode in which Secrets are read."""

OWN_NAMESPACE: Final = (
    Permission(
        ("coordination.k8s.io",),
        ("leases",),
        ("get", "list", "create", "update", "delete"),
        "the relays, and their leader, which writes",
    ),
)
"""In the namespace of the relay alone."""

CHART: Final = "config/helm/telemetry-relay"
BASE: Final = "config/kubernetes/base"
COMPONENTS: Final = "config/kubernetes/components"
ALERTS: Final = ("platform", "customers")
NAME: Final = "relay"
NAMESPACE: Final = "relay-system"
LABELS: Final = {"app.kubernetes.io/name": "telemetry-relay", "app.kubernetes.io/instance": NAME}

_NOTE: Final = "# Made of {source} by make deployments: change that.\n"
_SELF: Final = "build_support/deployments.py"


def files(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the path below ``root`` of every file that is made, and its content."""
    access = "---\n".join(map(_dump, _access()))
    yield f"{BASE}/access.yaml", _note(_SELF) + access
    for name, wanted in (
        ("cluster-rules", rules(CLUSTER)),
        ("finalizer-rules", rules(FINALIZER)),
        *((f"secrets-{mode}-rules", rules((one,))) for mode, one in SECRETS.items()),
        ("own-namespace-rules", rules(OWN_NAMESPACE)),
    ):
        yield f"{CHART}/generated/{name}.yaml", _note(_SELF) + _dump(wanted)
    patch = [{"op": "add", "path": "/rules/-", "value": one} for one in rules(FINALIZER)]
    target = {"kind": "ClusterRole", "name": f"telemetry-{NAME}"}
    finalizer = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "patches": [{"target": target, "patch": _dump(patch)}],
    }
    yield f"{COMPONENTS}/finalizer/kustomization.yaml", _note(_SELF) + _dump(finalizer)
    groups: list[Any] = []
    for name in ALERTS:
        source = f"config/alerts/{name}.rules.yaml"
        text = (root / source).read_text(encoding="utf-8")
        groups += yaml.safe_load(text)["groups"]
        yield f"{CHART}/generated/{name}.rules.yaml", _note(source) + text
    for component, api_version, kind in (
        ("prometheus-operator", "monitoring.coreos.com/v1", "PrometheusRule"),
        ("victoriametrics-operator", "operator.victoriametrics.com/v1beta1", "VMRule"),
    ):
        document = {
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": LABELS},
            "spec": {"groups": groups},
        }
        yield f"{COMPONENTS}/{component}/rules.yaml", _note("config/alerts") + _dump(document)
    for path in sorted((root / "config/crds").glob("*.*.*.yaml")):
        yield f"{CHART}/crds/{path.name}", path.read_text(encoding="utf-8")


def rules(permissions: tuple[Permission, ...]) -> list[dict[str, list[str]]]:
    """Return the rules of a role."""
    return [one.rule for one in permissions]


def _access() -> Iterator[dict[str, Any]]:
    """Yield the roles of the kustomize base and their bindings."""
    cluster = (*CLUSTER, SECRETS["watch"])
    for prefix, permissions in (("Cluster", cluster), ("", OWN_NAMESPACE)):
        name = f"telemetry-{NAME}" if prefix else NAME
        metadata = {"name": name, "labels": LABELS}
        yield {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": f"{prefix}Role",
            "metadata": metadata,
            "rules": rules(permissions),
        }
        yield {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": f"{prefix}RoleBinding",
            "metadata": metadata,
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": f"{prefix}Role",
                "name": name,
            },
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
        }


class _Dumper(yaml.SafeDumper):
    """Writes every value in full, without aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True: aliases make files harder to read."""
        return True


def _dump(document: Any) -> str:
    return yaml.dump(document, sort_keys=False, width=100, allow_unicode=True, Dumper=_Dumper)


def _note(source: str) -> str:
    return _NOTE.format(source=source)


def main(root: Path) -> None:
    """Write the files below ``root``."""
    for name, content in files(root):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
