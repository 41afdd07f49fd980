"""Process what a good request only collected: samples of histograms and the like."""

from __future__ import annotations

from relay.pipeline.batching.emitter import Emitter
from relay.pipeline.metrics.histograms.group import take_all
from relay.pipeline.pacing import DEFERRED_STEP


def process_deferred(emitter: Emitter) -> None:
    """Hand the collected samples of the emitter's transaction to their processors, in order."""
    transaction = emitter.transaction
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
