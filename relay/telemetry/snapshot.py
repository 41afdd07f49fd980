"""Plain values of counters and gauges at one moment, for a scrape.

:mod:`relay.telemetry.metrics` names them; :mod:`relay.api.status` fills them in.
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
    """Samples dropped between ``since`` and ``last`` (s since the epoch).

    ``family`` "" sums up those without a row of their own.
    """

    exporter: str
    sink: str
    family: str
    reason: str
    samples: int
    since: float
    last: float


class LagFigures(msgspec.Struct, frozen=True):
    """Lag of the event loop: maximum of the last minute, and distribution since the start."""

    max_s: float = 0.0
    all: Distribution = NO_DURATIONS


class IngestFigures(msgspec.Struct, frozen=True):
    """Counters of the ingest listener since the start; ``in_flight`` is a gauge.

    ``requests`` by status code; ``refused``: requests rejected as a whole, by reason; ``partial``:
    requests of which only the valid part was accepted; ``compressed_bytes`` and ``decoded_bytes``
    of bodies before and after decompression; ``in_flight``: requests that hold one of the
    concurrency slots now; ``durations`` from a request's head to its response.
    """

    requests: Mapping[int, int] = msgspec.field(default_factory=dict)
    refused: Mapping[str, int] = msgspec.field(default_factory=dict)
    partial: int = 0
    compressed_bytes: int = 0
    decoded_bytes: int = 0
    in_flight: int = 0
    durations: Distribution = NO_DURATIONS


class SourceFigures(msgspec.Struct, frozen=True):
    """Samples matched by one source of one exporter."""

    exporter: str
    source: str
    matched_samples: int = 0


class SinkFigures(msgspec.Struct, frozen=True):
    """Ledger and health of one sink.

    ``matched_points = delivered + sum(rejected) + expired + sum(dropped) + queued_points``, where
    ``queued_points`` includes the open batch. ``rejected`` and ``dropped`` are by reason,
    ``requests`` by result. ``oldest_point_age_s`` is 0 while nothing is queued; ``last_success_at``
    and ``last_error_at`` are in seconds since the epoch, 0 before the first. Of ``queue_bytes``,
    ``memory_bytes`` are in memory; ``stored_bytes`` is the size of its files. ``full_in_s`` is
    infinite while the queue does not grow.
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
    owner_paused: bool = False
    internal_errors: int = 0
    behind: bool = False
    request_durations: Distribution = NO_REQUESTS
    delivery_latency: Distribution = NO_DELIVERIES


class RecordFigures(msgspec.Struct, frozen=True):
    """Log records or spans since the start.

    ``dropped`` by reason, before matching; ``unmatched``: no source took them; ``resources`` are
    those known now; ``matched`` by exporter and source.
    """

    signal: str
    received: int = 0
    dropped: Mapping[str, int] = {}
    unmatched: int = 0
    resources: int = 0
    matched: Mapping[tuple[str, str], int] = {}


class ProjectFigures(msgspec.Struct, frozen=True):
    """Usage and limits of one project; ``limits`` that are set, by the names of their settings."""

    project: str
    exporters: int = 0
    sinks: int = 0
    pairs: int = 0
    series: int = 0
    refused_series: int = 0
    samples: int = 0
    refused_samples: int = 0
    sent_bytes: int = 0
    resent_points: int = 0
    queue_bytes: int = 0
    limits: Mapping[str, int] = {}
    records: int = 0
    refused_records: int = 0


class PolicyFigures(msgspec.Struct, frozen=True):
    """One ExportPolicy. ``created_at`` is in seconds since the epoch, None if unknown.

    ``conditions`` are condition, reason and status; ``sink_conditions`` the same after a sink's
    name.
    """

    project: str
    namespace: str
    name: str
    uid: str = ""
    created_at: float | None = None
    conditions: tuple[tuple[str, str, str], ...] = ()
    sink_conditions: tuple[tuple[str, str, str, str], ...] = ()


