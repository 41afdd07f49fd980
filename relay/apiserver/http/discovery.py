"""Documents by which clients discover what is served."""

from __future__ import annotations

from typing import Any, Final

from relay import __version__
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.kinds import ResourceKind

AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_STATUS_VERBS: Final = ["get", "patch", "update"]
_KUBERNETES: Final = ("1", "32")
"""Version whose behaviour the API follows; clients compare it with their own."""


def version_document() -> JsonObject:
    """Return ``/version``."""
    major, minor = _KUBERNETES
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"v{major}.{minor}.0+relay-{__version__}",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "",
    }


Kinds = tuple[ResourceKind, ...]


def groups(kinds: Kinds) -> dict[str, str]:
    """Return the groups of kinds with their versions; without the core group."""
    return {kind.group: kind.version for kind in kinds if kind.group}


def _group(name: str, version: str) -> JsonObject:
    one = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [one], "preferredVersion": one}


def document(path: str, kinds: Kinds) -> JsonObject | None:
    """Return the discovery document at a path, None if there is none."""
    if path == "/version":
        return version_document()
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        listed = [_group(name, version) for name, version in groups(kinds).items()]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    steps = path.split("/")[1:]
    if steps == ["api", "v1"]:
        return _resources("", "v1", kinds)
    if steps[0] != "apis" or steps[1] not in groups(kinds):
        return None
    version = groups(kinds)[steps[1]]
    if len(steps) == 2:
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(steps[1], version)}
    return _resources(steps[1], version, kinds) if steps[2:] == [version] else None


def _kinds_of(group: str, kinds: Kinds) -> list[ResourceKind]:
    return [kind for kind in kinds if kind.group == group]


def _resources(group: str, version: str, kinds: Kinds) -> JsonObject:
    resources: list[JsonObject] = []
    for kind in _kinds_of(group, kinds):
        one: JsonObject = {
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": list(kind.verbs),
        }
        if kind.short_names:
            one["shortNames"] = list(kind.short_names)
        resources.append(one)
        if kind.has_status:
            resources.append(
                {
                    "name": f"{kind.plural}/status",
                    "singularName": "",
                    "namespaced": kind.namespaced,
                    "kind": kind.kind,
                    "verbs": _STATUS_VERBS,
                }
            )
        for name, answer in kind.read_only:
            resources.append(
                {
                    "name": f"{kind.plural}/{name}",
                    "singularName": "",
                    "namespaced": kind.namespaced,
                    "kind": answer,
                    "verbs": ["get"],
                }
            )
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": resources,
    }


def aggregated(path: str, kinds: Kinds) -> JsonObject | None:
    """Return the aggregated document at ``/api`` or ``/apis``, None for any other path."""
    if path == "/api":
        items = [_aggregated_group("", "v1", kinds)]
    elif path == "/apis":
        items = [_aggregated_group(name, version, kinds) for name, version in groups(kinds).items()]
    else:
        return None
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _aggregated_group(group: str, version: str, kinds: Kinds) -> JsonObject:
    resources = [_aggregated_resource(kind) for kind in _kinds_of(group, kinds)]
    versions = [{"version": version, "resources": resources, "freshness": "Current"}]
    return {"metadata": {"name": group} if group else {}, "versions": versions}


def _aggregated_resource(kind: ResourceKind) -> JsonObject:
    gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    made: dict[str, Any] = {
        "resource": kind.plural,
        "responseKind": gvk,
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        made["shortNames"] = list(kind.short_names)
    if kind.has_status:
        made["subresources"] = [
            {"subresource": "status", "responseKind": gvk, "verbs": _STATUS_VERBS}
        ]
    for name, answer in kind.read_only:
        one = {"subresource": name, "responseKind": {**gvk, "kind": answer}, "verbs": ["get"]}
        made["subresources"] = [*made.get("subresources", ()), one]
    return made
