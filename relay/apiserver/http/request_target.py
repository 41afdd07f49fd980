"""The targets of requests: paths of the API, and parameters of reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from relay.apiserver.access.principals import EVERY_PROJECT
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import (
    Cause,
    bad_request,
    forbidden_field,
    invalid_options,
    no_such_resource,
    required,
    unsupported,
)
from relay.apiserver.objects.kinds import ResourceKind
from relay.apiserver.objects.metadata import MANAGER_CHARS_MAX, is_printable, name_problem

_PROJECTS: Final = "projects"
_NAMESPACES: Final = "namespaces"
FIELD_VALIDATIONS: Final = ("", "Ignore", "Strict", "Warn")
MATCHES: Final = ("Exact", "NotOlderThan")
_PROPAGATIONS: Final = ("Foreground", "Background", "Orphan", "nil")


@dataclass(frozen=True, slots=True)
class ResourceTarget:
    """A resource that a path names; ``namespace`` and ``name`` are "" for all of them."""

    kind: ResourceKind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class ApiTarget:
    """Project and path below it; ``resource`` is None for a path of another kind."""

    project: str
    path: str
    resource: ResourceTarget | None


def parse_target(raw_path: str, *, tenancy: bool, kinds: tuple[ResourceKind, ...]) -> ApiTarget:
    """Read a path; raise ApiRefusalError for a project's name that cannot be one."""
    segments = [unquote(segment) for segment in raw_path.split("/")[1:]]
    project = ""
    if tenancy:
        if segments[0] != _PROJECTS or len(segments) < 2:
            # Names of projects are not guessed: this is what any path without one gets.
            return ApiTarget("", raw_path, None)
        project = segments[1]
        if project != EVERY_PROJECT and name_problem(project):
            raise no_such_resource()
        segments = segments[2:]
    while segments and not segments[-1]:
        segments.pop()
    path = "/" + "/".join(segments)
    return ApiTarget(project, path, _resource(segments, kinds))


def _resource(segments: list[str], served: tuple[ResourceKind, ...]) -> ResourceTarget | None:
    if segments[:2] == ["api", "v1"]:
        group, version, rest = "", "v1", segments[2:]
    elif segments[:1] == ["apis"] and len(segments) >= 3:
        group, version, rest = segments[1], segments[2], segments[3:]
    else:
        return None
    kinds = {
        kind.plural: kind for kind in served if kind.group == group and kind.version == version
    }
    namespace = ""
    if rest[:1] == [_NAMESPACES] and len(rest) > 2 and rest[2] in kinds:
        namespace, rest = rest[1], rest[2:]
        if not namespace:
            return None
    if not 1 <= len(rest) <= 3 or rest[0] not in kinds or not all(rest):
        return None
    kind = kinds[rest[0]]
    if namespace and not kind.namespaced:
        return None
    if kind.namespaced and len(rest) > 1 and not namespace:
        return None
    name, subresource = ([*rest[1:], "", ""])[:2]
    return ResourceTarget(kind, namespace, name, subresource)


@dataclass(frozen=True, slots=True)
class ReadParameters:
    """Parameters of a list or watch."""

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_token: str = ""
    version: str = ""
    match: str = ""
    watch: bool = False
    bookmarks: bool = False
    timeout_s: int = 0
    initial_events: bool | None = None


def _flag(query: Mapping[str, str], name: str) -> bool:
    """Return a flag as kube-apiserver reads it: anything but false and 0 is true."""
    return name in query and query[name].lower() not in ("false", "0")


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "")
    if not text:
        return 0
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise bad_request(f'{name}: Invalid value: "{text[:80]}": must be a whole number')
    return int(text)


def read_parameters(query: Mapping[str, str]) -> ReadParameters:
    """Read the parameters of a list or watch; raise ApiRefusalError."""
    found = ReadParameters(
        label_selector=query.get("labelSelector", ""),
        field_selector=query.get("fieldSelector", ""),
        limit=_number(query, "limit"),
        continue_token=query.get("continue", ""),
        version=query.get("resourceVersion", ""),
        match=query.get("resourceVersionMatch", ""),
        watch=_flag(query, "watch"),
        bookmarks=_flag(query, "allowWatchBookmarks"),
        timeout_s=_number(query, "timeoutSeconds"),
        initial_events=_flag(query, "sendInitialEvents") if "sendInitialEvents" in query else None,
    )
    causes = _watch_causes(found) if found.watch else _list_causes(found)
    if causes:
        raise invalid_options("ListOptions", *causes)
    return found


