"""The demo's audit: sinks of its own, and those that somebody wrote through the API."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from relay.cli.demo.agent import AgentStatistics
from relay.cli.demo.audit import Audit, audit
from relay.cli.demo.receiver import ReceiverStatistics
from relay.control.reconcile.reconciler import SinkKey
from relay.sink.reporting.ledger import EMPTY_LEDGER, LedgerStatistics
from tests.kit.sink.running_sinks import ToldWorker, report_of

OWN = ("acme/default/e", "own")
GUEST = ("hooli/default/e", "guest")
ELSEWHERE = ("hooli/default/f", "elsewhere")
REMOVED = LedgerStatistics(5, 5, {}, 0, {}, 0)


def audited(
    sinks: dict[SinkKey, tuple[int, int]],
    kept: dict[SinkKey, int],
    *,
    removed: LedgerStatistics = EMPTY_LEDGER,
) -> Audit:
    """Audit sinks with as many points matched and waiting; endpoints say what they kept."""
    reports = []
    for (exporter, sink), (matched, waiting) in sinks.items():
        worker: Any = ToldWorker(exporter, sink)
        worker.matched, worker.waiting = matched, waiting
        reports.append(report_of(worker))
    engine = SimpleNamespace(received_samples=9, dropped_samples={})
    facts: Any = SimpleNamespace(engine=engine, sinks=reports, removed_ledger=removed)
    endpoints = {key: ReceiverStatistics(points, 0, 1, 0) for key, points in kept.items()}
    agents = [AgentStatistics("zstd", 1, 9, 0, "")]
    return audit(agents, facts, endpoints, by_api={GUEST})


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
