"""A sink's delivery without a loop: the test hands it time and answers."""

from __future__ import annotations

import random

from relay.config.exporter.types import Sink
from relay.sink.delivery import DeliveryStateMachine
from relay.sink.kinds import encoders_for
from relay.sink.queue.queue import SinkQueue
from relay.sink.reporting.health import LogLine
from relay.sink.retry.circuit_breaker import Circuit
from tests.kit.holds import Holds


def delivery_of(
    sink: Sink, holds: Holds, notes: list[LogLine], circuit: Circuit | None = None
) -> DeliveryStateMachine:
    """Make the delivery of a sink; what it logs goes to ``notes``. Every run is the same."""
    rng = random.Random(7)
    return DeliveryStateMachine(
        sink,
        encoders=encoders_for(sink.endpoint),
        queue=SinkQueue(sink.queue, shards=sink.endpoint.concurrency),
        circuit=circuit or Circuit(rng),
        offsets=holds,
        rng=rng,
        log=notes.append,
    )