def _watch_causes(found: ReadParameters) -> list[Cause]:
    place = "resourceVersionMatch"
    causes = []
    if found.match and found.initial_events is None:
        message = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        causes.append(forbidden_field(place, message))
    if found.initial_events is not None:
        if not found.match:
            message = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            causes.append(forbidden_field(place, message))
        elif found.match != "NotOlderThan":
            causes.append(unsupported(place, found.match, ("NotOlderThan",)))
    return causes


def _list_causes(found: ReadParameters) -> list[Cause]:
    place = "resourceVersionMatch"
    causes = []
    if found.initial_events is not None:
        message = "sendInitialEvents is forbidden for list"
        causes.append(forbidden_field("sendInitialEvents", message))
    if found.match:
        if not found.version:
            message = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            causes.append(forbidden_field(place, message))
        if found.continue_token:
            message = "resourceVersionMatch is forbidden when continue is provided"
            causes.append(forbidden_field(place, message))
        if found.match not in MATCHES:
            causes.append(unsupported(place, found.match, (*MATCHES, "")))
        elif found.match == "Exact" and found.version == "0":
            message = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            causes.append(forbidden_field(place, message))
    return causes


@dataclass(frozen=True, slots=True)
class WriteParameters:
    """Parameters of a write."""

    field_manager: str = ""
    field_validation: str = "Warn"
    force: bool = False
    dry_run: bool = False


def write_parameters(
    query: Mapping[str, str], dry_run: list[str], options: str, *, is_apply: bool = False
) -> WriteParameters:
    """Read the parameters of a write; ``options`` is their kind, for refusals."""
    causes = []
    if dry_run not in ([], ["All"]):
        causes.append(unsupported("dryRun", dry_run, ("All",)))
    manager = query.get("fieldManager", "")
    if is_apply and not manager:
        causes.append(required("fieldManager", "is required for apply patch"))
    if len(manager.encode()) > MANAGER_CHARS_MAX:
        message = f"Too long: may not be more than {MANAGER_CHARS_MAX} bytes"
        causes.append(Cause("fieldManager", "FieldValueTooLong", message))
    elif not is_printable(manager):
        message = "should only contain printable characters"
        causes.append(Cause("fieldManager", "FieldValueInvalid", f"Invalid value: {message}"))
    if "force" in query and not is_apply and options == "PatchOptions":
        causes.append(forbidden_field("force", "may not be specified for non-apply patch"))
    validation = query.get("fieldValidation", "")
    if validation not in FIELD_VALIDATIONS:
        causes.append(unsupported("fieldValidation", validation, FIELD_VALIDATIONS))
    if causes:
        raise invalid_options(options, *causes)
    return WriteParameters(manager, validation or "Warn", _flag(query, "force"), bool(dry_run))


def delete_parameters(
    query: Mapping[str, str], dry_run: list[str], body: JsonObject
) -> tuple[JsonObject, bool]:
    """Return the preconditions of a deletion, and whether it is a dry run; raise ApiRefusalError.

    ``body`` has DeleteOptions, empty for none; the query comes before it.
    """
    asked = dry_run or body.get("dryRun") or []
    propagation = query.get("propagationPolicy") or body.get("propagationPolicy")
    causes = []
    if asked not in ([], ["All"]):
        causes.append(unsupported("dryRun", asked, ("All",)))
    if propagation is not None and propagation not in _PROPAGATIONS[:3]:
        causes.append(unsupported("propagationPolicy", propagation, _PROPAGATIONS))
    if causes:
        raise invalid_options("DeleteOptions", *causes)
    preconditions = body.get("preconditions") or {}
    if not isinstance(preconditions, dict):
        raise bad_request("preconditions must be an object")
    return preconditions, bool(asked)
