"""Validate objects before they are stored, and complete those of the core kinds.

Exporters and policies are checked by the schemas that ``relay check`` uses, with its words; a fault
of one sink of a policy is a warning, as it costs that sink alone. Core kinds are checked in
kube-apiserver's words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from jsonschema_rs import Draft202012Validator, ValidationErrorKind

from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.merging.typed_values import mismatches
from relay.apiserver.objects.failures import (
    Cause,
    invalid_value,
    required,
    unsupported,
)
from relay.apiserver.objects.kinds import ResourceKind
from relay.apiserver.objects.masking import MASK
from relay.config.export_policy.build import build_export_policy, export_policy_schema
from relay.config.export_policy.refusal import refused_sinks
from relay.config.exporter.build import build_exporter, exporter_schema, identity_of
from relay.config.exporter.types import Exporter
from relay.config.schema.validate import Reading, Schema
from relay.config.yaml.document import Document, dotted
from relay.config.yaml.report import Report

STATUS: Final = "status"
_MESSAGE_CHARS_MAX: Final = 200
SECRET_BYTES_MAX: Final = 1024 * 1024
_SECRET_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_KEY_MESSAGE: Final = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
    "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
_KEYS_OF_TYPE: Final[dict[str, tuple[str, ...]]] = {
    "kubernetes.io/basic-auth": ("username", "password"),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
"""Keys of a Secret by its type: all of those of TLS, one of those of a password."""
NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"
EVENT_TYPES: Final = ("Normal", "Warning")

_Builder = Callable[[Reading, tuple[str, str], str], Exporter]
_BUILDERS: Final[Mapping[str, tuple[Callable[[], Schema], _Builder]]] = {
    "Exporter": (exporter_schema, build_exporter),
    "ExportPolicy": (export_policy_schema, build_export_policy),
}


def completed(kind: ResourceKind, value: JsonObject) -> JsonObject:
    """Return an object of a core kind with what the server fills in."""
    if kind.is_custom:
        return value
    if kind.kind == "Secret":
        return {**value, "type": value.get("type") or "Opaque"}
    if kind.kind == "Namespace":
        metadata = dict(value["metadata"])
        if metadata.get("name"):
            metadata["labels"] = {
                **(metadata.get("labels") or {}),
                NAMESPACE_LABEL: metadata["name"],
            }
        spec = value.get("spec") or {"finalizers": ["kubernetes"]}
        status = value.get("status") or {"phase": "Active"}
        return {**value, "metadata": metadata, "spec": spec, "status": status}
    return value


def content_causes(
    kind: ResourceKind, value: JsonObject, project: str
) -> tuple[list[Cause], list[str]]:
    """Return the faults of an object's content, and warnings about it."""
    if kind.is_custom:
        return _by_schema(kind, value, project)
    if kind.kind == "Secret":
        return list(_secret_causes(value)), []
    if kind.kind == "Event":
        return list(_event_causes(value)), []
    return [], []


@cache
def _status_validator(kind: ResourceKind) -> Draft202012Validator:
    return Draft202012Validator(kind.node["properties"]["status"])


def status_causes(kind: ResourceKind, status: Any) -> list[Cause]:
    """Return the faults of a status: what its schema refuses, and items that are not told apart."""
    if status is None:
        return []
    causes = []
    for error in _status_validator(kind).iter_errors(status):
        place = (STATUS, *error.instance_path)
        if isinstance(error.kind, ValidationErrorKind.Required):
            causes.append(required(dotted((*place, error.kind.property))))
        else:
            said = f"Invalid value: {error.message[:_MESSAGE_CHARS_MAX]}"
            causes.append(Cause(dotted(place), "FieldValueInvalid", said))
    if causes:
        return causes
    found = (one.partition(": ") for one in mismatches(kind.field_type, {STATUS: status}))
    return [
        Cause(place.lstrip("."), "FieldValueInvalid", f"Invalid value: {said}")
        for place, _, said in found
    ]


def _by_schema(
    kind: ResourceKind, value: JsonObject, project: str
) -> tuple[list[Cause], list[str]]:
    schema, builder = _BUILDERS[kind.kind]
    metadata = {
        name: value["metadata"][name] for name in ("name", "namespace") if name in value["metadata"]
    }
    known = {key: own for key, own in value.items() if key not in ("metadata", "status")}
    report = Report(Document(""))
    reading = schema().read(report, (), {**known, "metadata": metadata})
    identity = identity_of(reading, kind.kind) or ("", "")
    exporter = builder(reading, identity, project)
    warnings = [warning.text for warning in exporter.warnings]
    refused = refused_sinks(exporter, (), report) if report.faulty else ()
    if refused is not None:
        return [], warnings + [f'spec.sinks["{one.name}"]: {one.message}' for one in refused]
    causes = [
        _cause(dotted(where), fault.message)
        for where, fault in report.located_faults()
        if where[:1] != ("metadata",)  # said already, in kube-apiserver's words
    ]
    if report.overflowed:
        more = report.count - len(report.located_faults())
        causes.append(Cause("spec", "FieldValueInvalid", f"{more} more faults"))
    return causes, warnings


def _cause(field: str, message: str) -> Cause:
    if message.startswith("is required"):
        return required(field, "" if message == "is required" else message)
    return Cause(field, "FieldValueInvalid", f"Invalid value: {message}")


def _secret_causes(value: JsonObject) -> list[Cause]:
    causes = []
    data: dict[str, Any] = value.get("data") or {}
    size = 0
    for key, own in data.items():
        size += len(own) * 3 // 4
        if not _SECRET_KEY.fullmatch(key):
            causes.append(invalid_value(f"data[{key}]", key, _KEY_MESSAGE))
        if own == MASK:
            message = "the mask of a value that is not stored: write the value itself"
            causes.append(Cause(f"data[{key}]", "FieldValueInvalid", message))
    if size > SECRET_BYTES_MAX:
        message = f"Too long: may not be more than {SECRET_BYTES_MAX} bytes"
        causes.append(Cause("data", "FieldValueTooLong", message))
    kind = value.get("type", "")
    keys = _KEYS_OF_TYPE.get(kind, ())
    missing = [key for key in keys if key not in data]
    if missing and (kind == "kubernetes.io/tls" or len(missing) == len(keys)):
        causes += [required(f"data[{key}]") for key in missing]
    return causes


def changed_content_causes(kind: ResourceKind, old: JsonObject, new: JsonObject) -> list[Cause]:
    """Return the faults of a change."""
    causes = []
    if kind.kind == "Secret" and not kind.is_custom:
        if new.get("type") != old.get("type"):
            causes.append(invalid_value("type", new.get("type"), "field is immutable"))
        if old.get("immutable"):
            message = "field is immutable when `immutable` is set"
            if not new.get("immutable"):
                causes.append(Cause("immutable", "FieldValueForbidden", f"Forbidden: {message}"))
            if new.get("data") != old.get("data"):
                causes.append(Cause("data", "FieldValueForbidden", f"Forbidden: {message}"))
    return causes


def _event_causes(value: JsonObject) -> list[Cause]:
    causes = []
    involved = value.get("involvedObject") or {}
    namespace = value["metadata"].get("namespace", "")
    if involved.get("namespace", "") != namespace:
        message = "does not match event.namespace"
        causes.append(
            invalid_value("involvedObject.namespace", involved.get("namespace", ""), message)
        )
    if "type" in value and value["type"] not in EVENT_TYPES:
        causes.append(unsupported("type", value["type"], EVENT_TYPES))
    return causes
