"""Read the status that an object has on its control plane, as it was written. Pure.

Whatever has another shape than ours is left out: others write into a status, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.control.kubernetes.status_body import read_conditions, read_time
from relay.control.status.object_status import LedgerCounts, ObjectStatus, SinkStatus


def read_object_status(document: Mapping[str, Any]) -> ObjectStatus:
    """Return a status document's conditions, sinks, times and ledgers; usage is left out."""
    sinks = document.get("sinks")
    relays = document.get("relays")
    return ObjectStatus(
        read_conditions(document),
        tuple(
            _sink(one)
            for one in (sinks if isinstance(sinks, list) else ())
            if isinstance(one, Mapping) and isinstance(one.get("name"), str)
        ),
        relays=relays if isinstance(relays, str) else "",
    )


def _sink(document: Mapping[str, Any]) -> SinkStatus:
    error = document.get("lastError")
    failed_at, message = None, ""
    if isinstance(error, Mapping):
        failed_at = read_time(error.get("time"))
        message = str(error.get("message", ""))
    return SinkStatus(
        document["name"],
        read_conditions(document),
        read_time(document.get("lastSuccess")),
        failed_at,
        message if failed_at is not None else "",
        _ledger(document.get("ledger")),
    )


def _ledger(document: object) -> LedgerCounts | None:
    if not isinstance(document, Mapping):
        return None
    names = ("matched", "delivered", "rejected", "expired", "dropped", "queued")
    counts = {name: document.get(name, 0) for name in names}
    if not all(isinstance(count, int) and count >= 0 for count in counts.values()):
        return None
    return LedgerCounts(**counts)
