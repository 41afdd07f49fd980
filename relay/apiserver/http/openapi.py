"""OpenAPI documents of what is served: version 3 by group, and version 2 of everything.

kubectl reads schemas from it (``explain``), and whether an operation knows ``fieldValidation`` and
``dryRun``. :func:`document_answer` answers for these documents and those of discovery.
"""

from __future__ import annotations

import copy
import gzip
import hashlib
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.apiserver.http import discovery
from relay.apiserver.http.answers import HEADERS, aggregated_answer, answer_form, json_answer
from relay.apiserver.http.discovery import Kinds, groups
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.merging.value_types import REF_PREFIX, Node
from relay.apiserver.objects.failures import no_such_resource
from relay.apiserver.objects.kinds import HISTORY, META, TAP, ResourceKind
from relay.apiserver.objects.openapi_protobuf import ACCEPTED, MEDIA_TYPE, openapi_protobuf
from relay.apiserver.objects.writes import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_PATCH,
)
from relay.receiver.http.json_lines import MEDIA_TYPE as LINES

_JSON: Final = "application/json"
_TITLE: Final = {"title": "relay", "version": "v1"}
_V2_REF_PREFIX: Final = "#/definitions/"
_QUERIES: Final[dict[str, tuple[str, ...]]] = {
    "get": (),
    "list": (
        "labelSelector",
        "fieldSelector",
        "limit",
        "continue",
        "resourceVersion",
        "resourceVersionMatch",
        "sendInitialEvents",
        "allowWatchBookmarks",
        "timeoutSeconds",
        "watch",
    ),
    "post": ("dryRun", "fieldManager", "fieldValidation"),
    "put": ("dryRun", "fieldManager", "fieldValidation"),
    "patch": ("dryRun", "fieldManager", "fieldValidation", "force"),
    "delete": ("dryRun", "gracePeriodSeconds", "propagationPolicy"),
    "deletecollection": ("dryRun", "labelSelector", "fieldSelector"),
}
_TYPES: Final = {
    "limit": "integer",
    "timeoutSeconds": "integer",
    "gracePeriodSeconds": "integer",
    "watch": "boolean",
    "allowWatchBookmarks": "boolean",
    "sendInitialEvents": "boolean",
    "force": "boolean",
}


def document_answer(
    request: web.BaseRequest, path: str, prefix: str, kinds: Kinds
) -> web.StreamResponse:
    """Answer for a document of OpenAPI or discovery; raise ApiRefusalError for another path.

    ``path`` begins below the project, whose own path is ``prefix``.
    """
    if request.method not in ("GET", "HEAD"):
        raise no_such_resource()
    if path == "/openapi/v2":
        if ACCEPTED in request.headers.get("Accept", ""):
            packed = encoded_v2_protobuf(kinds)
            return _cacheable(request, packed, _hash(packed), MEDIA_TYPE)
        return _cacheable(request, encoded_v2(kinds), _hash(encoded_v2(kinds)))
    if path == "/openapi/v3":
        # Addresses are absolute on the server.
        listed = index(kinds)["paths"].items()
        own = {name: {key: prefix + url for key, url in one.items()} for name, one in listed}
        return json_answer({"paths": own})
    if path.startswith("/openapi/v3/"):
        name = path.removeprefix("/openapi/v3/")
        body = encoded(name, kinds)
        if body is None:
            raise no_such_resource()
        return _cacheable(request, body, etag(name, kinds))
    if answer_form(request.headers.get("Accept", "")).is_aggregated:
        found = discovery.aggregated(path, kinds)
        if found is not None:
            return aggregated_answer(found)
    found = discovery.document(path, kinds)
    if found is None:
        raise no_such_resource()
    return json_answer(found)


def _cacheable(
    request: web.BaseRequest, body: bytes, tag: str, content_type: str = _JSON
) -> web.StreamResponse:
    quoted = f'"{tag}"'
    if request.headers.get("If-None-Match") == quoted:
        return web.Response(status=304, headers={**HEADERS, "ETag": quoted})
    packs = "gzip" in request.headers.get("Accept-Encoding", "")
    response = json_answer(_packed(body) if packs else body, content_type=content_type)
    if packs:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept, Accept-Encoding"
    response.headers["ETag"] = quoted
    return response


@lru_cache(maxsize=16)
def _packed(body: bytes) -> bytes:
    """Return a document as gzip; once, as it takes some 10 ms of the loop."""
    return gzip.compress(body, mtime=0)


