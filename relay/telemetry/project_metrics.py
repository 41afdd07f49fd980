"""Metrics of projects: their usage and their limits. There are as many rows as projects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from relay.telemetry.metric_spec import Kind, MetricSpec, Row, one
from relay.telemetry.snapshot import ProjectFigures, Snapshot

_PROJECT: Final = ("project",)


def _per_project(value: Callable[[ProjectFigures], float]) -> Callable[[Snapshot], Iterable[Row]]:
    return lambda snapshot: (((each.project,), value(each)) for each in snapshot.projects)


def _limits(snapshot: Snapshot) -> Iterator[Row]:
    for each in snapshot.projects:
        for name, limit in each.limits.items():
            yield (each.project, name), limit


def _spec(name: str, kind: Kind, text: str, value: Callable[[ProjectFigures], float]) -> MetricSpec:
    return MetricSpec(name, kind, text, _PROJECT, _per_project(value))


PROJECTS: tuple[MetricSpec, ...] = (
    _spec("relay_project_exporters", "gauge", "Exporters of a project.", lambda p: p.exporters),
    _spec("relay_project_sinks", "gauge", "Sinks of a project.", lambda p: p.sinks),
    _spec("relay_project_pairs", "gauge", "Pairs of a source and its sink.", lambda p: p.pairs),
    _spec(
        "relay_project_series",
        "gauge",
        "Known series that any sink of a project takes.",
        lambda p: p.series,
    ),
    _spec(
        "relay_project_refused_series",
        "gauge",
        "Known series that no sink of a project takes because of its limits.",
        lambda p: p.refused_series,
    ),
    _spec(
        "relay_project_samples_total",
        "counter",
        "Samples that sinks of a project took, once for each sink.",
        lambda p: p.samples,
    ),
    _spec(
        "relay_project_refused_samples_total",
        "counter",
        "Samples dropped because of a project's limits, once for each sink.",
        lambda p: p.refused_samples,
    ),
    _spec(
        "relay_project_records_total",
        "counter",
        "Log records and spans that sinks of a project took, once for each sink.",
        lambda p: p.records,
    ),
    _spec(
        "relay_project_refused_records_total",
        "counter",
        "Log records and spans dropped because of a project's limits, once for each sink.",
        lambda p: p.refused_records,
    ),
    _spec(
        "relay_project_sent_bytes_total",
        "counter",
        "Bytes of request bodies that sinks of a project sent, retries included.",
        lambda p: p.sent_bytes,
    ),
    _spec(
        "relay_project_resent_points_total",
        "counter",
        "Points of requests that sinks of a project sent again.",
        lambda p: p.resent_points,
    ),
    _spec(
        "relay_project_queue_bytes",
        "gauge",
        "Undelivered bytes of a project's sinks, in memory and on disk.",
        lambda p: p.queue_bytes,
    ),
    MetricSpec(
        "relay_project_limit",
        "gauge",
        "Limits of projects, by the setting's name below limits.perProject.",
        ("project", "limit"),
        _limits,
    ),
    MetricSpec(
        "relay_projects_forgotten_total",
        "counter",
        "Projects of which nothing is left and whose learned state was dropped.",
        (),
        one(lambda s: s.projects_forgotten),
    ),
)
