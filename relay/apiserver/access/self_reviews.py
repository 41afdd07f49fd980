"""Answer what users ask about themselves: ``kubectl auth whoami`` and ``kubectl auth can-i``.

These kinds can only be created, the answer is in their status, and nothing is stored. Everybody may
ask, as with Kubernetes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

from relay.apiserver.access.principals import Principal
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.merging.value_types import REF_PREFIX
from relay.apiserver.objects.failures import forbidden_field, invalid, required
from relay.apiserver.objects.kinds import META, ResourceKind, core_definitions

AUTHENTICATION: Final = "authentication.k8s.io"
AUTHORIZATION: Final = "authorization.k8s.io"
_KINDS: Final = (
    (AUTHENTICATION, "SelfSubjectReview", "The user of the request."),
    (AUTHORIZATION, "SelfSubjectAccessReview", "Whether the user may do something."),
    (AUTHORIZATION, "SelfSubjectRulesReview", "Everything that the user may do."),
)
_ANY: Final = "*"
_DOCUMENTS: Final = ("/api", "/apis", "/healthz", "/livez", "/openapi", "/readyz", "/version")
"""Paths that every user may read, with what is below them."""
_ROLE: Final = "telemetry.datumapis.com/role"
_PROJECTS: Final = "telemetry.datumapis.com/projects"

Kinds = tuple[ResourceKind, ...]


@cache
def review_kinds() -> Kinds:
    """Return the kinds by which users ask about themselves."""
    return tuple(_review_kind(*one) for one in _KINDS)


def _review_kind(group: str, kind: str, description: str) -> ResourceKind:
    core = core_definitions()
    definition = f"io.k8s.api.{group.partition('.')[0]}.v1.{kind}"
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    lease = core["io.k8s.api.coordination.v1.Lease"]["properties"]
    root = {
        "description": description,
        "type": "object",
        "properties": {
            "apiVersion": lease["apiVersion"],
            "kind": lease["kind"],
            "metadata": {"allOf": [{"$ref": f"{REF_PREFIX}{META}ObjectMeta"}]},
            "spec": {"description": "The question.", **anything},
            "status": {"description": "The answer.", **anything},
        },
        "x-kubernetes-group-version-kind": [{"group": group, "version": "v1", "kind": kind}],
    }
    return ResourceKind(
        group=group,
        version="v1",
        kind=kind,
        plural=f"{kind.lower()}s",
        singular=kind.lower(),
        definition=definition,
        definitions={**core, definition: root},
        namespaced=False,
        verbs=("create",),
        is_action=True,
    )


def reviewed(
    kind: ResourceKind, principal: Principal, kinds: Kinds, spec: JsonObject
) -> JsonObject:
    """Return the status of a review; ``kinds`` are all that are served. Raise ApiRefusalError."""
    return _ANSWERS[kind.kind](kind, principal, kinds, spec)


def _user(kind: ResourceKind, principal: Principal, kinds: Kinds, spec: JsonObject) -> JsonObject:
    del kind, kinds, spec
    projects = sorted(principal.projects)
    return {
        "userInfo": {
            "username": principal.user,
            "extra": {_ROLE: [principal.role], _PROJECTS: projects},
        }
    }


def _access(kind: ResourceKind, principal: Principal, kinds: Kinds, spec: JsonObject) -> JsonObject:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if not isinstance(resource or path, dict):
        message = "exactly one of resourceAttributes and nonResourceAttributes must be given"
        raise invalid(kind.names, "", [required("spec", message)])
    if resource and path:
        message = "cannot be given beside resourceAttributes"
        raise invalid(kind.names, "", [forbidden_field("spec.nonResourceAttributes", message)])
    if path:
        return {"allowed": _reads_document(path)}
    assert resource, "one of them is given"
    asked = [_text(resource, name) for name in ("group", "resource", "subresource", "verb")]
    group, plural, subresource, verb = asked
    found = [
        one
        for one in kinds
        if group in (one.group, _ANY) and plural in (one.plural, _ANY) and one.verbs
    ]
    if not found:
        return {"allowed": False, "reason": "the relay's API does not serve it"}
    allowed = all(
        _may(principal, each, one, subresource)
        for one in found
        for each in (one.verbs if verb == _ANY else (verb,))
    )
    return {"allowed": allowed}


def _rules(kind: ResourceKind, principal: Principal, kinds: Kinds, spec: JsonObject) -> JsonObject:
    del kind, spec  # the same in every namespace
    paths = [url for path in _DOCUMENTS for url in (path, f"{path}/*")]
    return {
        "resourceRules": list(_resource_rules(principal, kinds)),
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": paths}],
        "incomplete": False,
    }


def _resource_rules(principal: Principal, kinds: Kinds) -> Iterator[JsonObject]:
    for kind in kinds:
        for subresource in kind.subresources:
            verbs = [
                verb
                for verb in _verbs_of(kind, subresource)
                if _may(principal, verb, kind, subresource)
            ]
            if verbs:
                name = f"{kind.plural}/{subresource}" if subresource else kind.plural
                yield {"verbs": verbs, "apiGroups": [kind.group], "resources": [name]}


def _verbs_of(kind: ResourceKind, subresource: str) -> tuple[str, ...]:
    if not subresource:
        return kind.verbs
    return ("get", "patch", "update") if subresource == "status" else ("get",)


def _may(principal: Principal, verb: str, kind: ResourceKind, subresource: str) -> bool:
    return verb in kind.verbs and principal.may(verb, kind, subresource)


def _reads_document(asked: JsonObject) -> bool:
    path = _text(asked, "path")
    known = any(path == one or path.startswith(f"{one}/") for one in _DOCUMENTS)
    return known and _text(asked, "verb") in ("get", "head")


def _text(attributes: JsonObject, name: str) -> str:
    found: Any = attributes.get(name, "")
    return found if isinstance(found, str) else ""


_ANSWERS: Final[dict[str, Callable[[ResourceKind, Principal, Kinds, JsonObject], JsonObject]]] = {
    "SelfSubjectReview": _user,
    "SelfSubjectAccessReview": _access,
    "SelfSubjectRulesReview": _rules,
}
