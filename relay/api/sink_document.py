"""The part of ``/status`` about one sink, or one output of a sink."""

from __future__ import annotations

from typing import Any

from relay.api.storage_status import time_document
from relay.control.reconcile.sink_report import SinkReport
from relay.sink.steps import LastEvent


def sink_document(report: SinkReport, now: float) -> dict[str, Any]:
    """Return a sink's document; ``ledger.queued`` counts the points of open batches as well."""
    ledger = report.ledger
    worker = report.worker
    full_in_s = worker.forecast.full_in_s
    return {
        "ledger": {
            "matched": report.matched,
            "delivered": ledger.delivered,
            "rejected": dict(ledger.rejected),
            "expired": ledger.expired,
            "dropped": dict(ledger.dropped),
            "queued": ledger.queued + report.open,
            "balanced": report.balanced,
        },
        "queue": {
            "requests": report.queue.payloads,
            "bytes": report.queue.bytes,
            "maxBytes": report.queue.bytes_max,
            "memoryBytes": report.queue.memory_bytes,
            "storedBytes": report.queue.stored_bytes,
            "oldestPointAgeSeconds": round(report.oldest_age_s(now), 3),
            "secondsUntilFull": None if full_in_s is None else round(full_in_s, 1),
        },
        "stalledSeconds": round(worker.forecast.stalled_s, 1),
        "unreachable": worker.circuit_open,
        "requests": dict(worker.requests),
        "bisectedBatches": worker.bisections,
        "unsearchedRequests": worker.unsearched,
        "sentBytes": worker.bytes_sent,
        "lastSuccessAt": time_document(worker.last_success_at),
        "state": worker.state,
        "behind": worker.throughput.behind or None,
        "lastError": _remark(worker.last_error),
        "lastWarning": _remark(worker.last_warning),
        "paused": worker.paused or None,
        "pausedByOwner": worker.owner_paused,
    }


def _remark(remark: LastEvent | None) -> dict[str, Any] | None:
    return {"text": remark.text, "at": time_document(remark.at)} if remark else None
