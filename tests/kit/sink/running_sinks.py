"""Running exporters whose sinks do as they are told, for the board of statuses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from relay.config.exporter.load_result import LoadResult, ObjectKey, ObjectResult
from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import Exporter, OtlpHttp, Sink
from relay.control.reconcile.sink_entry import RunningExporter, SinkEntry
from relay.control.reconcile.sink_report import SinkReport
from relay.pipeline.routing.match_set import SinkCounter
from relay.sink.queue.queue import QueueStatistics
from relay.sink.reporting.ledger import LedgerStatistics
from relay.sink.reporting.outcomes import DeliveryOutcomes, DeliveryReading
from relay.sink.reporting.statistics import SinkStatistics
from relay.sink.reporting.throughput import ThroughputStatistics
from relay.sink.spill.owner import Owner
from relay.sink.worker import SinkWorker
from relay.telemetry.histogram import Distribution

QUEUE = QueueStatistics(0, 0, 0, 0, 0)


class ToldWorker:
    """Has the outcomes that a test gives it."""

    def __init__(self, exporter: str, sink: str) -> None:
        self.exporter_id = exporter
        self.sink_id = sink
        self.outcomes = DeliveryOutcomes()
        self.matched = 0
        self.waiting = 0
        self.held = ""
        self.behind = ""

    def read_delivery(self) -> DeliveryReading:
        return DeliveryReading(self.outcomes, self.matched, self.waiting, self.held, self.behind)

    def deliver(self, at: float, points: int = 1) -> None:
        """Match points, and have them accepted."""
        self.matched += points
        self.outcomes.succeeded(at)


def entry_of(worker: ToldWorker) -> SinkEntry:
    """Return an entry with this worker."""
    counter = SinkCounter(worker.exporter_id, worker.sink_id)
    owner = Owner(worker.exporter_id, worker.sink_id)
    return SinkEntry(counter, cast("SinkWorker", worker), owner)


class ToldSinks:
    """Implements :class:`relay.control.status.board.RunningSinks`, and gives results of loading."""

    def __init__(self) -> None:
        self.workers: dict[tuple[str, str], ToldWorker] = {}
        self.runs: dict[str, RunningExporter] = {}
        self.asleep: set[str] = set()
        self.reread: set[str] = set()
        self.loaded = LoadResult((), (), SecretStore())

    @property
    def awake(self) -> Iterable[SinkWorker]:
        workers = [one for one in self.workers.values() if one.exporter_id not in self.asleep]
        return cast("Iterable[SinkWorker]", workers)

    def running(self, exporter: str) -> RunningExporter | None:
        return self.runs.get(exporter)

    def reports_of(self, exporter: str) -> dict[str, SinkReport]:
        running = self.runs.get(exporter)
        return (
            {name: report_of(self.workers[exporter, name]) for name in running.entries}
            if (running)
            else {}
        )

    def take_reread(self) -> set[str]:
        found, self.reread = self.reread, set()
        return found

    def apply(self, exporter: Exporter, at: float) -> None:
        """Run this version."""
        entries: dict[str, SinkEntry] = {}
        for sink in exporter.sinks:
            key = (exporter.id, sink.name)
            worker = self.workers.setdefault(key, ToldWorker(*key))
            entries[sink.name] = entry_of(worker)
            entries[sink.name].matched_before = worker.matched
        self.runs[exporter.id] = RunningExporter(exporter, at, entries)

    def load(self, *results: ObjectResult, secrets: SecretStore | None = None) -> None:
        """Give these objects, of which the good ones are to run."""
        wanted = [one.exporter for one in results if one.exporter and not one.conflict]
        self.loaded = LoadResult(
            tuple(wanted), (), secrets or self.loaded.secrets, objects=tuple(results)
        )


def exporter(name: str = "e", *sinks: Sink, generation: int = 1, **fields: Any) -> Exporter:
    """Return an exporter of namespace ``n``, by default with one sink ``out``."""
    fields.setdefault("uid", f"uid-{name}")
    return Exporter("", "n", name, (), sinks or (sink(),), generation=generation, **fields)


def sink(name: str = "out", **fields: Any) -> Sink:
    """Return a sink."""
    return Sink(name, ("s",), fields.pop("endpoint", OtlpHttp("https://h/v1/metrics")), **fields)


def result(one: Exporter | str, **fields: Any) -> ObjectResult:
    """Return the outcome of an exporter, or of a faulty one by its name, from Kubernetes."""
    name = one if isinstance(one, str) else one.name
    kind = "Exporter" if isinstance(one, str) else one.kind
    key = fields.pop("key", ObjectKey("kubernetes", "", kind, "", "n", name))
    valid = None if isinstance(one, str) else one
    fields.setdefault("generation", valid.generation if valid else 1)
    return ObjectResult(key, fields.pop("uid", f"uid-{name}"), exporter=valid, **fields)


def report_of(worker: ToldWorker) -> SinkReport:
    """Return the report of a worker: everything that matched and does not wait was delivered."""
    done = worker.matched - worker.waiting
    ledger = LedgerStatistics(worker.matched, done, {}, 0, {}, worker.waiting)
    nothing = Distribution()
    statistics = SinkStatistics(
        exporter=worker.exporter_id,
        sink=worker.sink_id,
        state="healthy",
        ledger=ledger,
        queue=QUEUE,
        oldest_point_age_s=None,
        last_success_at=worker.outcomes.last_success_at,
        last_error=worker.outcomes.last_error,
        last_warning=None,
        paused=worker.held,
        too_large_bytes=None,
        splits=0,
        requests={},
        bytes_sent=0,
        internal_errors=0,
        throughput=ThroughputStatistics(nothing, nothing, worker.behind),
    )
    names = worker.exporter_id, worker.sink_id
    return SinkReport(
        *names, worker.matched, worker.matched, ledger, 0, None, statistics, QUEUE, None
    )