class StorageFigures(msgspec.Struct, frozen=True):
    """Figures of one ``part`` of the data directory, ``journal`` or ``queues``.

    ``degraded``: the disk fails or is too slow, and data is kept in memory only. ``damaged_*``
    could not be read and was skipped; ``torn_bytes`` were left of an unfinished last record after a
    crash.
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


class OrphanFigures(msgspec.Struct, frozen=True):
    """Queues on disk whose sinks do not run; ``outcomes`` counts points since the start."""

    queues: int = 0
    points: int = 0
    bytes: int = 0
    outcomes: Mapping[str, int] = msgspec.field(default_factory=dict)


class JournalFigures(msgspec.Struct, frozen=True):
    """Figures of the journal: ``requests`` by outcome, disk ``operations`` by kind.

    ``replay_left_bytes`` are still to be replayed after the start.
    """

    requests: Mapping[str, int] = msgspec.field(default_factory=dict)
    operations: Mapping[str, int] = msgspec.field(default_factory=dict)
    replay_left_bytes: int = 0


class ClusterFigures(msgspec.Struct, frozen=True):
    """Figures of the statuses on Kubernetes: ``status_writes`` and ``events`` by result.

    ``unreached``: relays whose report this one, as the leader, cannot read.
    """

    leads: bool = False
    relays: int = 0
    unreached: int = 0
    status_writes: Mapping[str, int] = msgspec.field(default_factory=dict)
    events: Mapping[str, int] = msgspec.field(default_factory=dict)
    waiting: int = 0
    oldest_waiting_s: float = 0.0


class KubernetesWatch(msgspec.Struct, frozen=True):
    """One kind of object of one control plane: its state, and counters since the start."""

    resource: str
    synced: bool = False
    stale_s: float = 0.0
    objects: int = 0
    lists: int = 0
    failures: int = 0
    unusable: int = 0


class KubernetesFigures(msgspec.Struct, frozen=True):
    """One control plane; ``requests`` by status code, ``secrets`` held and absent."""

    name: str
    watches: tuple[KubernetesWatch, ...] = ()
    requests: Mapping[str, int] = msgspec.field(default_factory=dict)
    connections: int = 0
    secrets: Mapping[str, int] = msgspec.field(default_factory=dict)
    bugs: int = 0


class ApiFigures(msgspec.Struct, frozen=True):
    """Figures of the relay's own API; ``answers`` by method and code, ``objects`` by kind.

    ``requests`` and ``watches`` are in progress; ``waiting`` changes are not durable yet,
    ``failed`` ones were not stored. ``token_faults`` is None without a file of tokens.
    """

    answers: Mapping[tuple[str, int], int] = msgspec.field(default_factory=dict)
    requests: int = 0
    watches: int = 0
    objects: Mapping[str, int] = msgspec.field(default_factory=dict)
    version: int = 0
    changes: int = 0
    transactions: int = 0
    failed: int = 0
    waiting: int = 0
    token_faults: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All values of one scrape, taken at one moment.

    ``received_samples`` by protocol and ``dropped_samples`` by reason count before matching, each
    received sample once; ``unmatched_samples`` were valid and matched no source. ``removed_sinks``
    are the points of removed sinks, by outcome. ``memory_bytes`` is memory of data in flight, by
    place.
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
    cluster: ClusterFigures | None = None
    own_api: ApiFigures | None = None
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
    records: tuple[RecordFigures, ...] = ()
    exporters: int = 0
    sink_kinds: Mapping[tuple[str, str], int] = field(default_factory=dict)
    policies: tuple[PolicyFigures, ...] = ()
    projects: tuple[ProjectFigures, ...] = ()
    projects_forgotten: int = 0
    exporter_faults: int = 0
    reloads: Mapping[str, int] = field(default_factory=dict)
    selectors_always_asked: int = 0
    inventory_objects: Mapping[str, int] = field(default_factory=dict)
    ingest_next_position: int = 0
    ingest_oldest_held_position: int = 0
    loop_lag: LagFigures = LagFigures()
    kubernetes: tuple[KubernetesFigures, ...] = ()
