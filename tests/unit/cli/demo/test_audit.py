"""The demo's audit: sinks of its own, and those that somebody wrote through the API."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from relay.api.records_status import RecordsView
from relay.cli.demo.agent import AgentStatistics
from relay.cli.demo.audit import Audit, audit
from relay.cli.demo.receiver import ReceiverStatistics
from relay.cli.demo.records.agent import RecordAgentStatistics
from relay.cli.demo.records.tally import Tally
from relay.control.reconcile.reconciler import SinkKey
from relay.pipeline.records.resource_table import ResourceTableStatistics
from relay.pipeline.records.results import RecordStatistics
from relay.sink.reporting.ledger import EMPTY_LEDGER, LedgerStatistics
from tests.kit.sink.running_sinks import ToldWorker, report_of

OWN = ("acme/default/e", "own")
GUEST = ("hooli/default/e", "guest")
ELSEWHERE = ("hooli/default/f", "elsewhere")
LOGS = ("globex/default/everything", "collector-eu/logs")
SENT = RecordAgentStatistics("logs", 2, records=9, no_tenant=2, rejected=2, expected=Tally(4, 77))
TABLE = ResourceTableStatistics(1, 1)
COUNTED = RecordStatistics("logs", 9, 2, 0, 3, TABLE)
REMOVED = LedgerStatistics(5, 5, {}, 0, {}, 0)


def audited(
    sinks: dict[SinkKey, tuple[int, int]],
    kept: dict[SinkKey, int],
    *,
    removed: LedgerStatistics = EMPTY_LEDGER,
    records: RecordAgentStatistics | None = None,
    counted: RecordStatistics | None = None,
) -> Audit:
    """Audit sinks with as many points matched and waiting; endpoints say what they kept."""
    reports = []
    for (exporter, sink), (matched, waiting) in sinks.items():
        worker: Any = ToldWorker(exporter, sink)
        worker.matched, worker.waiting = matched, waiting
        reports.append(report_of(worker))
    engine = SimpleNamespace(received_samples=9, dropped_samples={})
    facts: Any = SimpleNamespace(engine=engine, sinks=reports, removed_ledger=removed)
    facts.records = [RecordsView(counted, {})] if counted else []
    endpoints = {
        key: ReceiverStatistics(points, 0, 1, 0, Tally(points, 77)) for key, points in kept.items()
    }
    agents = [AgentStatistics("zstd", 1, 9, 0, "")]
    told = [records] if records else []
    return audit(agents, facts, endpoints, by_api={GUEST}, records=told)


def test_all_balances() -> None:
    found = audited({OWN: (7, 0), GUEST: (3, 0)}, {OWN: 7, GUEST: 3})
    assert found.faults() == []
    assert [len(sink.across) for sink in found.sinks] == [2, 2]


def test_the_guest_may_be_absent() -> None:
    assert audited({OWN: (7, 0)}, {OWN: 7, GUEST: 0}).faults() == []


@pytest.mark.parametrize("key", [OWN, GUEST])
def test_a_lost_point_is_found_at_either(key: SinkKey) -> None:
    kept = {OWN: 7, GUEST: 3}
    (fault,) = audited({OWN: (7, 0), GUEST: (3, 0)}, {**kept, key: kept[key] - 1}).faults()
    assert "delivered, kept by the endpoint" in fault.what


def test_only_sinks_of_the_api_may_have_something_left() -> None:
    kept = {OWN: 7, GUEST: 3}
    assert audited({OWN: (7, 0), GUEST: (5, 2)}, kept).faults() == []
    (fault,) = audited({OWN: (9, 2), GUEST: (3, 0)}, kept).faults()
    assert "still queued, none: 2 != 0" in str(fault)


def test_an_endpoint_that_several_may_have_used_is_not_compared() -> None:
    kept = {OWN: 7, GUEST: 8}
    found = audited({OWN: (7, 0), GUEST: (3, 0)}, kept, removed=REMOVED)
    assert found.faults() == []
    assert [sink.endpoint is None for sink in found.sinks] == [False, True]
    found = audited({OWN: (7, 0), GUEST: (3, 0), ELSEWHERE: (5, 5)}, kept)
    assert found.faults() == []
    assert [sink.endpoint is None for sink in found.sinks] == [False, True, True]


def test_records_balance() -> None:
    found = audited({LOGS: (4, 0)}, {LOGS: 4}, records=SENT, counted=COUNTED)
    assert found.faults() == []
    assert [check.left for check in found.sinks[0].intended] == [4, 77]


@pytest.mark.parametrize(
    ("sent", "counted", "fault"),
    [
        (replace(SENT, records=8), COUNTED, "log records sent, received by the relay: 8 != 9"),
        (replace(SENT, refused=1), COUNTED, "log records refused by the relay"),
        (SENT, replace(COUNTED, no_tenant=1), "of no project, counted by the relay: 2 != 1"),
        (replace(SENT, rejected=0), COUNTED, "of no project, told to the sender: 2 != 0"),
        (replace(SENT, expected=Tally(5, 77)), COUNTED, "meant to arrive, kept by the endpoint"),
        (replace(SENT, expected=Tally(4, 78)), COUNTED, "checksums of both: 78 != 77"),
    ],
)
def test_a_lost_record_is_found(
    sent: RecordAgentStatistics, counted: RecordStatistics, fault: str
) -> None:
    (found,) = audited({LOGS: (4, 0)}, {LOGS: 4}, records=sent, counted=counted).faults()
    assert fault in str(found)
