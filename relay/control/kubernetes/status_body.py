"""Write and read the status of an object as Kubernetes has it. Pure.

Rules:

* Server-side apply under our own field manager: what others write into the status stays theirs,
  and what we leave out is taken away. The body names the resource version that was judged, so
  that no later version and no successor gets this one's status: of the uid alone the API server
  (seen with 1.37) takes no notice in a status.
* A status is compared in three parts, by how soon a difference is worth a write: conditions,
  messages, and counters (:class:`StatusParts`). So a status that the server already has is not
  written again after a restart. The message of ``ResolvedRefs`` counts as its condition: it changes
  when an owner repairs a Secret, who waits to see that it helped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from relay.control.kubernetes.objects import UNREADABLE, ApiObject, ApiResource
from relay.control.status.conditions import (
    MESSAGE_CHARS_MAX,
    OWN_TYPES,
    ConditionStatus,
    StatusCondition,
)
from relay.control.status.object_status import (
    ObjectStatus,
    SignalStatus,
    SinkStatus,
    UsageFigures,
)
from relay.runtime.excerpt import clipped

FIELD_MANAGER: Final = "telemetry-relay"
_OTHER_PARTS: Final = ("usage", "sources", "relays")
_STATUSES: Final[tuple[ConditionStatus, ...]] = ("True", "False", "Unknown")


class StatusParts(msgspec.Struct, frozen=True):
    """Digests of a status: of its conditions, of its messages, and of everything."""

    conditions: bytes
    messages: bytes
    everything: bytes


def status_document(status: ObjectStatus) -> dict[str, Any]:
    """Return the value of ``status``."""
    document = figures_document(status)
    document["conditions"] = [condition_document(one) for one in status.conditions]
    for shown, sink in zip(document.get("sinks", ()), status.sinks, strict=True):
        shown["conditions"] = [condition_document(one) for one in sink.conditions]
    return document


def figures_document(status: ObjectStatus) -> dict[str, Any]:
    """Return the value of ``status`` without its conditions."""
    document: dict[str, Any] = {}
    if status.sinks:
        document["sinks"] = [_sink(one) for one in status.sinks]
    if status.usage is not None:
        document["usage"] = usage_document(status.usage)
    if status.source_usage:
        document["sources"] = [
            {"name": name, "usage": usage_document(usage)}
            for name, usage in status.source_usage.items()
        ]
    if status.relays:
        document["relays"] = status.relays
    return document


def apply_body(
    resource: ApiResource, target: ApiObject, document: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the body of an apply patch to the object's status."""
    metadata = {"name": target.name, "uid": target.uid}
    metadata["resourceVersion"] = target.resource_version
    if target.namespace:
        metadata["namespace"] = target.namespace
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
        "status": dict(document),
    }


def parts_of(document: Mapping[str, Any]) -> StatusParts:
    """Return the digests of a status document, whatever its shape: ours, or the server's."""
    sections = [document, *_mappings(document.get("sinks"))]
    judged: list[object] = []
    told: list[object] = [document.get("relays")]
    for section in sections:
        judged.append(section.get("name"))
        for one in _mappings(section.get("conditions")):
            judged.append([one.get(word) for word in ("type", "status", "reason")])
            judged.append(one.get("observedGeneration"))
            is_repaired = one.get("type") == "ResolvedRefs"
            (judged if is_repaired else told).append(one.get("message"))
        error = section.get("lastError")
        told.append(error.get("message") if isinstance(error, Mapping) else None)
    return StatusParts(_digest(judged), _digest(told), _digest(document))


def own_part(status: bytes) -> dict[str, Any]:
    """Return what relays have written into a status (JSON; b"" for none), {} for nothing.

    Conditions of other writers are left out.
    """
    try:
        document = msgspec.json.decode(status) if status else {}
    except UNREADABLE:
        return {}
    conditions = _own_conditions(document) if isinstance(document, dict) else []
    if not conditions:
        return {}
    own: dict[str, Any] = {"conditions": conditions}
    sinks = [
        {**one, "conditions": _own_conditions(one)}
        for one in _mappings(document.get("sinks"))
        if isinstance(one.get("name"), str)
    ]
    if sinks:
        own["sinks"] = sinks
    return own | {name: document[name] for name in _OTHER_PARTS if name in document}


def read_conditions(document: Mapping[str, Any]) -> tuple[StatusCondition, ...]:
    """Return the conditions of a status or a sink; those of a wrong shape are left out.

    They carry the times of transitions over a restart.
    """
    found: list[StatusCondition] = []
    for one in _mappings(document.get("conditions")):
        name, reason, message = (one.get(word, "") for word in ("type", "reason", "message"))
        generation = one.get("observedGeneration", 0)
        since = read_time(one.get("lastTransitionTime"))
        status = next((known for known in _STATUSES if known == one.get("status")), None)
        if status is None or since is None or not isinstance(generation, int):
            continue
        if isinstance(name, str) and isinstance(reason, str) and isinstance(message, str):
            found.append(StatusCondition(name, status, reason, message, generation, since))
    return tuple(found)


def written_time(at: float) -> str:
    """Return a time (wall clock, s) as Kubernetes writes it: RFC 3339, whole seconds."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_time(text: object) -> float | None:
    """Return the wall clock, s, of an RFC 3339 time; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    return read.timestamp() if read.tzinfo is not None else None


def condition_document(one: StatusCondition) -> dict[str, Any]:
    """Return a condition with Kubernetes' fields."""
    return {
        "type": one.type,
        "status": one.status,
        "reason": one.reason,
        "message": one.message,
        "observedGeneration": one.observed_generation,
        "lastTransitionTime": written_time(one.since),
    }


def _sink(sink: SinkStatus) -> dict[str, Any]:
    document: dict[str, Any] = {"name": sink.name, **_outcomes(sink)}
    if sink.signals:
        document["signals"] = [{"signal": one.signal, **_outcomes(one)} for one in sink.signals]
    if sink.usage is not None:
        document["usage"] = usage_document(sink.usage)
    return document


def _outcomes(one: SinkStatus | SignalStatus) -> dict[str, Any]:
    """Return the last success, the last failure and the ledger, as far as there are any."""
    document: dict[str, Any] = {}
    if one.last_success is not None:
        document["lastSuccess"] = written_time(one.last_success)
    if one.last_error_at is not None:
        document["lastError"] = {
            "time": written_time(one.last_error_at),
            "message": clipped(one.last_error, MESSAGE_CHARS_MAX),
        }
    if one.ledger is not None:
        ledger = one.ledger
        document["ledger"] = {
            "matched": ledger.matched,
            "delivered": ledger.delivered,
            "rejected": ledger.rejected,
            "expired": ledger.expired,
            "dropped": ledger.dropped,
            "queued": ledger.queued,
        }
    return document


def usage_document(usage: UsageFigures) -> dict[str, int]:
    """Return usage as a status has it."""
    return {
        "activeSeries": usage.active_series,
        "samplesPerMinute": usage.samples_per_minute,
        "bytesPerMinute": usage.bytes_per_minute,
        "resentPerMinute": usage.resent_per_minute,
        "recordsPerMinute": usage.records_per_minute,
    }


def _own_conditions(document: Mapping[str, Any]) -> list[Any]:
    return [one for one in _mappings(document.get("conditions")) if one.get("type") in OWN_TYPES]


def _mappings(value: object) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list):
        return ()
    return [one for one in value if isinstance(one, Mapping)]


def _digest(value: object) -> bytes:
    encoded = msgspec.json.encode(value, order="deterministic")
    return hashlib.blake2b(encoded, digest_size=16).digest()
