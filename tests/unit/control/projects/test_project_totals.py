"""Totals of removed sinks are kept by project, and of nothing else."""

from __future__ import annotations

from msgspec.structs import replace

from relay.control.projects.project_totals import ProjectTotals, RemovedTotals
from tests.kit.sink.running_sinks import ToldWorker, report_of


def test_without_tenancy_nothing_is_kept() -> None:
    totals = RemovedTotals()
    report = replace(report_of(ToldWorker("acme/n/e", "s")), matched_samples=7)
    totals.add(replace(report, group="acme/n/e"))
    assert totals.of("acme/n/e") == ProjectTotals()
    for _ in range(2):
        totals.add(replace(report, group="acme"))
    assert totals.of("acme").samples == 14
    totals.forget("acme")
    assert totals.of("acme") == ProjectTotals()
