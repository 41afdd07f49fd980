"""Decide what a write makes of an object: pure functions from the stored object to the new one.

Every function checks the request and raises ApiRefusalError; nothing is changed in place. ``live``
is the stored object, Secrets with their values; so is the result. Versions are the store's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from relay.apiserver.merging.json_patch import (
    PatchError,
    PatchNotApplicableError,
    json_patched,
    merge_patched,
)
from relay.apiserver.merging.managed_fields import (
    ApplyConflictError,
    FieldManager,
    JsonObject,
    NotApplicableError,
)
from relay.apiserver.merging.strategic_patch import strategic_patched
from relay.apiserver.merging.typed_values import equal
from relay.apiserver.objects.failures import (
    ApiRefusalError,
    Cause,
    ResourceName,
    apply_conflict,
    bad_request,
    conflict,
    forbidden_field,
    invalid,
    invalid_value,
    too_large,
    unprocessable,
)
from relay.apiserver.objects.field_checks import Fitting, size_problem
from relay.apiserver.objects.kinds import ResourceKind
from relay.apiserver.objects.masking import (
    masked,
    with_masked_annotation,
    with_stored_values,
    with_text_values,
)
from relay.apiserver.objects.metadata import (
    changed_metadata_causes,
    checked_name,
    checked_namespace,
    finalizer_warnings,
    generated_name,
    manager_of,
    metadata_causes,
    with_type,
)
from relay.apiserver.objects.validation import (
    changed_content_causes,
    completed,
    content_causes,
    status_causes,
)

STATUS: Final = "status"
MANAGERS_MAX: Final = 100
"""Managers of an object's fields: each costs every write of it."""
JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
_KEPT: Final = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
    "namespace",
    "name",
    "selfLink",
)
"""Fields of the metadata that a write never changes."""
_SET_BY_SERVER: Final = (*_KEPT[:6], "selfLink")
"""Fields of the metadata that the author of a new object cannot set."""


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Parameters of a write; ``field_validation`` is Ignore, Warn or Strict."""

    field_manager: str = ""
    user_agent: str = ""
    field_validation: str = "Warn"
    force: bool = False
    duplicates: tuple[str, ...] = ()
    """Fields that the body gives twice."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Time (RFC 3339, seconds) and random parts for what a write makes."""

    now: str
    uid: str
    suffix: str


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """The place of an object; ``name`` is "" for a name that is to be generated."""

    project: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """A write as it was asked for; ``subresource`` is "" or ``status``."""

    kind: ResourceKind
    place: ObjectPlace
    options: WriteOptions
    stamp: Stamp
    subresource: str = ""

    @property
    def field_manager(self) -> FieldManager:
        """The field manager of the resource or subresource."""
        return self.kind.status_manager if self.subresource == STATUS else self.kind.manager

    @property
    def is_secret(self) -> bool:
        """True for a Secret."""
        return self.kind.storage_key == "secrets"


@dataclass(slots=True)
class WriteResult:
    """An object after a write. ``is_deleted`` says that its last finalizer went."""

    value: JsonObject
    warnings: list[str] = field(default_factory=list)
    is_changed: bool = True
    is_deleted: bool = False


def create(request: WriteRequest, body: Any) -> WriteResult:
    """Return a new object."""
    kind, place, options = request.kind, request.place, request.options
    body = with_type(kind, body)
    value, warnings = _fitted(request, body)
    metadata = value["metadata"]
    if metadata.get("resourceVersion"):
        raise bad_request("resourceVersion should not be set on objects to be created")
    checked_namespace(kind, metadata, place.namespace)
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = generated_name(metadata["generateName"], request.stamp.suffix)
    value = _prepared(request, value, None)
    manager = manager_of(options.field_manager, options.user_agent)
    empty = {"apiVersion": kind.api_version, "kind": kind.kind}
    entries = kind.manager.updated(empty, value, manager, request.stamp.now)
    return _created(request, value, entries, warnings)


