"""Check what kind of object a body says that it is."""

from __future__ import annotations

from typing import Any

from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import bad_request
from relay.apiserver.objects.kinds import ResourceKind


def with_type(kind: ResourceKind, body: Any) -> JsonObject:
    """Return a body that names its kind; raise ApiRefusalError for one of another.

    Objects of core kinds may leave out what they are: client libraries do.
    """
    if not isinstance(body, dict):
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind.kind}): it is no object"
        )
    if not kind.is_custom:
        given = {
            name: own for name, own in body.items() if own or name not in ("apiVersion", "kind")
        }
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **given}
    for name in ("kind", "apiVersion"):
        if not isinstance(body.get(name), str) or not body[name]:
            word = name[0].upper() + name[1:]
            raise bad_request(
                f"the object provided is unrecognized (must be of type {kind.kind}): "
                f"Object '{word}' is missing"
            )
    if body["apiVersion"] != kind.api_version:
        raise bad_request(
            f"the API version in the data ({body['apiVersion']}) does not match the expected API "
            f"version ({kind.api_version})"
        )
    if body["kind"] != kind.kind:
        raise bad_request(
            f'{body["kind"]} in version "{kind.version}" cannot be handled as a {kind.kind}: '
            "converting is not supported"
        )
    typed: JsonObject = body
    return typed
