"""The end of a round in which batches grow: the samples that were only collected, what the batches
hold then, and when they leave.

A round is a request, or a deadline that lets late points go. Most batches that it touches were open
before, hold the position of their oldest point and know when they are due: for those nothing has to
be done, which is why this is compiled.
"""

from __future__ import annotations

from relay.pipeline.batching.emitter import Emitter
from relay.pipeline.batching.flush_timer import FlushSchedule
from relay.pipeline.batching.transaction import BatchTransaction, seal_batch
from relay.pipeline.batching.watermark import OffsetTracker
from relay.pipeline.metrics.exemplars import ExemplarBuffer
from relay.pipeline.metrics.histograms.group import take_all
from relay.pipeline.pacing import DEFERRED_STEP


def take_deferred(transaction: BatchTransaction, emitter: Emitter) -> None:
    """Look at what a good request only collected: samples of histograms and the like."""
    pause = transaction.pace.pause
    deferred = transaction.deferred
    if len(deferred) <= DEFERRED_STEP:
        take_all(deferred, emitter)
    else:
        for at in range(0, len(deferred), DEFERRED_STEP):
            take_all(deferred[at : at + DEFERRED_STEP], emitter)
            pause()
    for route, point in transaction.native:
        route.push(point, emitter)
        pause()


def close_round(
    transaction: BatchTransaction,
    offsets: OffsetTracker,
    schedule: FlushSchedule,
    exemplar_buffer: ExemplarBuffer,
    tick: float,
) -> int:
    """Let every batch that the round touched hold the position of its oldest point, and leave when
    its time has come: with the round itself, where it has no timeout. ``tick`` is now on the
    schedule's clock. Count what became of its exemplars on the ``exemplar_buffer``, and return by
    how many
    bytes batches grew.

    What was sealed holds its position, too, until whoever takes it is done with it.
    """
    if transaction.exemplars_sent or transaction.exemplars_lost:
        exemplar_buffer.sent += transaction.exemplars_sent
        exemplar_buffer.dropped += transaction.exemplars_lost
    for touch in transaction.touches:
        batch = touch.batch
        if batch.count and batch.timeout_s <= 0:
            seal_batch(batch, transaction)
    for _, sealed in transaction.sealed:
        offsets.hold(sealed.oldest)
    for touch in transaction.touches:
        batch = touch.batch
        transaction.batch_growth_bytes += batch.point_buffer.room() - touch.room
        fresh = batch.generation != touch.sealed or not touch.count
        if batch.count and (fresh or batch.oldest_offset != touch.oldest):
            offsets.hold(batch.oldest_offset)
            if fresh:
                schedule.arm(batch, tick + batch.timeout_s)
        elif not fresh:
            continue
        if touch.count:
            offsets.release(touch.oldest)
    return transaction.batch_growth_bytes