def _created(
    request: WriteRequest, value: JsonObject, entries: list[JsonObject], warnings: list[str]
) -> WriteResult:
    kind, stamp = request.kind, request.stamp
    if kind.has_status:
        value = {key: own for key, own in value.items() if key != STATUS}
    metadata = {key: own for key, own in value["metadata"].items() if key not in _SET_BY_SERVER}
    metadata |= {"uid": stamp.uid, "creationTimestamp": stamp.now}
    if kind.is_custom:
        metadata["generation"] = 1
    metadata = _with_entries(metadata, entries)
    value = {**value, "metadata": metadata}
    causes = metadata_causes(kind, metadata)
    found, more = content_causes(kind, value, request.place.project)
    causes += found
    if causes:
        raise invalid(kind.names, metadata.get("name", ""), causes)
    warnings += more
    if kind.is_custom:
        warnings += finalizer_warnings({}, metadata)
    return WriteResult(value, warnings)


def check_update(request: WriteRequest, body: Any) -> tuple[JsonObject, list[str]]:
    """Return the object that a body describes, and warnings; raise ApiRefusalError."""
    kind, place = request.kind, request.place
    body = with_type(kind, body)
    value, warnings = _fitted(request, body)
    checked_name(value["metadata"], place.name)
    checked_namespace(kind, value["metadata"], place.namespace)
    return value, warnings


def update(request: WriteRequest, live: JsonObject, body: Any) -> WriteResult:
    """Return the object that replaces ``live``."""
    kind, place = request.kind, request.place
    value, warnings = check_update(request, body)
    if kind.is_custom and not value["metadata"].get("resourceVersion"):
        cause = invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
        names = ResourceName(kind.group, kind.plural, kind.plural)
        raise invalid(names, place.name, [cause])
    return _finished(request, live, value, warnings)


def patch(request: WriteRequest, live: JsonObject, media_type: str, body: Any) -> WriteResult:
    """Return the object with a JSON, merge or strategic merge patch applied.

    A Secret is patched as it is shown, so that a patch cannot copy its values elsewhere.
    """
    kind, place = request.kind, request.place
    shown = masked(live) if request.is_secret else live
    if media_type != JSON_PATCH and not isinstance(body, dict):
        raise bad_request("error decoding patch: the patch must be an object")
    try:
        if media_type == JSON_PATCH:
            patched = json_patched(shown, body)
        elif media_type == MERGE_PATCH:
            patched = merge_patched(shown, body)
        else:
            patched = strategic_patched(shown, body, kind.node, kind.definitions)
    except PatchError as error:
        raise bad_request(f"error decoding patch: {error}") from error
    except PatchNotApplicableError as error:
        raise unprocessable(str(error)) from error
    if not isinstance(patched, dict):
        raise bad_request("error decoding patch: the result is not an object")
    for name, own in (("apiVersion", kind.api_version), ("kind", kind.kind)):
        if patched.get(name) != own:
            cause = invalid_value(name, patched.get(name), f"must be {own}")
            raise invalid(kind.names, place.name, [cause])
    value, warnings = _fitted(request, patched, is_patch=True)
    checked_name(value["metadata"], place.name)
    checked_namespace(kind, value["metadata"], place.namespace)
    return _finished(request, live, value, warnings)


def apply(request: WriteRequest, live: JsonObject | None, config: Any) -> WriteResult:
    """Return the object with a configuration applied; ``live`` is None if there is none yet."""
    kind, place, options = request.kind, request.place, request.options
    if not isinstance(config, dict):
        raise bad_request("error decoding patch: the configuration must be an object")
    if config.get("apiVersion") != kind.api_version or config.get("kind") != kind.kind:
        raise bad_request(f"invalid object type: {_type_text(config)}")
    metadata = config.get("metadata")
    if isinstance(metadata, dict) and metadata.get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")
    if options.duplicates and options.field_validation == "Strict":
        said = ", ".join(f'duplicate field "{path}"' for path in options.duplicates)
        raise bad_request(f"error strict decoding patch: {said}")
    _check_size(config)
    base: JsonObject = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {}}
    before = base if live is None else live
    if request.is_secret:
        config = with_stored_values(config, live)
    try:
        made, entries = request.field_manager.applied(
            before, config, options.field_manager, request.stamp.now, force=options.force
        )
    except NotApplicableError as error:
        subject = f"{place.namespace}/{place.name}; {_type_text(config)}"
        said = error.without_values if request.is_secret else str(error)
        raise bad_request(f"failed to create typed patch object ({subject}): {said}") from error
    except ApplyConflictError as error:
        causes = [Cause(c.field, "FieldManagerConflict", c.message) for c in error.conflicts]
        raise apply_conflict(str(error), causes) from error
    if len(entries) > MANAGERS_MAX and len(entries) > len(_entries(before)):
        message = f"must have at most {MANAGERS_MAX} managers; apply with the name of one of them"
        cause = forbidden_field("metadata.managedFields", message)
        raise invalid(kind.names, place.name, [cause])
    value, warnings = _fitted(request, made, is_patch=True)
    checked_name(value["metadata"], place.name)
    checked_namespace(kind, value["metadata"], place.namespace)
    if live is not None:
        return _finished(request, live, value, warnings, entries)
    uid = value["metadata"].get("uid")
    if uid:
        cause = invalid_value("metadata.uid", uid, "field is immutable")
        raise invalid(kind.names, place.name, [cause])
    return _created(request, _prepared(request, value, None), entries, warnings)


