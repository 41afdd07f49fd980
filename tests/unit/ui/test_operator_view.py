"""The operator's page shows nothing that /status or /metrics does not have."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from relay.api.records_status import RecordsView
from relay.api.status import StatusSource
from relay.config.exporter.types import Exporter, Source
from relay.control.durability.admission import MemoryStatistics
from relay.control.projects.usage_facts import UsageFacts
from relay.control.reconcile.reloader import ReloadStatistics
from relay.pipeline.records.resource_table import ResourceTableStatistics
from relay.pipeline.records.results import RecordStatistics
from relay.pipeline.routing.series_counts import ProjectSeries
from relay.runtime.errors import Fault
from relay.selector.matchers import Selector
from relay.sink.reporting.ledger import EMPTY_LEDGER, LedgerStatistics
from relay.sink.spill.store import StoreStatistics
from relay.sink.steps import LastEvent
from relay.storage.journal.statistics import JournalStatistics
from relay.storage.log.segment import DamageCounters
from relay.telemetry.registry import CATALOGUE
from relay.telemetry.snapshot import IngestFigures, LagFigures
from relay.ui.pages.operator import health_figures
from relay.ui.views.operator_view import named_status, operator_view
from relay.ui.views.quantities import bytes_, count, duration, share
from tests.kit.engine_rig import Rig
from tests.kit.remote_write import raw
from tests.kit.sink.running_sinks import QUEUE, ToldWorker, report_of, sink

NOW = 1_795_950_000.0
MIB = 1 << 20


def facts() -> StatusSource:
    """A relay with one failing sink, whose figures are all different."""
    rig = Rig()
    rig.feed(raw.join(raw.text_series({"__name__": f"m{n}"}, (1.0, 10**12)) for n in range(7)))
    worker = ToldWorker("acme/n/e", "out")
    worker.deliver(NOW - 40, 100)
    worker.waiting = 30
    report = report_of(worker)
    ledger = LedgerStatistics(100, 39, {"http_400": 11}, 8, {"queue_full": 12}, 30)
    statistics = msgspec.structs.replace(
        report.worker, state="failing", last_error=LastEvent("HTTP 503", NOW - 1)
    )
    queue = msgspec.structs.replace(QUEUE, bytes=3 * MIB)
    report = msgspec.structs.replace(
        report,
        ledger=ledger,
        worker=statistics,
        queue=queue,
        open=4,
        open_since=NOW - 21,
        oldest_point_age_s=17.0,
    )
    return StatusSource(
        now=NOW,
        started_at=NOW - 5000,
        ingest=IngestFigures({204: 501, 429: 6}, {"overloaded": 6}),
        engine=rig.engine.statistics(),
        lag=LagFigures(0.0123),
        exporters=(Exporter("acme", "n", "e", (), (sink(),), generation=1, uid="u"),),
        faults=(),
        sources=(),
        sinks=(report,),
        removed_ledger=EMPTY_LEDGER,
        changes=ReloadStatistics(1, 2, 0, 19, NOW - 9, 0.25, 1, {"success": 3}),
        store=StoreStatistics(
            5 * MIB, 50 * MIB, "the disk is full", 1, 2, 3, 4, 5, DamageCounters()
        ),
        journal=JournalStatistics(bytes=6 * MIB, bytes_max=60 * MIB),
        memory=MemoryStatistics(80 * MIB, 7 * MIB, MIB, MIB),
        unreachable_endpoints=2,
        usage=UsageFacts(series={"acme": ProjectSeries(71, 13)}),
    )


def metrics(source: StatusSource) -> dict[tuple[str, ...], float]:
    """Return the samples of a scrape by name and labels."""
    snapshot = source.snapshot()
    return {
        (spec.name, *values): value for spec in CATALOGUE for values, value in spec.rows(snapshot)
    }


def test_health_is_that_of_status_and_metrics() -> None:
    source = facts()
    status, scraped = source.status(), metrics(source)
    ingest, storage, changes = status["ingest"], status["storage"], status["changes"]

    def filled(used: int, most: int) -> str:
        return f"{bytes_(used)} of {bytes_(most)}, {share(used, most)}"

    expected = {
        "Memory for data": filled(status["memory"]["usedBytes"], status["memory"]["maxBytes"]),
        "Event loop lag, highest": duration(scraped[("relay_event_loop_lag_max_seconds",)]),
        "Active series": count(ingest["activeSeries"]),
        "Samples received": count(ingest["receivedSamples"]),
        "Of these selected by none": count(ingest["unmatchedSamples"]),
        "Disk for queues": filled(storage["queues"]["usedBytes"], storage["queues"]["maxBytes"]),
        "Journal": filled(storage["journal"]["usedBytes"], storage["journal"]["maxBytes"]),
        "Storage": storage["queues"]["trouble"],
        "Changes of exporters": (
            f"{changes['applied']} applied, the last in {duration(changes['lastSeconds'])}; "
            f"{changes['failures']} failed"
        ),
        "Endpoints that cannot be reached": str(int(scraped[("relay_unreachable_endpoints",)])),
    }
    shown = {one.word: one.text for one in health_figures(source)}
    assert shown == expected
    view = operator_view(source, "1.2.3", ())
    assert dict(view.requests) == {
        named_status(int(code)): number for code, number in ingest["requests"].items()
    }
    assert dict(view.refused) == ingest["refusedRequests"]


def test_sinks_and_projects_are_those_of_status_and_metrics() -> None:
    source = facts()
    view = operator_view(source, "1.2.3", ())
    (worst,), (project,) = view.worst, view.projects
    (exporter,) = source.status()["exporters"]
    (own,) = exporter["sinks"]
    ledger = own["ledger"]
    assert worst.exporter == exporter["name"]
    assert worst.sink == own["name"]
    assert worst.waiting == ledger["queued"] == 34
    lost = sum(ledger["rejected"].values()) + ledger["expired"] + sum(ledger["dropped"].values())
    assert worst.lost == lost == 31
    assert worst.oldest_s == own["queue"]["oldestPointAgeSeconds"] == 21.0
    assert worst.queue_bytes == own["queue"]["bytes"]
    assert worst.error == own["lastError"]["text"]
    assert (worst.word.lower(), worst.last_success) == (own["state"], NOW - 40)
    assert own["lastSuccessAt"] == "2026-11-29T10:59:20Z"
    scraped = metrics(source)
    for name in ("exporters", "sinks", "series", "refused_series", "queue_bytes"):
        assert getattr(project, name) == scraped[f"relay_project_{name}", project.project], name
    assert (project.series, project.refused_series, project.queue_bytes) == (71, 13, 3 * MIB)


def test_each_signal_of_a_sink_is_a_line_in_its_unit() -> None:
    source = facts()
    (report,) = source.sinks
    both = (report, msgspec.structs.replace(report, sink="out/traces"))
    logs = RecordStatistics("logs", 1200, 30, 0, 700, ResourceTableStatistics(3, 3))
    records = (RecordsView(logs, {}),)
    source = msgspec.structs.replace(source, sinks=both, records=records)
    view = operator_view(source, "1.2.3", health_figures(source))
    assert [(one.sink, one.unit) for one in view.worst] == [
        ("out", "points"),
        ("out/traces", "spans"),
    ]
    assert (view.sinks, view.bad_sinks, view.states) == (1, 1, (("Failing", "bad", 2),))
    told = {one.word: one.text for one in view.figures}
    assert told["Log records received"] == "1.20k; 700 selected by none, 30 of no project"


def test_a_sink_without_a_source_of_metrics_has_no_line_of_them() -> None:
    source = facts()
    (report,) = source.sinks
    idle = msgspec.structs.replace(
        report_of(ToldWorker("acme/n/e", "out")), matched=0, ledger=EMPTY_LEDGER, open=0
    )
    logs = msgspec.structs.replace(report, sink="out/logs")
    records = source.exporters[0]
    metrics_too = replace(records, sources=(Source("s", "", Selector(())),))
    for exporter, sinks, shown in (
        (records, (idle, logs), ["out/logs"]),
        (metrics_too, (idle, logs), ["out/logs", "out"]),
        (records, (report, logs), ["out", "out/logs"]),
    ):
        one = msgspec.structs.replace(source, exporters=(exporter,), sinks=sinks)
        assert [line.sink for line in operator_view(one, "1.2.3", ()).worst] == shown


def test_faults_are_those_of_status() -> None:
    faults = (Fault("spec.sinks[0]", "is odd", "e.yaml:3"), Fault("", "is empty", "f.yaml"))
    source = msgspec.structs.replace(facts(), faults=faults)
    shown = operator_view(source, "1.2.3", ()).faults
    for text, told in zip(shown, source.status()["faults"], strict=True):
        assert text.split(": ") == [one for one in told.values() if one]
