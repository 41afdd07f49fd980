"""What can be said of one sink at one moment."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from relay.sink.health import State
from relay.sink.ledger import LedgerStatistics
from relay.sink.outlook import NOTHING_AHEAD, Forecast
from relay.sink.queue import QueueStatistics
from relay.sink.steps import Remark
from relay.sink.throughput import ThroughputStatistics


class SinkStatistics(msgspec.Struct, frozen=True):
    """One moment of a sink. Times are wall clock, s; ``paused`` is why, or "".

    ``requests`` counts answers by verdict (``delivered``, ``retry``, ``rejected``, ``split``,
    ``unauthorized``); ``too_large_bytes`` is the remembered size of a 413, uncompressed.
    ``restored`` points, part of ``ledger.offered``, were found on disk at the start.
    ``circuit_open``: its endpoint cannot be reached.
    """

    exporter: str
    sink: str
    state: State
    ledger: LedgerStatistics
    queue: QueueStatistics
    oldest_point_age_s: float | None
    last_success_at: float | None
    last_error: Remark | None
    last_warning: Remark | None
    paused: str
    too_large_bytes: int | None
    splits: int
    requests: Mapping[str, int]
    bytes_sent: int
    internal_errors: int
    throughput: ThroughputStatistics
    restored: int = 0
    circuit_open: bool = False
    forecast: Forecast = NOTHING_AHEAD
