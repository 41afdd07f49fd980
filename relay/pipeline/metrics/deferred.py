"""Process what a good request only collected: samples of histograms, drops, lone exemplars."""

from __future__ import annotations

from relay.pipeline.batching.emitter import Emitter
from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.drop_counters import TEMPORALITY, DropTable
from relay.pipeline.metrics.exemplars import ExemplarBuffer
from relay.pipeline.metrics.histograms.group import take_all
from relay.pipeline.pacing import DEFERRED_STEP, ENTRIES


def process_deferred(emitter: Emitter) -> None:
    """Hand the collected samples of the emitter's transaction to their processors, in order."""
    transaction = emitter.transaction
    pause = transaction.pace.pause
    deferred, native = transaction.deferred, transaction.native
    if len(deferred) <= DEFERRED_STEP:
        take_all(deferred, emitter)
    else:
        for at in range(0, len(deferred), DEFERRED_STEP):
            take_all(deferred[at : at + DEFERRED_STEP], emitter)
            pause()
    for route, point in native:
        route.push(point, emitter)
        pause()
    if len(deferred) > 4 * DEFERRED_STEP or len(native) > ENTRIES:
        transaction.free_processed()


def count_drops(transaction: BatchTransaction, dropped: dict[str, int], drops: DropTable) -> None:
    """Add the dropped samples of a request to those by reason, and by sink."""
    for reason, count in transaction.dropped.items():
        dropped[reason] = dropped.get(reason, 0) + count
    for at, (series, reason, count) in enumerate(transaction.lost):
        if not at % ENTRIES:
            transaction.pace.pause()
        drops.count(series.name, reason, count, series.match_set.every_sink())
    for at, (family, reason, sinks) in enumerate(transaction.omitted):
        if not at % ENTRIES:
            transaction.pace.pause()
        drops.count(family, reason, 1, sinks)
        if reason == TEMPORALITY:
            for sink in sinks:
                sink.deltas += 1
                sink.deltas_at = transaction.now


def keep_exemplars(transaction: BatchTransaction, buffer: ExemplarBuffer) -> None:
    """Count a request's exemplars, and keep those that came without a sample."""
    buffer.received += transaction.exemplars
    buffer.dropped += transaction.exemplars_refused
    for series, exemplars in transaction.orphan_exemplars:
        buffer.add(series, exemplars)
        transaction.pace.pause()
