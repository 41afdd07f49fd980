"""Collect the facts of a running exporter: from its resource, its secrets and its sinks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import Exporter, RefusedSink, SecretRef, Sink
from relay.control.reconcile.sink_report import SinkReport
from relay.control.status.assess import DeliveryFacts, ObjectFacts, Problem, SinkFacts
from relay.runtime.errors import SecretError
from relay.sink.http.credentials import credential_headers
from relay.sink.http.tls import read_material

REF_NOT_USABLE = "RefNotUsable"


def facts_of(
    exporter: Exporter,
    reports: Mapping[str, SinkReport],
    secrets: SecretStore,
    *,
    programmed_at: float,
    rejecting: Callable[[str], bool],
    paused: Callable[[str], bool],
) -> ObjectFacts:
    """Return the facts of an exporter whose present version runs.

    ``reports`` are by name of sink; one without a report cannot be judged. ``rejecting`` tells
    whether a sink's last failure was for good, ``paused`` whether its owner has paused it.
    ``programmed_at``: wall clock, s.
    """
    refused = {one.name: one for one in exporter.refused}
    running = {sink.name for sink in exporter.sinks}
    found: list[SinkFacts] = []
    for sink in exporter.sinks:
        report = reports.get(sink.name)
        rejected = rejecting(sink.name)
        found.append(
            SinkFacts(
                sink.name,
                refused=_problem(refused.get(sink.name)),
                unresolved=unresolved_references(exporter, sink, secrets),
                runs=sink.name not in refused,
                runs_old=sink.name in refused,
                paused=paused(sink.name),
                delivery=delivery_facts(report, programmed_at=programmed_at, rejected=rejected)
                if report is not None
                else None,
            )
        )
    found += [
        SinkFacts(one.name, refused=_problem(one), runs=False)
        for one in exporter.refused
        if one.name not in running
    ]
    return ObjectFacts(tuple(found), warnings=tuple(one.text for one in exporter.warnings))


def delivery_facts(report: SinkReport, *, programmed_at: float, rejected: bool) -> DeliveryFacts:
    """Return the facts of one sink's delivery, from its report."""
    worker = report.worker
    error = worker.last_error
    return DeliveryFacts(
        matched=report.matched > 0,
        programmed_at=programmed_at,
        succeeded_at=worker.last_success_at,
        failed_at=error.at if error else None,
        failure=error.text if error else "",
        rejected=rejected,
        held=worker.paused,
        behind=worker.throughput.behind if worker.state == "behind" else "",
    )


def unresolved_references(
    exporter: Exporter, sink: Sink, secrets: SecretStore
) -> tuple[Problem, ...]:
    """Return the problems of the Secrets that a sink refers to; never with a value."""

    def look_up(reference: SecretRef, default_key: str) -> str:
        return secrets.get(exporter.project, exporter.namespace, reference, default_key)

    problems: list[Problem] = []
    try:
        credential_headers(sink.endpoint.authentication, look_up)
    except SecretError as error:
        problems.append(Problem(REF_NOT_USABLE, str(error)))
    if sink.endpoint.tls is not None:
        try:
            read_material(sink.endpoint.tls, look_up)
        except SecretError as error:
            problems.append(Problem(REF_NOT_USABLE, str(error)))
    return tuple(problems)


def _problem(refused: RefusedSink | None) -> Problem | None:
    return Problem(refused.reason, refused.message) if refused is not None else None
