"""Metrics of disk and memory; part of :mod:`relay.telemetry.metrics`."""

from __future__ import annotations

from relay.telemetry.metric_spec import MetricSpec, by, one, per_part

STORAGE: tuple[MetricSpec, ...] = (
    MetricSpec(
        "relay_storage_used_bytes",
        "gauge",
        "Bytes on disk, by part of the data directory.",
        ("part",),
        per_part(lambda r: r.used_bytes),
    ),
    MetricSpec(
        "relay_storage_max_bytes",
        "gauge",
        "Bytes that a part of the data directory may hold.",
        ("part",),
        per_part(lambda r: r.bytes_max),
    ),
    MetricSpec(
        "relay_storage_degraded",
        "gauge",
        "1 while the disk does not do what it should, and data is in memory only.",
        ("part",),
        per_part(lambda r: r.degraded),
    ),
    MetricSpec(
        "relay_storage_errors_total",
        "counter",
        "What was asked of the disk and failed.",
        ("part",),
        per_part(lambda r: r.errors),
    ),
    MetricSpec(
        "relay_storage_written_bytes_total",
        "counter",
        "Bytes of data written to disk.",
        ("part",),
        per_part(lambda r: r.written_bytes),
    ),
    MetricSpec(
        "relay_storage_damaged_records_total",
        "counter",
        "Places in files on disk that could not be read and were passed over.",
        ("part",),
        per_part(lambda r: r.damaged_records),
    ),
    MetricSpec(
        "relay_storage_damaged_bytes_total",
        "counter",
        "Bytes on disk that could not be read and were passed over.",
        ("part",),
        per_part(lambda r: r.damaged_bytes),
    ),
    MetricSpec(
        "relay_storage_torn_bytes_total",
        "counter",
        "Bytes of unfinished last records that were cut off after a crash.",
        ("part",),
        per_part(lambda r: r.torn_bytes),
    ),
    MetricSpec(
        "relay_orphan_queues",
        "gauge",
        "Queues on disk whose sinks do not run.",
        (),
        lambda s: (((), s.orphans.queues),) if s.orphans else (),
    ),
    MetricSpec(
        "relay_orphan_points",
        "gauge",
        "Points that wait in queues whose sinks do not run.",
        (),
        lambda s: (((), s.orphans.points),) if s.orphans else (),
    ),
    MetricSpec(
        "relay_orphan_bytes",
        "gauge",
        "Bytes on disk of queues whose sinks do not run.",
        (),
        lambda s: (((), s.orphans.bytes),) if s.orphans else (),
    ),
    MetricSpec(
        "relay_orphaned_points_total",
        "counter",
        "Points in queues whose sinks were gone: orphaned, and adopted by a sink that came back, "
        "expired with the time that orphans are kept, deleted with their object, dropped for a "
        "full disk, or damaged.",
        ("outcome",),
        by(lambda s: s.orphans.outcomes if s.orphans else {}),
    ),
    MetricSpec(
        "relay_journal_requests_total",
        "counter",
        "Requests by what the journal did with them: written before they were acknowledged, "
        "unjournaled for a bad disk and in memory only, replayed after the start, unreplayable, or "
        "given up because a sink that had perhaps not finished them does not run.",
        ("outcome",),
        by(lambda s: s.journal.requests if s.journal else {}),
    ),
    MetricSpec(
        "relay_journal_operations_total",
        "counter",
        "What the journal's disk did: write groups of requests, flush, or be too slow to wait for.",
        ("operation",),
        by(lambda s: s.journal.operations if s.journal else {}),
    ),
    MetricSpec(
        "relay_journal_replay_left_bytes",
        "gauge",
        "What of the journal is still to be processed once more after the start.",
        (),
        lambda s: (((), s.journal.replay_left_bytes),) if s.journal else (),
    ),
    MetricSpec(
        "relay_memory_bytes",
        "gauge",
        "Memory that data on its way takes: queued at sinks, in open batches, pending for the "
        "journal.",
        ("where",),
        by(lambda s: s.memory_bytes),
    ),
    MetricSpec(
        "relay_memory_max_bytes",
        "gauge",
        "Memory that data on its way may take before senders are told to wait.",
        (),
        one(lambda s: s.memory_bytes_max),
    ),
)
