"""The end of a round in which batches grow: the samples that were only collected, what the batches
hold then, and when they leave.

A round is a request, or a deadline that lets late points go. Most batches that it touches were open
before, hold the position of their oldest point and know when they are due: for those nothing has to
be done, which is why this is compiled.
"""

from __future__ import annotations

from relay.pipeline.batching.emitter import Emission
from relay.pipeline.batching.flush_timer import FlushSchedule
from relay.pipeline.batching.transaction import Intake, seal
from relay.pipeline.batching.watermark import Positions
from relay.pipeline.metrics.exemplars import ExemplarShelf
from relay.pipeline.metrics.histograms.group import take_all
from relay.pipeline.pacing import DEFERRED_STEP


def take_deferred(intake: Intake, emission: Emission) -> None:
    """Look at what a good request only collected: samples of histograms and the like."""
    pause = intake.pace.pause
    deferred = intake.deferred
    if len(deferred) <= DEFERRED_STEP:
        take_all(deferred, emission)
    else:
        for at in range(0, len(deferred), DEFERRED_STEP):
            take_all(deferred[at : at + DEFERRED_STEP], emission)
            pause()
    for route, point in intake.native:
        route.push(point, emission)
        pause()


def close_round(
    intake: Intake,
    positions: Positions,
    schedule: FlushSchedule,
    shelf: ExemplarShelf,
    tick: float,
) -> int:
    """Let every batch that the round touched hold the position of its oldest point, and leave when
    its time has come: with the round itself, where it has no timeout. ``tick`` is now on the
    schedule's clock. Count what became of its exemplars on the ``shelf``, and return by how many
    bytes batches grew.

    What was sealed holds its position, too, until whoever takes it is done with it.
    """
    if intake.exemplars_sent or intake.exemplars_lost:
        shelf.sent += intake.exemplars_sent
        shelf.dropped += intake.exemplars_lost
    for touch in intake.touches:
        batch = touch.batch
        if batch.count and batch.timeout_s <= 0:
            seal(batch, intake)
    for _, sealed in intake.sealed:
        positions.hold(sealed.oldest)
    for touch in intake.touches:
        batch = touch.batch
        intake.grown += batch.arena.room() - touch.room
        fresh = batch.sealed != touch.sealed or not touch.count
        if batch.count and (fresh or batch.oldest != touch.oldest):
            positions.hold(batch.oldest)
            if fresh:
                schedule.arm(batch, tick + batch.timeout_s)
        elif not fresh:
            continue
        if touch.count:
            positions.release(touch.oldest)
    return intake.grown