def _entries(value: JsonObject) -> list[JsonObject]:
    entries: list[JsonObject] = value["metadata"].get("managedFields") or []
    return entries


def delete(
    kind: ResourceKind, live: JsonObject, preconditions: JsonObject, stamp: Stamp
) -> WriteResult:
    """Return what a deletion leaves: nothing, or an object that waits for its finalizers."""
    metadata = live["metadata"]
    name = metadata["name"]
    names = ResourceName(kind.group, kind.kind, kind.kind)
    for field_name, said in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        wanted = preconditions.get(field_name)
        if wanted is not None and wanted != metadata.get(field_name):
            article = "The object might have been deleted and then recreated"
            if field_name == "resourceVersion":
                article = "The object might have been modified"
            message = (
                f"the {said} in the precondition ({wanted}) does not match the {said} in record "
                f"({metadata.get(field_name)}). {article}"
            )
            raise conflict(names, name, message)
    if not metadata.get("finalizers"):
        return WriteResult(live, is_deleted=True)
    if metadata.get("deletionTimestamp"):
        return WriteResult(live, is_changed=False)
    changed = {**metadata, "deletionTimestamp": stamp.now, "deletionGracePeriodSeconds": 0}
    if "generation" in changed:
        changed["generation"] += 1
    return WriteResult({**live, "metadata": changed})


def _type_text(value: JsonObject) -> str:
    version = value.get("apiVersion") or ""
    group = version if "/" in str(version) else f"/{version}"
    return f"{group}, Kind={value.get('kind') or ''}"


def _fitted(
    request: WriteRequest, body: JsonObject, *, is_patch: bool = False
) -> tuple[JsonObject, list[str]]:
    """Return an object with known fields only and with defaults, and warnings."""
    kind, options = request.kind, request.options
    _check_size(body)
    fitting = Fitting(kind.definitions, defaults=kind.is_custom, strict_types=not kind.is_custom)
    # Metadata is read as Go reads it, whatever the kind.
    of_metadata = Fitting(kind.definitions, defaults=False, strict_types=True)
    own = {key: value for key, value in body.items() if key != "metadata"}
    metadata = body.get("metadata")
    node = kind.node["properties"]["metadata"]
    value: JsonObject = fitting.fit(own, kind.node)
    read = of_metadata.fit({} if metadata is None else metadata, node, "metadata")
    wrong = of_metadata.wrong + fitting.wrong
    if wrong:
        raise _undecodable(kind, wrong[0], is_patch=is_patch)
    value["metadata"] = read
    found = [f'duplicate field "{path}"' for path in options.duplicates]
    unknown = sorted(fitting.unknown) + sorted(of_metadata.unknown)
    found += [f'unknown field "{path}"' for path in unknown]
    if found and options.field_validation == "Strict":
        said = "strict decoding error: " + ", ".join(found)
        raise _undecodable(kind, said, is_patch=is_patch)
    return value, found if options.field_validation == "Warn" else []


def _check_size(body: JsonObject) -> None:
    problem = size_problem(body)
    if problem:
        raise too_large(f"the object {problem}")


def _undecodable(kind: ResourceKind, message: str, *, is_patch: bool) -> ApiRefusalError:
    if is_patch:
        cause = Cause("patch", "FieldValueInvalid", f"Invalid value: {message}")
        return invalid(ResourceName("", "", ""), "", [cause])
    handled = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
    return bad_request(handled + message)


