"""Metadata of objects: what the server sets, what it refuses, in kube-apiserver's words."""

from __future__ import annotations

import re
from typing import Any, Final

from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import (
    ApiRefusalError,
    Cause,
    bad_request,
    forbidden_field,
    invalid_value,
    required,
)
from relay.apiserver.objects.kinds import ResourceKind

NAME_CHARS_MAX: Final = 253
LABEL_CHARS_MAX: Final = 63
ANNOTATIONS_BYTES_MAX: Final = 256 * 1024
GENERATED_BASE_CHARS_MAX: Final = 58
GENERATED_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
"""Letters of generated suffixes: no vowels, so that no words come about."""
SUFFIX_CHARS: Final = 5
MANAGER_CHARS_MAX: Final = 128
FILE_ANNOTATION: Final = "relay.telemetry.datumapis.com/file"
"""Annotation of an object that is read from a file; only the relay sets it."""

_LABEL_TEXT: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_TEXT: Final = f"{_LABEL_TEXT}(\\.{_LABEL_TEXT})*"
_NAME_TEXT: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_DNS_LABEL: Final = re.compile(_LABEL_TEXT)
_SUBDOMAIN: Final = re.compile(_SUBDOMAIN_TEXT)
_NAME: Final = re.compile(_NAME_TEXT)
_SUBDOMAIN_MESSAGE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    f"for validation is '{_SUBDOMAIN_TEXT}')"
)
_DNS_LABEL_MESSAGE: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
    f"for validation is '{_LABEL_TEXT}')"
)
_NAME_MESSAGE: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    f"validation is '{_NAME_TEXT}')"
)
_VALUE_MESSAGE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
    f"or '12345', regex used for validation is '({_NAME_TEXT})?')"
)
_STANDARD_FINALIZERS: Final = frozenset({"kubernetes", "orphan", "foregroundDeletion"})


def name_problem(name: str, *, is_label: bool = False) -> str:
    """Return the fault of an object's name, "" for none; ``is_label`` for a namespace's."""
    if is_label:
        if len(name) > LABEL_CHARS_MAX:
            return f"must be no more than {LABEL_CHARS_MAX} bytes"
        return "" if _DNS_LABEL.fullmatch(name) else _DNS_LABEL_MESSAGE
    if len(name) > NAME_CHARS_MAX:
        return f"must be no more than {NAME_CHARS_MAX} bytes"
    return "" if _SUBDOMAIN.fullmatch(name) else _SUBDOMAIN_MESSAGE


def key_problem(key: str) -> str:
    """Return the fault of a label's key, "" for none."""
    prefix, slash, name = key.rpartition("/")
    if slash and not prefix:
        return "prefix part must be non-empty"
    if "/" in prefix:
        return (
            "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must "
            "start and end with an alphanumeric character with an optional DNS subdomain prefix "
            "and '/' (e.g. 'example.com/MyName')"
        )
    if prefix and (len(prefix) > NAME_CHARS_MAX or not _SUBDOMAIN.fullmatch(prefix)):
        return f"prefix part {_SUBDOMAIN_MESSAGE}"
    if not name:
        return "name part must be non-empty"
    if len(name) > LABEL_CHARS_MAX:
        return f"name part must be no more than {LABEL_CHARS_MAX} bytes"
    return "" if _NAME.fullmatch(name) else _NAME_MESSAGE


def value_problem(value: str) -> str:
    """Return the fault of a label's value, "" for none."""
    if len(value) > LABEL_CHARS_MAX:
        return f"must be no more than {LABEL_CHARS_MAX} bytes"
    return "" if not value or _NAME.fullmatch(value) else _VALUE_MESSAGE


def generated_name(base: str, suffix: str) -> str:
    """Return a name made of ``generateName`` and a random suffix."""
    return f"{base[:GENERATED_BASE_CHARS_MAX]}{suffix}"