def index(kinds: Kinds) -> JsonObject:
    """Return ``/openapi/v3``: the documents with a hash of each."""
    return {
        "paths": {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={etag(path, kinds)}"}
            for path in ("api/v1", *(f"apis/{name}/{v}" for name, v in groups(kinds).items()))
        }
    }


@cache
def etag(path: str, kinds: Kinds) -> str:
    """Return the hash of a document."""
    return _hash(encoded(path, kinds) or b"")


@lru_cache(maxsize=16)
def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest().upper()


@cache
def encoded(path: str, served: Kinds) -> bytes | None:
    """Return the document of ``api/v1`` or ``apis/<group>/<version>``, None for any other path."""
    kinds = [kind for kind in served if kind.path == f"/{path}"]
    if not kinds:
        return None
    schemas: dict[str, Node] = {}
    for name in (*_roots(kinds), f"{META}Status", f"{META}DeleteOptions", f"{META}Patch"):
        _collect(name, kinds[0].definitions | _definitions(kinds), schemas)
    paths: dict[str, Any] = {}
    for kind in kinds:
        paths |= _paths(kind)
    document = {
        "openapi": "3.0.0",
        "info": _TITLE,
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }
    return msgspec.json.encode(document)


@cache
def encoded_v2(served: Kinds) -> bytes:
    """Return ``/openapi/v2``."""
    return msgspec.json.encode(_document_v2(served))


@cache
def encoded_v2_protobuf(served: Kinds) -> bytes:
    """Return the definitions of ``/openapi/v2`` as protobuf."""
    return openapi_protobuf(_document_v2(served))


def _document_v2(served: Kinds) -> JsonObject:
    kinds = list(served)
    schemas: dict[str, Node] = {}
    for name in (*_roots(kinds), f"{META}Status", f"{META}DeleteOptions", f"{META}Patch"):
        _collect(name, _definitions(kinds), schemas)
    paths: dict[str, Any] = {}
    for kind in kinds:
        for path, item in _paths(kind).items():
            paths[path] = {
                key: _operation_v2(key, own) for key, own in item.items() if key != "parameters"
            }
    return {
        "swagger": "2.0",
        "info": _TITLE,
        "paths": paths,
        "definitions": {name: _node_v2(node) for name, node in sorted(schemas.items())},
    }


def _operation_v2(method: str, operation: JsonObject) -> JsonObject:
    parameters: list[JsonObject] = [
        {"name": one["name"], "in": "query", **one["schema"]} for one in operation["parameters"]
    ]
    body = operation.get("requestBody")
    made: JsonObject = {
        key: own
        for key, own in operation.items()
        if key not in ("parameters", "requestBody", "responses")
    }
    if body is not None:
        made["consumes"] = list(body["content"])
        schema = next(iter(body["content"].values()))["schema"]
        parameters.append({"name": "body", "in": "body", "schema": _node_v2(schema)})
    made["produces"] = [_JSON]
    made["parameters"] = parameters
    made["responses"] = {"200": {"description": "OK"}, "401": {"description": "Unauthorized"}}
    del method
    return made


def _node_v2(node: Any) -> Any:
    """Return a schema in version 2: other references, and no ``allOf`` or ``anyOf``."""
    if isinstance(node, list):
        return [_node_v2(one) for one in node]
    if not isinstance(node, dict):
        return node
    if len(node.get("allOf", ())) == 1:
        rest = {key: own for key, own in node.items() if key not in ("allOf", "default")}
        return _node_v2({**rest, **node["allOf"][0]})
    return {
        key: own.replace(REF_PREFIX, _V2_REF_PREFIX) if key == "$ref" else _node_v2(own)
        for key, own in node.items()
        if key not in ("anyOf", "oneOf", "not", "nullable")
    }


def _definitions(kinds: list[ResourceKind]) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for kind in kinds:
        found |= kind.definitions
    return found


def _roots(kinds: list[ResourceKind]) -> Iterator[str]:
    for kind in kinds:
        yield kind.definition
        if not kind.is_action:
            yield f"{kind.definition}List"
        if kind.has_history:
            yield f"{kind.definition}History"


