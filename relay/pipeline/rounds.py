"""The end of a round in which batches grew: what they hold, and when they leave.

A round is a request, or a deadline that lets late points go. Most batches that it touches were open
before, hold the position of their oldest point and know when they are due: for those nothing has to
be done, which is why this is compiled.
"""

from __future__ import annotations

from relay.pipeline.flush import FlushSchedule
from relay.pipeline.intake import Intake, seal
from relay.pipeline.positions import Positions


def close_round(intake: Intake, positions: Positions, schedule: FlushSchedule, tick: float) -> None:
    """Let every batch that the round touched hold the position of its oldest point, and leave when
    its time has come: with the round itself, where it has no timeout. ``tick`` is now on the
    schedule's clock.

    What was sealed holds its position, too, until whoever takes it is done with it.
    """
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
