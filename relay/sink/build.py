"""Composes a sink: encode -> queue -> retry -> circuit breaker -> client. Start reading here.

A batch goes down the chain, the verdict on its requests comes back up. The links:

=============== ================================== ==============================================
encode          :mod:`relay.sink.encode_scheduler` batches -> requests, a few ms per loop turn
queue           :mod:`relay.sink.queue.queue`      budget, age, overflow; a shard hides the disk
spill           :mod:`relay.sink.spooler`          moves what waits in a shard to disk and back
retry           :mod:`relay.sink.delivery`         what a shard does next, what a verdict means
circuit breaker :mod:`relay.sink.retry`            one probe per unreachable endpoint
client          :mod:`relay.sink.interface`        one request out, one verdict in, by sink kind
=============== ================================== ==============================================
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relay.config.exporter.types import Sink
from relay.sink.delivery import DeliveryStateMachine
from relay.sink.encode_scheduler import EncodeScheduler
from relay.sink.http.credentials import SecretLookup
from relay.sink.http.interface import HttpClient
from relay.sink.interface import ClientDependencies, SinkHost
from relay.sink.kinds import encoders_for, kind_of
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.queue.queue import SinkQueue
from relay.sink.reporting.log import SinkLog
from relay.sink.retry.backoff import Randomness
from relay.sink.retry.circuit_breaker import CircuitBreakers
from relay.sink.steps import Clock, OffsetHolds
from relay.sink.worker import SinkWorker, WorkerParts

if TYPE_CHECKING:
    from relay.sink.spill.store import SinkStore

SYSTEM_CLOCK = Clock(time.time, time.monotonic)


@dataclass(frozen=True, slots=True)
class SinkEnvironment:
    """Parts that all sinks of a process share; ``memory`` counts the bytes that they hold there."""

    transport: HttpClient
    offsets: OffsetHolds
    rng: Randomness
    circuit_breakers: CircuitBreakers
    encode_scheduler: EncodeScheduler = field(default_factory=EncodeScheduler)
    memory: BufferedBytes = field(default_factory=BufferedBytes)
    clock: Clock = SYSTEM_CLOCK


@dataclass(frozen=True, slots=True)
class SinkDependencies:
    """Parts of one sink beside its configuration.

    ``secrets`` looks up the exporter's secrets, and is called again each time; ``store`` is the
    sink's part of the disk, None: memory only; ``host`` is the process, None: nothing is shared.
    """

    environment: SinkEnvironment
    secrets: SecretLookup
    store: SinkStore | None = None
    host: SinkHost | None = None


def build_worker(
    sink_id: str, exporter_id: str, config: Sink, dependencies: SinkDependencies
) -> SinkWorker:
    """Build the worker of one sink, not started. Innermost link first."""
    environment, store = dependencies.environment, dependencies.store
    clock = environment.clock
    kind = kind_of(config.endpoint)
    # The client is innermost: whatever is behind it sees verdicts only, never HTTP. It has the only
    # timeout, so that a request that waits its turn in the queue does not use it up.
    client_dependencies = ClientDependencies(
        environment.transport, dependencies.secrets, clock.wall
    )
    client = kind.make_client(config.endpoint, client_dependencies)
    # The circuit breaker is outside the client, because it counts answers, and inside retry,
    # because requests that it holds back must not use up attempts. Sinks of one endpoint share it.
    circuit = environment.circuit_breakers.get(config.endpoint.url)
    # The queue is outside retry: a request that is tried again keeps its place at the head of its
    # shard, its share of the budget and its age, so order holds and age bounds all attempts.
    queue = SinkQueue(
        config.queue,
        shards=config.endpoint.concurrency,
        disk=store.backlogs if store else None,
        memory=environment.memory,
    )
    # Retry decides for each verdict, next to the ledger: a point is counted where its request
    # leaves the queue, and only there is its ingest position released.
    delivery = DeliveryStateMachine(
        config,
        encoders=encoders_for(config.endpoint),
        queue=queue,
        circuit=circuit,
        offsets=environment.offsets,
        rng=environment.rng,
        log=SinkLog(sink_id, exporter_id),
    )
    if store is not None:
        delivery.restore(
            store.cursors,
            clock.now(),
            resharded=store.regrouped(config.endpoint.concurrency),
            missing_points=store.missing_points,
        )
    # Encoding is outermost: the queue's budget counts bytes as they are sent, a retry sends the
    # same bytes, and what is spilled needs no further work after a restart. The worker makes it,
    # and the spooler beside the queue, because both call back into it.
    parts = WorkerParts(
        client=client,
        client_dependencies=client_dependencies,
        delivery=delivery,
        circuit_breakers=environment.circuit_breakers,
        encode_scheduler=environment.encode_scheduler,
        memory=environment.memory,
        clock=clock,
        store=store,
        host=dependencies.host,
    )
    return SinkWorker(sink_id, exporter_id, config, parts)
