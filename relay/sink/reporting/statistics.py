"""The statistics of one sink."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from relay.codec.otlp.batch import OpenBatch
from relay.config.exporter.types import Sink
from relay.sink.delivery import DeliveryStateMachine
from relay.sink.interface import Client
from relay.sink.queue.queue import QueueStatistics
from relay.sink.reporting.forecast import NOTHING_AHEAD, Forecast
from relay.sink.reporting.health import State
from relay.sink.reporting.ledger import LedgerStatistics
from relay.sink.reporting.outcomes import DeliveryReading
from relay.sink.reporting.throughput import Throughput, ThroughputStatistics
from relay.sink.steps import LastEvent


class SinkStatistics(msgspec.Struct, frozen=True):
    """A snapshot of one sink. Times are wall clock, s; ``paused`` is the reason, or "".

    ``requests`` counts answers by verdict (``delivered``, ``retry``, ``rejected``, ``split``,
    ``bisect``, ``unauthorized``); ``too_large_bytes`` is the remembered size of a 413,
    uncompressed; ``bisections`` counts batches that were halved to find bad points, ``unsearched``
    requests in which none were looked for any more.
    ``restored`` points, part of ``ledger.offered``, were found on disk at the start.
    ``circuit_open``: its endpoint cannot be reached. ``owner_paused``: nothing is sent, by the
    sink's own field ``paused``. ``failing_since``: the first failure since the last success, None
    if there is none.
    """

    exporter: str
    sink: str
    state: State
    ledger: LedgerStatistics
    queue: QueueStatistics
    oldest_point_age_s: float | None
    last_success_at: float | None
    last_error: LastEvent | None
    last_warning: LastEvent | None
    paused: str
    too_large_bytes: int | None
    splits: int
    requests: Mapping[str, int]
    bytes_sent: int
    internal_errors: int
    throughput: ThroughputStatistics
    restored: int = 0
    circuit_open: bool = False
    bisections: int = 0
    unsearched: int = 0
    forecast: Forecast = NOTHING_AHEAD
    points_resent: int = 0
    owner_paused: bool = False
    failing_since: float | None = None


def take_statistics(
    names: tuple[str, str],
    delivery: DeliveryStateMachine,
    client: Client,
    throughput: Throughput,
    *,
    config: Sink,
    oldest_point_age_s: float | None,
    internal_errors: int,
    tick: float,
) -> SinkStatistics:
    """Collect a sink's statistics.

    ``names`` are its exporter's and its own, ``tick`` is the monotonic clock, s.
    """
    ledger, health = delivery.ledger.statistics(), delivery.health.state
    outcomes = delivery.outcomes
    return SinkStatistics(
        exporter=names[0],
        sink=names[1],
        state="behind" if health == "healthy" and throughput.behind else health,
        ledger=ledger,
        queue=delivery.queue.statistics(),
        oldest_point_age_s=oldest_point_age_s,
        last_success_at=outcomes.last_success_at,
        last_error=outcomes.last_error,
        last_warning=outcomes.last_warning,
        paused=delivery.paused,
        too_large_bytes=delivery.too_large_bytes,
        splits=delivery.splits,
        requests=dict(client.requests),
        bytes_sent=client.bytes_sent,
        internal_errors=internal_errors,
        throughput=throughput.statistics(config.endpoint.concurrency, ledger.queued),
        restored=delivery.restored,
        circuit_open=delivery.circuit.open,
        bisections=delivery.bisector.batches,
        unsearched=delivery.bisector.unsearched,
        forecast=delivery.forecaster.forecast(tick),
        points_resent=client.points_resent,
        owner_paused=config.paused,
        failing_since=outcomes.failing_since,
    )


def read_delivery(
    delivery: DeliveryStateMachine, throughput: Throughput, batches: Iterable[OpenBatch]
) -> DeliveryReading:
    """Return what a sink's delivery is judged by. Cheap: it is read once a second."""
    ledger, opened = delivery.ledger, 0
    for batch in batches:
        opened += batch.count
    behind = throughput.behind if delivery.health.state == "healthy" else ""
    matched, waiting = ledger.offered + opened, ledger.queued + opened
    return DeliveryReading(delivery.outcomes, matched, waiting, delivery.paused, behind)