def _collect(name: str, definitions: dict[str, Node], found: dict[str, Node]) -> None:
    """Add a definition, and those to which it refers."""
    if name in found:
        return
    found[name] = copy.deepcopy(definitions[name])
    for used in _references(definitions[name]):
        _collect(used, definitions, found)


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].removeprefix(REF_PREFIX)
        for own in node.values():
            yield from _references(own)
    elif isinstance(node, list):
        for own in node:
            yield from _references(own)


def _paths(kind: ResourceKind) -> dict[str, Any]:
    scope = "/namespaces/{namespace}" if kind.namespaced else ""
    many = f"{kind.path}{scope}/{kind.plural}"
    one = f"{many}/{{name}}"
    found: dict[str, Any] = {}
    if kind.is_action:
        found[many] = {"post": _operation(kind, "post", "post")}
        return _with_path_parameters(found)
    if kind.namespaced:
        found[f"{kind.path}/{kind.plural}"] = {"get": _operation(kind, "get", "list", many=True)}
    if kind.has_tap:
        found[f"{one}/{TAP}"] = {"get": _tap_operation(kind)}
    if kind.has_history:
        found[f"{one}/{HISTORY}"] = {"get": _history_operation(kind)}
    found[many] = {
        "get": _operation(kind, "get", "list", many=True),
        "post": _operation(kind, "post", "post"),
    }
    if "deletecollection" in kind.verbs:
        found[many]["delete"] = _operation(kind, "delete", "deletecollection")
    found[one] = {
        method: _operation(kind, method, method) for method in ("get", "put", "delete", "patch")
    }
    if kind.has_status:
        found[f"{one}/status"] = {
            method: _operation(kind, method, method, suffix="Status")
            for method in ("get", "put", "patch")
        }
    return _with_path_parameters(found)


def _with_path_parameters(found: dict[str, Any]) -> dict[str, Any]:
    for path, item in found.items():
        names = [name for name in ("name", "namespace") if f"{{{name}}}" in path]
        item["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    return found


def _operation(
    kind: ResourceKind, method: str, action: str, *, many: bool = False, suffix: str = ""
) -> JsonObject:
    gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    group = "".join(part.capitalize() for part in kind.group.split(".")) or "Core"
    version = kind.version.capitalize()
    made: JsonObject = {
        "operationId": f"{action}{group}{version}{'All' if many else ''}{kind.kind}{suffix}",
        "parameters": [
            {"name": name, "in": "query", "schema": {"type": _TYPES.get(name, "string")}}
            for name in _QUERIES[action]
        ],
        "responses": {"200": {"description": "OK", "content": _content(kind, action)}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk,
    }
    if method in ("post", "put"):
        made["requestBody"] = {"required": True, "content": _content(kind, "get")}
    elif method == "patch":
        types = [JSON_PATCH, MERGE_PATCH, APPLY_PATCH]
        if not kind.is_custom:
            types.append(STRATEGIC_PATCH)
        schema = {"$ref": f"{REF_PREFIX}{META}Patch"}
        content = {name: {"schema": schema} for name in types}
        made["requestBody"] = {"required": True, "content": content}
    elif method == "delete":
        schema = {"$ref": f"{REF_PREFIX}{META}DeleteOptions"}
        made["requestBody"] = {"content": {_JSON: {"schema": schema}}}
    return made


def _tap_operation(kind: ResourceKind) -> JsonObject:
    made = _operation(kind, "get", "get", suffix="Tap")
    types = {"sink": "string", "seconds": "integer", "points": "integer"}
    made["parameters"] = [
        {"name": name, "in": "query", "schema": {"type": own}} for name, own in types.items()
    ]
    content = {LINES: {"schema": {"type": "string"}}}
    made["responses"] = {"200": {"description": "OK", "content": content}}
    made["x-kubernetes-action"] = "connect"
    return made


def _history_operation(kind: ResourceKind) -> JsonObject:
    made = _operation(kind, "get", "get", suffix="History")
    content = {_JSON: {"schema": {"$ref": f"{REF_PREFIX}{kind.definition}History"}}}
    made["responses"] = {"200": {"description": "OK", "content": content}}
    made["x-kubernetes-group-version-kind"]["kind"] = f"{kind.kind}History"
    return made


def _content(kind: ResourceKind, action: str) -> JsonObject:
    name = kind.definition
    if action == "list":
        name += "List"
    elif action in ("delete", "deletecollection"):
        name = f"{META}Status"
    return {_JSON: {"schema": {"$ref": f"{REF_PREFIX}{name}"}}}
