"""Every request that the API may get, generated of its own discovery; and what came back.

A kind, verb or subresource that is served later is in it without a change here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.kit.apiserver.running import ApiUser

JSON = "application/json"
BODIES = (JSON, "application/yaml", "application/vnd.kubernetes.protobuf", "text/plain")
PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
READING = ("get", "list", "watch")
_METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETE",
}
_OF_COLLECTIONS = ("list", "watch", "create", "deletecollection")
OTHER_PATHS = (
    "",
    "/",
    "/version",
    "/api",
    "/apis",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/api/v1",
    "/apis/none.example",
    "/api/v1/nothing",
    "/metrics",
    "/status",
    "/favicon.ico",
    "/%2e%2e/%2e%2e/version",
)
"""Paths that are no resources, below the root of a project."""


@dataclass(frozen=True)
class ServedResource:
    """A resource or subresource as discovery names it."""

    group: str
    root: str
    plural: str
    subresource: str
    namespaced: bool
    kind: str
    verbs: tuple[str, ...]

    @property
    def api_version(self) -> str:
        """Group and version as objects have them."""
        return self.root.removeprefix("/apis/").removeprefix("/api/")

    @property
    def full_name(self) -> str:
        """Plural and subresource."""
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural

    def path(self, name: str = "") -> str:
        """Return the path of the collection, or of an object."""
        scope = "/namespaces/default" if self.namespaced else ""
        found = f"{self.root}{scope}/{self.plural}"
        if name:
            found += f"/{name}"
        return f"{found}/{self.subresource}" if self.subresource and name else found


@dataclass(frozen=True)
class Attempt:
    """One request: ``path`` begins below the project, ``resource`` is None for other paths."""

    resource: ServedResource | None
    verb: str
    method: str
    path: str
    media_type: str = ""
    body: str | None = None
    name: str = ""


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it came, without what differs from moment to moment."""

    code: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def status(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


async def served_resources(user: ApiUser, root: str) -> list[ServedResource]:
    """Return the resources that discovery names below a project's root."""
    paths = ["/api/v1"]
    _, groups = await user.ask("GET", f"{root}/apis")
    paths += [f"/apis/{one['preferredVersion']['groupVersion']}" for one in groups["groups"]]
    found = []
    for path in paths:
        code, listed = await user.ask("GET", f"{root}{path}")
        assert code == 200, path
        for one in listed["resources"]:
            plural, _, subresource = one["name"].partition("/")
            group = listed["groupVersion"].rpartition("/")[0]
            verbs = tuple(one["verbs"])
            resource = ServedResource(
                group, path, plural, subresource, one["namespaced"], one["kind"], verbs
            )
            found.append(resource)
    return found


def attempts(
    resources: list[ServedResource], name: str, *, only_served: bool = False
) -> Iterator[Attempt]:
    """Yield every verb on every resource, for an object of some name.

    With ``only_served`` the verbs of discovery, with each media type; otherwise all, and paths
    that are no resources.
    """
    for resource in resources:
        for verb in _METHODS:
            if verb in resource.verbs or not only_served:
                yield from _of_verb(resource, verb, name)
    if only_served:
        return
    for path in OTHER_PATHS:
        yield Attempt(None, "get", "GET", path)
        yield Attempt(None, "create", "POST", path, JSON, "{}")


def _of_verb(resource: ServedResource, verb: str, name: str) -> Iterator[Attempt]:
    method = _METHODS[verb]
    of_collection = verb in _OF_COLLECTIONS and not resource.subresource
    path = resource.path("" if of_collection else name)
    own = "" if of_collection else name
    if verb in READING:
        query = "?watch=1&timeoutSeconds=1&resourceVersion=1" if verb == "watch" else ""
        yield Attempt(resource, verb, method, path + query, name=own)
        if verb == "list" and resource.namespaced and not resource.subresource:
            yield Attempt(resource, verb, method, f"{resource.root}/{resource.plural}", name=own)
        return
    given = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}}
    media_types = PATCHES if verb == "patch" else BODIES
    if verb.startswith("delete"):
        media_types = (JSON,)
        given = {}
    for media_type in media_types:
        query = "?dryRun=All"
        if media_type == PATCHES[-1]:
            query += "&fieldManager=x&force=true"
        body = "[]" if media_type == PATCHES[0] else json.dumps(given)
        yield Attempt(resource, verb, method, path + query, media_type, body, own)
    yield Attempt(resource, verb, method, path, media_types[0], "{no object", own)


_OF_A_MOMENT = frozenset({"Date"})


async def answered(user: ApiUser, attempt: Attempt, root: str, **headers: str) -> RawAnswer:
    """Send an attempt below a project's root; return the answer as it came."""
    sent = dict(headers)
    if attempt.media_type:
        sent["Content-Type"] = attempt.media_type
    response, content = await user.raw(attempt.method, root + attempt.path, attempt.body, sent)
    shown = tuple((k, v) for k, v in response.headers.items() if k not in _OF_A_MOMENT)
    return RawAnswer(response.status, response.reason or "", shown, content)
