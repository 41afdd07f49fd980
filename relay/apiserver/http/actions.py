"""Kinds that can only be created: the answer has a status, and nothing is stored.

The actions are given to the API where it is composed; one that is not given is not served.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from relay.apiserver.access.principals import Principal
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.kinds import ResourceKind


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """One request; ``spec`` is as it came, and may be anything."""

    kind: ResourceKind
    project: str
    namespace: str
    principal: Principal
    spec: Any


Action = Callable[[ActionRequest], Awaitable[JsonObject]]
"""Returns the status; raises ApiRefusalError for a spec that is none."""
Actions = Mapping[str, Action]
"""Actions by the plural of their kind."""


def acted(kind: ResourceKind, body: JsonObject, namespace: str, status: JsonObject) -> JsonObject:
    """Return the answer: the object as it came, with a status."""
    given = body.get("metadata")
    metadata = {
        key: value
        for key, value in (given if isinstance(given, dict) else {}).items()
        if key in ("name", "generateName", "labels", "annotations")
    }
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {**metadata, "namespace": namespace, "creationTimestamp": None},
        "spec": body.get("spec", {}),
        "status": status,
    }
