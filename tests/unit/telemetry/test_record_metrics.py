"""The metrics of logs and traces."""

from __future__ import annotations

from relay.telemetry.matching_metrics import RECORD_METRICS
from relay.telemetry.snapshot import RecordFigures, Snapshot

SNAPSHOT = Snapshot(
    records=(
        RecordFigures("logs", 150, {"no_tenant": 4}, 16, 2, {("a/web", "s"): 130}),
        RecordFigures("traces", 1),
    )
)


def test_every_figure_is_shown_with_its_signal() -> None:
    shown = {
        (spec.name, *values): value
        for spec in RECORD_METRICS
        for values, value in spec.rows(SNAPSHOT)
    }
    assert shown == {
        ("relay_received_records_total", "logs"): 150,
        ("relay_received_records_total", "traces"): 1,
        ("relay_dropped_records_total", "logs", "no_tenant"): 4,
        ("relay_unmatched_records_total", "logs"): 16,
        ("relay_unmatched_records_total", "traces"): 0,
        ("relay_matched_records_total", "a/web", "s", "logs"): 130,
        ("relay_record_resources", "logs"): 2,
        ("relay_record_resources", "traces"): 0,
    }