def metadata_causes(kind: ResourceKind, metadata: JsonObject) -> list[Cause]:
    """Return the faults of an object's metadata."""
    causes: list[Cause] = []
    name = metadata.get("name", "")
    if not name:
        causes.append(required("metadata.name", "name or generateName is required"))
    elif problem := name_problem(name, is_label=not kind.namespaced):
        causes.append(invalid_value("metadata.name", name, problem))
    for key, value in metadata.get("labels", {}).items():
        if problem := key_problem(key):
            causes.append(invalid_value("metadata.labels", key, problem))
        if problem := value_problem(value):
            causes.append(invalid_value("metadata.labels", value, problem))
    size = 0
    for key, value in metadata.get("annotations", {}).items():
        size += len(key.encode()) + len(value.encode())
        if problem := key_problem(key.lower()):
            causes.append(invalid_value("metadata.annotations", key, problem))
    if size > ANNOTATIONS_BYTES_MAX:
        message = f"may not be more than {ANNOTATIONS_BYTES_MAX} bytes"
        causes.append(Cause("metadata.annotations", "FieldValueTooLong", f"Too long: {message}"))
    for index, finalizer in enumerate(metadata.get("finalizers", ())):
        place = f"metadata.finalizers[{index}]" if kind.is_custom else "metadata.finalizers"
        if problem := key_problem(finalizer):
            causes.append(invalid_value(place, finalizer, problem))
        elif "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS and not kind.is_custom:
            message = "name is neither a standard finalizer name nor is it fully qualified"
            causes.append(invalid_value(place, finalizer, message))
    for index, owner in enumerate(metadata.get("ownerReferences", ())):
        causes += _owner_causes(f"metadata.ownerReferences[{index}]", owner)
    return causes


def _owner_causes(place: str, owner: JsonObject) -> list[Cause]:
    words = {
        "apiVersion": "version must not be empty",
        "kind": "must not be empty",
        "name": "must not be empty",
        "uid": "must not be empty",
    }
    return [
        invalid_value(f"{place}.{name}", "", message)
        for name, message in words.items()
        if not owner.get(name)
    ]


def changed_metadata_causes(old: JsonObject, new: JsonObject) -> list[Cause]:
    """Return the faults of a change of metadata."""
    causes = []
    if old.get("deletionTimestamp"):
        known = old.get("finalizers", [])
        added = [one for one in new.get("finalizers", []) if one not in known]
        if added:
            listed = ", ".join(f'"{one}"' for one in sorted(added))
            message = (
                "no new finalizers can be added if the object is being deleted, "
                f"found new finalizers []string{{{listed}}}"
            )
            causes.append(forbidden_field("metadata.finalizers", message))
    return causes


def finalizer_warnings(old: JsonObject, new: JsonObject) -> list[str]:
    """Return warnings about new finalizers whose names may collide with others."""
    added = set(new.get("finalizers", ())) - set(old.get("finalizers", ()))
    return [
        f'metadata.finalizers: "{one}": prefer a domain-qualified finalizer name including a path '
        "(/) to avoid accidental conflicts with other finalizer writers"
        for one in sorted(added - _STANDARD_FINALIZERS)
        if "/" not in one
    ]


def checked_namespace(kind: ResourceKind, metadata: JsonObject, namespace: str) -> None:
    """Set the namespace of the request; raise ApiRefusalError if the object names another one."""
    given = metadata.get("namespace", "")
    if not kind.namespaced:
        if given:
            metadata.pop("namespace")
        return
    if given and given != namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    metadata["namespace"] = namespace


def checked_name(metadata: JsonObject, name: str) -> None:
    """Set the name of the request; raise ApiRefusalError if the object has another one."""
    given = metadata.get("name", "")
    if given and given != name:
        raise bad_request(
            f"the name of the object ({given}) does not match the name on the URL ({name})"
        )
    metadata["name"] = name


def manager_of(field_manager: str, user_agent: str) -> str:
    """Return the name of the manager of a request without server-side apply.

    That is its ``fieldManager``, or the part of the user agent before the first slash.
    """
    return field_manager or user_agent.partition("/")[0][:MANAGER_CHARS_MAX] or "unknown"


def is_printable(text: str) -> bool:
    """Return True if a manager's name has printable characters only."""
    return text.isprintable()


def refused_version(text: Any) -> ApiRefusalError:
    """Return the refusal of a ``resourceVersion`` that is no number."""
    return bad_request(f'resourceVersion: Invalid value: "{text}": must be a number')


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
