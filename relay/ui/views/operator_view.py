"""The operator's view: the worst sinks first, projects, and the relay's own health. Pure.

The figures are those of ``/status`` and ``/metrics``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from relay.api.status import StatusSource
from relay.api.usage_status import project_figures
from relay.config.exporter.records.outputs import carries_records, signal_of
from relay.config.exporter.types import Exporter, names_of
from relay.control.reconcile.sink_report import SinkReport
from relay.runtime.errors import Fault
from relay.telemetry.snapshot import ProjectFigures
from relay.ui.authoring.path_words import in_words
from relay.ui.authoring.signals import SIGNALS
from relay.ui.views.states import Tone

WORST_SINKS: Final = 50
_UNITS: Final = {row.field: row.unit for row in SIGNALS}
PROJECTS_MAX: Final = 500
_STATES: Final[dict[str, tuple[int, str, Tone]]] = {
    "failing": (0, "Failing", "bad"),
    "paused": (0, "Credentials refused", "bad"),
    "behind": (2, "Behind", "warn"),
    "healthy": (3, "Delivering", "good"),
}


@dataclass(frozen=True, slots=True)
class WorstSink:
    """One sink, or one signal that it sends; times are wall clock, s, ages s.

    ``address``: its exporter's page, or "". ``unit``: of what waits and was lost.
    """

    exporter: str
    address: str
    sink: str
    word: str
    tone: Tone
    unit: str
    waiting: int
    lost: int
    oldest_s: float | None
    queue_bytes: int
    error: str
    last_success: float | None
    rank: tuple[int, float, int]


@dataclass(frozen=True, slots=True)
class HealthFigure:
    """One figure of the relay: ``used`` of ``most`` as a bar, where there is a limit.

    ``advice`` says what to do about a bad one; "" where the relay itself is not at fault.
    """

    word: str
    text: str
    used: float = 0.0
    most: float = 0.0
    is_bad: bool = False
    advice: str = ""

    @property
    def width(self) -> float:
        """Width of the bar, in percent."""
        return round(min(100.0, 100 * self.used / self.most), 1) if self.most else 0.0


@dataclass(frozen=True, slots=True)
class OperatorView:
    """Everything that the page shows."""

    version: str
    started_at: float
    states: tuple[tuple[str, Tone, int], ...]
    """Words and numbers of what sinks send: each signal of a sink has a state of its own."""
    worst: tuple[WorstSink, ...]
    sinks: int
    bad_sinks: int
    """Those of which a signal fails or is behind."""
    exporters: int
    projects: tuple[ProjectFigures, ...]
    figures: tuple[HealthFigure, ...]
    requests: tuple[tuple[str, int], ...]
    refused: tuple[tuple[str, int], ...]
    faults: tuple[str, ...]

    @property
    def outputs(self) -> int:
        """Number of sinks, each once for each of its signals, as in ``worst``."""
        return sum(number for _, _, number in self.states)

    @property
    def troubles(self) -> tuple[HealthFigure, ...]:
        """Figures that say that the relay itself is not well."""
        return tuple(one for one in self.figures if one.is_bad and one.advice)


def worst_of(report: SinkReport, now: float) -> WorstSink:
    """Return how bad a sink is: its state, then the age of what waits, then how much.

    ``now`` is the wall clock, s.
    """
    worker, ledger = report.worker, report.ledger
    order, word, tone = _state_of(report)
    waiting = ledger.queued + report.open
    oldest = report.oldest_age_s(now) or None
    error = worker.paused or (worker.last_error.text if worker.last_error else "")
    return WorstSink(
        report.exporter,
        exporter_address(report.exporter),
        report.sink,
        word,
        tone,
        _UNITS[signal_of(report.sink)],
        waiting,
        ledger.lost,
        oldest,
        report.queue.bytes,
        error if order < 3 else "",
        worker.last_success_at,
        (order, -(oldest or 0.0), -waiting),
    )


def _told(fault: Fault) -> str:
    said = in_words(fault.summary, None)
    return f"{fault.project}: {said}" if fault.project else said


def exporter_address(exporter: str) -> str:
    """Return the address of an exporter's page; that of a policy needs what its id does not say."""
    kind, project, namespace, name = names_of(exporter)
    base = f"/ui/projects/{project}" if project else "/ui"
    return f"{base}/exporters/{namespace}/{name}" if kind == "Exporter" else ""


def named_status(status: int) -> str:
    """Return a status of HTTP with its name."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _state_of(report: SinkReport) -> tuple[int, str, Tone]:
    worker = report.worker
    if worker.owner_paused:
        return 4, "Paused", "idle"
    if worker.state == "healthy" and worker.last_success_at is None:
        return 5, "No data yet", "wait"
    return _STATES[worker.state]


def _without_metrics(exporters: Iterable[Exporter]) -> Iterator[tuple[str, str]]:
    """Yield exporter ids and names of sinks that no source of metrics feeds."""
    for exporter in exporters:
        metrics = {source.name for source in exporter.sources}
        for sink in exporter.sinks:
            if metrics.isdisjoint(sink.sources):
                yield exporter.id, sink.name


def _whole_sink(one: WorstSink) -> tuple[str, str]:
    name = one.sink.rpartition("/")[0] if carries_records(one.sink) else one.sink
    return one.exporter, name


def operator_view(
    facts: StatusSource, version: str, figures: tuple[HealthFigure, ...]
) -> OperatorView:
    """Return the view of the relay at one moment."""
    empty = set(_without_metrics(facts.exporters))
    sinks = sorted(
        (
            worst_of(report, facts.now)
            for report in facts.sinks
            if report.matched
            or report.ledger.offered
            or (report.exporter, report.sink) not in empty
        ),
        key=lambda one: (one.rank, one.exporter, one.sink),
    )
    counted: dict[tuple[str, Tone], int] = {}
    for one in sinks:
        counted[one.word, one.tone] = counted.get((one.word, one.tone), 0) + 1
    projects = project_figures(facts.usage, facts.exporters, facts.sinks)
    largest = sorted(projects, key=lambda one: (-one.queue_bytes, -one.series, one.project))
    return OperatorView(
        version=version,
        started_at=facts.started_at,
        states=tuple((word, tone, number) for (word, tone), number in counted.items()),
        worst=tuple(sinks[:WORST_SINKS]),
        sinks=len(set(map(_whole_sink, sinks))),
        bad_sinks=len({_whole_sink(one) for one in sinks if one.tone in ("bad", "warn")}),
        exporters=len(facts.exporters),
        projects=tuple(largest[:PROJECTS_MAX]),
        figures=figures,
        requests=tuple(
            (named_status(code), number) for code, number in sorted(facts.ingest.requests.items())
        ),
        refused=tuple(sorted((why, one) for why, one in facts.ingest.refused.items() if one)),
        faults=tuple(map(_told, facts.faults[:WORST_SINKS])),
    )
