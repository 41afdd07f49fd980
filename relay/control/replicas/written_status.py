"""Read the status that an object has on its control plane, as it was written. Pure.

Whatever has another shape than ours is left out: others write into a status, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.codec.signal_names import SIGNALS
from relay.control.kubernetes.status_body import read_conditions, read_time
from relay.control.status.object_status import LedgerCounts, ObjectStatus, SignalStatus, SinkStatus


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
    signals = document.get("signals")
    return SinkStatus(
        document["name"],
        read_conditions(document),
        *_outcomes(document),
        _ledger(document.get("ledger")),
        signals=tuple(
            SignalStatus(one["signal"], *_outcomes(one), _ledger(one.get("ledger")))
            for one in (signals if isinstance(signals, list) else ())
            if isinstance(one, Mapping) and one.get("signal") in SIGNALS
        ),
    )


def _outcomes(document: Mapping[str, Any]) -> tuple[float | None, float | None, str]:
    """Return the times of the last success and the last failure, and its words."""
    error = document.get("lastError")
    failed_at, message = None, ""
    if isinstance(error, Mapping):
        failed_at = read_time(error.get("time"))
        message = str(error.get("message", ""))
    succeeded_at = read_time(document.get("lastSuccess"))
    return succeeded_at, failed_at, message if failed_at is not None else ""


def _ledger(document: object) -> LedgerCounts | None:
    if not isinstance(document, Mapping):
        return None
    names = ("matched", "delivered", "rejected", "expired", "dropped", "queued")
    counts = {name: document.get(name, 0) for name in names}
    if not all(isinstance(count, int) and count >= 0 for count in counts.values()):
        return None
    return LedgerCounts(**counts)
