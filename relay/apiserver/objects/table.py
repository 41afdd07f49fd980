"""Objects as rows of a ``Table``, the form in which kubectl prints them.

Columns of custom kinds are JSONPath in the subset that the CRDs use: fields, indexes, and filters
``[?(@.type=="x")]``. Those of core kinds are kube-apiserver's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.merging.value_types import reference
from relay.apiserver.objects.kinds import META, PrinterColumn, ResourceKind

TABLE_VERSION: Final = "meta.k8s.io/v1"
_STEP: Final = re.compile(
    r"\.([A-Za-z_][\w-]*)|\[([0-9]+)\]|\['([^']+)'\]"
    r"|\[\?\(@\.([\w.]+)\s*==\s*[\"']([^\"']*)[\"']\)\]"
)
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400
_YEAR: Final = 365


def found_at(value: Any, path: str) -> Any:
    """Return the first value at a JSONPath, None for none."""
    for name, index, where, wanted in _steps(path):
        if name:
            value = value.get(name) if isinstance(value, dict) else None
        elif not isinstance(value, list):
            return None
        elif where:
            value = next((item for item in value if _text_at(item, where) == wanted), None)
        else:
            value = value[index] if index < len(value) else None
    return value


@cache
def _steps(path: str) -> tuple[tuple[str, int, tuple[str, ...], str], ...]:
    """Return the steps of a JSONPath: the name of a field, or an index, or a field and its text."""
    steps = list(_STEP.finditer(path))
    assert "".join(step[0] for step in steps) == path, f"JSONPath of an unknown form: {path}"
    return tuple(
        (
            step[1] or step[3] or "",
            int(step[2] or 0),
            tuple(step[4].split(".")) if step[4] else (),
            step[5] or "",
        )
        for step in steps
    )


def _text_at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def age(timestamp: object, now: float) -> str:
    """Return how long ago an RFC 3339 time was, as kubectl writes it."""
    if not isinstance(timestamp, str) or not timestamp:
        return "<unknown>"
    try:
        then = datetime.fromisoformat(timestamp)
    except ValueError:
        return "<invalid>"
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return duration(now - then.timestamp())


def duration(seconds: float) -> str:
    """Return a duration in one or two units."""
    whole = int(seconds)
    if whole < 0:
        return "<invalid>" if whole < -1 else "0s"
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    minutes, hours, days = whole // _MINUTE, whole // _HOUR, whole // _DAY
    if minutes < 10:
        return _two(minutes, "m", whole % _MINUTE, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if days < 2 * _YEAR:
        return f"{days}d"
    if days < 8 * _YEAR:
        return _two(days // _YEAR, "y", days % _YEAR, "d")
    return f"{days // _YEAR}y"


def _two(first: int, unit: str, second: int, smaller: str) -> str:
    return f"{first}{unit}" + (f"{second}{smaller}" if second else "")


@cache
def column_definitions(kind: ResourceKind) -> list[JsonObject]:
    """Return ``columnDefinitions``; the caller must not change them."""
    properties = kind.definitions[f"{META}ObjectMeta"]["properties"]
    name = {
        "name": "Name",
        "type": "string",
        "format": "name",
        "description": properties["name"]["description"],
        "priority": 0,
    }
    columns = [_definition(kind, column) for column in kind.columns]
    if kind.kind == "Event":
        return [
            column if column["name"] != "Name" else {**name, "priority": 1} for column in columns
        ]
    return [name, *columns]


def _definition(kind: ResourceKind, column: PrinterColumn) -> JsonObject:
    said = column.description or _description(kind, column.path)
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": said,
        "priority": column.priority,
    }


def _description(kind: ResourceKind, path: str) -> str:
    """Return the description of the field that a column shows."""
    if kind.is_custom:
        return f"Custom resource definition column (in JSONPath format): {path}"
    node, found = kind.node, ""
    for name in path.removeprefix(".").split("."):
        inner = kind.definitions[reference(node)] if reference(node) else node
        node = inner.get("properties", {}).get(name, {})
        found = node.get("description", "")
    return str(found)


@cache
def shows_status_alone(kind: ResourceKind) -> bool:
    """Return True if a row shows nothing of an object but its metadata and status."""
    return kind.is_custom and all(
        column.path.startswith((".metadata.", ".status.")) for column in kind.columns
    )


def cells(kind: ResourceKind, value: JsonObject, now: float) -> list[Any]:
    """Return the cells of an object's row; ``now`` is Unix time."""
    if kind.kind == "Event" and not kind.is_custom:
        return _event_cells(value, now)
    row: list[Any] = [value["metadata"].get("name", "")]
    for column in kind.columns:
        found = found_at(value, column.path)
        if column.path == ".metadata.creationTimestamp":
            row.append(age(found, now) if found or not kind.is_custom else None)
        elif column.name == "Data":
            row.append(len(found or {}))
        elif column.type == "date":
            row.append(None if found is None else age(found, now))
        elif isinstance(found, dict | list | bool | int | float) and column.type == "string":
            row.append(_text(found))
        else:
            row.append(found)
    return row


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _event_cells(value: JsonObject, now: float) -> list[Any]:
    involved = value.get("involvedObject") or {}
    first = age(value.get("firstTimestamp") or value.get("eventTime"), now)
    last = age(value.get("lastTimestamp"), now) if value.get("lastTimestamp") else first
    source = value.get("source") or {}
    said = source.get("component") or value.get("reportingComponent", "")
    host = source.get("host") or value.get("reportingInstance", "")
    subject = str(involved.get("kind", "")).lower()
    if involved.get("name"):
        subject = f"{subject}/{involved['name']}"
    return [
        last,
        value.get("type", ""),
        value.get("reason", ""),
        subject,
        involved.get("fieldPath", ""),
        f"{said}, {host}" if host else said,
        str(value.get("message", "")).strip(),
        first,
        str(value.get("count") or 1),
        value["metadata"].get("name", ""),
    ]


def row(kind: ResourceKind, value: JsonObject, now: float, included: str) -> JsonObject:
    """Return one row; ``included`` is None, Metadata or Object, "" for Metadata."""
    made: JsonObject = {"cells": cells(kind, value, now)}
    if included == "Object":
        made["object"] = value
    elif included != "None":
        made["object"] = partial_metadata(value)
    else:
        made["object"] = None
    return made


def partial_metadata(value: JsonObject) -> JsonObject:
    """Return an object's metadata alone."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": TABLE_VERSION,
        "metadata": value["metadata"],
    }


def table(
    kind: ResourceKind,
    values: Iterable[JsonObject],
    metadata: JsonObject,
    now: float,
    included: str = "",
    *,
    with_columns: bool = True,
) -> JsonObject:
    """Return a Table of objects."""
    return {
        "kind": "Table",
        "apiVersion": TABLE_VERSION,
        "metadata": metadata,
        "columnDefinitions": column_definitions(kind) if with_columns else None,
        "rows": [row(kind, value, now, included) for value in values],
    }