def _prepared(request: WriteRequest, value: JsonObject, live: JsonObject | None) -> JsonObject:
    """Return an object in the form in which it is stored."""
    if request.is_secret:
        value = with_stored_values(value, live)
        value = with_masked_annotation(with_text_values(value))
    return completed(request.kind, value)


def _with_entries(metadata: JsonObject, entries: list[JsonObject]) -> JsonObject:
    made = {key: own for key, own in metadata.items() if key != "managedFields"}
    return {**made, "managedFields": entries} if entries else made


def _finished(
    request: WriteRequest,
    live: JsonObject,
    value: JsonObject,
    warnings: list[str],
    entries: list[JsonObject] | None = None,
) -> WriteResult:
    """Check preconditions, restore what a write must not change, and validate."""
    kind, options = request.kind, request.options
    is_status = request.subresource == STATUS
    _check_preconditions(kind, live, value, request.place)
    value = _prepared(request, value, live)
    if entries is None:
        manager = manager_of(options.field_manager, options.user_agent)
        entries = request.field_manager.updated(live, value, manager, request.stamp.now)
    old = live["metadata"]
    made = _with_status_of(live, value) if is_status else _without_status(kind, live, value)
    metadata = _with_entries(made["metadata"], entries)
    made["metadata"] = metadata
    is_same = equal(_without_metadata(made), _without_metadata(live))
    if is_same and equal(_timeless(metadata), _timeless(old)):
        return WriteResult(live, warnings, is_changed=False)
    if kind.is_custom and not is_status and not is_same:
        metadata["generation"] = old.get("generation", 0) + 1
    causes = metadata_causes(kind, metadata) + changed_metadata_causes(old, metadata)
    if is_status:
        causes += status_causes(kind, made.get(STATUS))
    elif not is_same:
        found, more = content_causes(kind, made, request.place.project)
        causes += changed_content_causes(kind, live, made) + found
        warnings += more
    if causes:
        raise invalid(kind.names, request.place.name, causes)
    if kind.is_custom:
        warnings += finalizer_warnings(old, metadata)
    is_deleted = bool(old.get("deletionTimestamp")) and not metadata.get("finalizers")
    return WriteResult(made, warnings, is_deleted=is_deleted)


def _with_status_of(live: JsonObject, value: JsonObject) -> JsonObject:
    """Return the stored object with the new status."""
    made = {key: own for key, own in live.items() if key != STATUS}
    if STATUS in value:
        made[STATUS] = value[STATUS]
    return made


def _without_status(kind: ResourceKind, live: JsonObject, value: JsonObject) -> JsonObject:
    """Return the new object with the parts of the stored one that only the server changes."""
    made = dict(value)
    if kind.has_status:
        made.pop(STATUS, None)
        if STATUS in live:
            made[STATUS] = live[STATUS]
    old = live["metadata"]
    metadata = {key: own for key, own in value["metadata"].items() if key not in _KEPT}
    made["metadata"] = metadata | {key: old[key] for key in _KEPT if key in old}
    return made


def _check_preconditions(
    kind: ResourceKind, live: JsonObject, value: JsonObject, place: ObjectPlace
) -> None:
    given, own = value["metadata"], live["metadata"]
    version = given.get("resourceVersion")
    if version and version != own.get("resourceVersion"):
        raise conflict(kind.names, place.name)
    uid = given.get("uid")
    if uid and uid != own.get("uid"):
        message = f"Precondition failed: UID in precondition: {uid}, UID in object meta: "
        raise conflict(kind.names, place.name, message + str(own.get("uid")))


def _without_metadata(value: JsonObject) -> JsonObject:
    return {key: own for key, own in value.items() if key != "metadata"}


def _timeless(metadata: JsonObject) -> JsonObject:
    """Return metadata without the times of its managers: they alone are no change."""
    entries = [
        {key: own for key, own in entry.items() if key != "time"}
        for entry in metadata.get("managedFields", ())
    ]
    return {**metadata, "managedFields": entries}


__all__ = [
    "APPLY_PATCH",
    "JSON_PATCH",
    "MERGE_PATCH",
    "STATUS",
    "STRATEGIC_PATCH",
    "ApiRefusalError",
    "ObjectPlace",
    "Stamp",
    "WriteOptions",
    "WriteResult",
    "apply",
    "check_update",
    "create",
    "delete",
    "patch",
    "update",
]
