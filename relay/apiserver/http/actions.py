"""Kinds that can only be created: the answer has a status, and nothing is stored.

The actions are given to the API where it is composed; one that is not given is not served. The
object is checked as any other is, but needs no name. Faults of its content name the field.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiohttp import web

from relay.apiserver.access.principals import Principal
from relay.apiserver.access.self_reviews import Kinds, reviewed
from relay.apiserver.http.answers import json_answer
from relay.apiserver.http.bodies import OBJECT_TYPES, RequestBody, read_body
from relay.apiserver.http.changes import ChangeOutcome, Changer
from relay.apiserver.http.request_target import ResourceTarget
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import bad_request, invalid, required, wrong_type
from relay.apiserver.objects.field_checks import Fitting
from relay.apiserver.objects.kinds import ResourceKind
from relay.apiserver.objects.metadata import (
    checked_namespace,
    generated_name,
    metadata_causes,
    with_type,
)
from relay.apiserver.objects.writes import WriteOptions
from relay.runtime.event_loop import run_in_thread

ACTION_BYTES_MAX: Final = 512 * 1024
"""Largest body of an object that can only be created."""
REVIEW_BYTES_MAX: Final = 64 * 1024
_KEPT: Final = ("name", "generateName", "namespace", "labels", "annotations")
"""Metadata that the answer repeats."""


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """One request; ``spec`` has the fields of its schema, each of its type."""

    kind: ResourceKind
    project: str
    namespace: str
    principal: Principal
    name: str
    spec: JsonObject
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class TapRequest:
    """A tap of one object's sink; ``query`` has the parameters as they came."""

    kind: ResourceKind
    project: str
    namespace: str
    name: str
    query: Mapping[str, str]


Action = Callable[[ActionRequest], Awaitable[JsonObject]]
"""Returns the status, {} for none; raises ApiRefusalError for a spec that is none."""
Actions = Mapping[str, Action]
"""Actions by the plural of their kind."""
Tap = Callable[[TapRequest], AsyncIterator[JsonObject]]
"""Returns the events of a tap; raises ApiRefusalError before the first one."""


class ActionRunner:
    """Answers creations of kinds that are not stored; ``changer`` knows the namespaces."""

    def __init__(self, actions: Actions, changer: Changer) -> None:
        self._actions = actions
        self._changer = changer

    def __repr__(self) -> str:
        return f"<ActionRunner {sorted(self._actions)}>"

    async def act(
        self,
        target: ResourceTarget,
        project: str,
        principal: Principal,
        body: RequestBody,
        options: WriteOptions,
        *,
        dry_run: bool,
    ) -> ChangeOutcome:
        """Return the object with its status; raise ApiRefusalError."""
        kind, namespace = target.kind, target.namespace
        suffix = self._changer.new_stamp().suffix
        # Half a mebibyte of lists takes some 0.2 s to check.
        value, warnings = await run_in_thread(
            partial(_read, kind, body.value, namespace, options, suffix)
        )
        name = value["metadata"].get("name", "")
        self._changer.check_namespace(target, project, name)
        spec = value["spec"]
        request = ActionRequest(kind, project, namespace, principal, name, spec, dry_run)
        status = await self._actions[kind.plural](request)
        if status:
            value["status"] = status
        if status.get("ok") is False:
            # `kubectl create` shows nothing of a status without -o, but warnings.
            said = (status.get("message"), status.get("advice"))
            warnings = [*warnings, ": ".join(one for one in said if one)]
        return ChangeOutcome(value, 201, warnings)


def _read(
    kind: ResourceKind, body: Any, namespace: str, options: WriteOptions, suffix: str
) -> tuple[JsonObject, list[str]]:
    """Return the object as it is answered, without a status, and warnings."""
    body = with_type(kind, body)
    fitting = Fitting(kind.definitions, defaults=True, strict_types=True)
    given = {key: own for key, own in body.items() if key != "status"}
    read: JsonObject = fitting.fit(given, kind.node)
    metadata = read.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if fitting.wrong:
        causes = [wrong_type(*one.split(": ", 1)) for one in fitting.wrong]
        raise invalid(kind.names, name if isinstance(name, str) else "", causes)
    found = [f'duplicate field "{path}"' for path in options.duplicates]
    found += [f'unknown field "{path}"' for path in sorted(fitting.unknown)]
    if found and options.field_validation == "Strict":
        handled = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
        raise bad_request(f"{handled}strict decoding error: {', '.join(found)}")
    value: JsonObject = {"apiVersion": kind.api_version, "kind": kind.kind}
    value["metadata"] = _metadata(kind, metadata or {}, namespace, suffix)
    if not isinstance(read.get("spec"), dict):
        raise invalid(kind.names, value["metadata"].get("name", ""), [required("spec")])
    value["spec"] = read["spec"]
    return value, found if options.field_validation == "Warn" else []


def _metadata(kind: ResourceKind, given: JsonObject, namespace: str, suffix: str) -> JsonObject:
    checked_namespace(kind, given, namespace)
    if not given.get("name") and given.get("generateName"):
        given["name"] = generated_name(given["generateName"], suffix)
    has_name = bool(given.get("name"))
    causes = [
        cause
        for cause in metadata_causes(kind, given)
        if has_name or cause.field != "metadata.name"
    ]
    if causes:
        raise invalid(kind.names, given.get("name", ""), causes)
    kept: JsonObject = {key: given[key] for key in _KEPT if key in given}
    return {**kept, "creationTimestamp": None}


async def answer_review(
    request: web.BaseRequest, kind: ResourceKind, principal: Principal, kinds: Kinds
) -> web.StreamResponse:
    """Answer a review; it changes nothing, and is not on record. Raise ApiRefusalError."""
    body = await read_body(request, REVIEW_BYTES_MAX, OBJECT_TYPES)
    spec = with_type(kind, body.value).get("spec") or {}
    if not isinstance(spec, dict):
        raise bad_request("spec must be an object")
    status = reviewed(kind, principal, kinds, spec)
    answer = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": {}}
    return json_answer({**answer, "spec": spec, "status": status}, code=201)
