"""What a scrape shows, as plain values: counters and gauges, taken at one moment.

:mod:`relay.telemetry.metrics` gives each of them its name; :mod:`relay.api.status` fills them in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from relay.telemetry.histogram import LATENCY_BOUNDS_S, REQUEST_BOUNDS_S, Distribution

NO_DURATIONS = Distribution()
NO_REQUESTS = Distribution((0,) * (len(REQUEST_BOUNDS_S) + 1), 0.0, REQUEST_BOUNDS_S)
NO_DELIVERIES = Distribution((0,) * (len(LATENCY_BOUNDS_S) + 1), 0.0, LATENCY_BOUNDS_S)


class Drop(NamedTuple):
    """One row: ``samples`` between ``since`` and ``last``, both s since the epoch. ``family`` ""
    is all that there was no room for."""

    exporter: str
    sink: str
    family: str
    reason: str
    samples: int
    since: float
    last: float


@dataclass(frozen=True, slots=True)
class LagFigures:
    """By how much the event loop came late: the worst of the last minute, and every time since the
    start that it was measured."""

    max_s: float = 0.0
    all: Distribution = NO_DURATIONS


@dataclass(frozen=True, slots=True)
class IngestFigures:
    """What the ingest listener has answered. Counters since the start, except ``in_flight``.

    ``requests`` by status code; ``refused`` by reason, requests of which nothing was taken;
    ``partial`` requests of which the good part was taken; ``compressed_bytes`` of bodies as they
    came, ``decoded_bytes`` of the same after decompression; ``in_flight`` requests that hold one of
    the places for concurrent requests now; ``durations`` from a request's head to its answer.
    """

    requests: Mapping[int, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    partial: int = 0
    compressed_bytes: int = 0
    decoded_bytes: int = 0
    in_flight: int = 0
    durations: Distribution = NO_DURATIONS


class SourceFigures(msgspec.Struct, frozen=True):
    """Samples that one source of one exporter has matched."""

    exporter: str
    source: str
    matched_samples: int = 0


class SinkFigures(msgspec.Struct, frozen=True):
    """One sink's ledger and health.

    ``matched_points = delivered + sum(rejected) + expired + sum(dropped) + queued_points``, where
    ``queued_points`` includes the open batch. ``rejected`` and ``dropped`` by reason;
    ``requests`` by result. ``oldest_point_age_s`` is 0 while nothing is queued;
    ``last_success_at`` and ``last_error_at`` are in seconds since the epoch, 0 before the first.
    Of ``queue_bytes``, ``memory_bytes`` are in memory; ``stored_bytes`` is what its files hold.
    ``full_in_s`` is infinite while the queue does not grow.
    """

    exporter: str
    sink: str
    matched_points: int = 0
    matched_samples: int = 0
    delivered: int = 0
    rejected: Mapping[str, int] = {}
    expired: int = 0
    dropped: Mapping[str, int] = {}
    queued_points: int = 0
    queue_bytes: int = 0
    queue_bytes_max: int = 0
    oldest_point_age_s: float = 0.0
    requests: Mapping[str, int] = {}
    sent_bytes: int = 0
    memory_bytes: int = 0
    stored_bytes: int = 0
    full_in_s: float = math.inf
    stalled_s: float = 0.0
    unreachable: bool = False
    last_success_at: float = 0.0
    last_error_at: float = 0.0
    paused: bool = False
    internal_errors: int = 0
    behind: bool = False
    request_durations: Distribution = NO_REQUESTS
    delivery_latency: Distribution = NO_DELIVERIES


@dataclass(frozen=True, slots=True)
class StorageFigures:
    """One ``part`` of the data directory, ``journal`` or ``queues``.

    ``degraded``: the disk does not do what it should, and data is kept in memory only.
    ``damaged_*`` could not be read and was passed over, ``torn_bytes`` is what a crash left of a
    last record.
    """

    part: str
    used_bytes: int = 0
    bytes_max: int = 0
    degraded: bool = False
    errors: int = 0
    written_bytes: int = 0
    damaged_records: int = 0
    damaged_bytes: int = 0
    torn_bytes: int = 0


@dataclass(frozen=True, slots=True)
class OrphanFigures:
    """Queues on disk of sinks that do not run; ``outcomes`` are points since the start."""

    queues: int = 0
    points: int = 0
    bytes: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JournalFigures:
    """What the journal did: ``requests`` by outcome, ``operations`` of its disk by kind.
    ``replay_left_bytes`` still wait to be processed once more after the start."""

    requests: Mapping[str, int] = field(default_factory=dict)
    operations: Mapping[str, int] = field(default_factory=dict)
    replay_left_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a scrape shows, as it was at one moment.

    ``received_samples`` by protocol and ``dropped_samples`` by reason count before matching, each
    received sample once; ``unmatched_samples`` were good and nobody wanted them. ``removed_sinks``
    are the points, by outcome, of sinks that are gone. ``memory_bytes`` is what data on its way
    takes, by where it is.
    """

    version: str = ""
    build: str = ""
    ingest: IngestFigures = IngestFigures()
    received_samples: Mapping[str, int] = field(default_factory=dict)
    dropped_samples: Mapping[str, int] = field(default_factory=dict)
    unmatched_samples: int = 0
    sources: tuple[SourceFigures, ...] = ()
    sinks: tuple[SinkFigures, ...] = ()
    removed_sinks: Mapping[str, int] = field(default_factory=dict)
    storage: tuple[StorageFigures, ...] = ()
    orphans: OrphanFigures | None = None
    journal: JournalFigures | None = None
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    memory_bytes_max: int = 0
    unreachable_endpoints: int = 0
    series_active: int = 0
    series_created: int = 0
    series_forgotten: Mapping[str, int] = field(default_factory=dict)
    series_retyped: int = 0
    metadata_families: int = 0
    metadata_contradictions: int = 0
    assembled_samples: Mapping[str, int] = field(default_factory=dict)
    assembled_points: int = 0
    waiting_samples: int = 0
    histogram_families: int = 0
    exemplars: Mapping[str, int] = field(default_factory=dict)
    delta_points: Mapping[str, int] = field(default_factory=dict)
    delta_states: int = 0
    drops: tuple[Drop, ...] = ()
    exporters: int = 0
    exporter_faults: int = 0
    reloads: Mapping[str, int] = field(default_factory=dict)
    selectors_always_asked: int = 0
    inventory_objects: Mapping[str, int] = field(default_factory=dict)
    ingest_next_position: int = 0
    ingest_oldest_held_position: int = 0
    loop_lag: LagFigures = LagFigures()
