"""Collect the facts of an exporter: from its resource, its secrets and its sinks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from relay.config.exporter.records.outputs import output_urls, outputs_by_signal
from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import Endpoint, Exporter, RefusedSink, Sink
from relay.control.reconcile.sink_entry import RunningExporter, SinkEntry
from relay.control.status.assess import DeliveryFacts, Problem, SinkFacts
from relay.control.status.sink_delivery import merged
from relay.runtime.errors import SecretError
from relay.sink.http.credentials import credential_headers
from relay.sink.http.tls import read_material
from relay.sink.steps import FailureKind

REF_NOT_USABLE: Final = "RefNotUsable"
SETTLE_S: Final = 5.0
"""Time without success after which a failure counts, if there was a success before; s."""
LOSS_SHOWN_S: Final = 300.0
"""Time for which a loss is shown with a sink that delivers, s."""

DELTAS: Final = (
    "{count:,} data points came as deltas, and the sink takes cumulative values only "
    "(temporality): let the sender export cumulative ones, or set otlp_http.temporality to delta"
)
_LOSSES: Final = frozenset({"partial", "rejected", "given up"})
_KEYS: Final = {
    "bearerToken": "key token",
    "apiKey": "key apiKey",
    "basicAuth": "keys username and password",
}
Unresolved = Mapping[str, tuple[Problem, ...]]
"""The problems of references, by name of sink."""


def sink_facts(
    wanted: Exporter, running: RunningExporter | None, unresolved: Unresolved, *, now: float
) -> tuple[SinkFacts, ...]:
    """Return the facts of the sinks of a valid exporter; ``now``: wall clock, s.

    ``running`` is what runs of its present version; None: it is not in service yet.
    """
    refused = {one.name: one for one in wanted.refused}
    entries = running.entries if running is not None else {}
    found: list[SinkFacts] = []
    for sink in wanted.sinks:
        entry = entries.get(sink.name)
        problem = _problem(refused.get(sink.name))
        found.append(
            _running_sink(
                sink,
                wanted.namespace,
                _delivery(running, sink, now),
                refused=problem,
                unresolved=unresolved.get(sink.name, ()),
                runs=entry is not None and problem is None,
                runs_old=entry is not None and problem is not None,
            )
        )
    known = {sink.name for sink in wanted.sinks}
    found += [
        SinkFacts(one.name, refused=_problem(one), unresolved=_lacking(one), runs=False)
        for one in wanted.refused
        if one.name not in known
    ]
    return tuple(found)


def last_good_sinks(
    running: RunningExporter, unresolved: Unresolved, *, now: float
) -> tuple[SinkFacts, ...]:
    """Return the facts of the sinks of an exporter that runs on, its present version being bad."""
    return tuple(
        _running_sink(
            sink,
            running.exporter.namespace,
            _delivery(running, sink, now),
            unresolved=unresolved.get(sink.name, ()),
            runs=False,
            runs_old=True,
        )
        for sink in running.exporter.sinks
    )


def _running_sink(
    sink: Sink,
    namespace: str,
    delivery: DeliveryFacts | None,
    *,
    unresolved: tuple[Problem, ...],
    runs: bool,
    runs_old: bool,
    refused: Problem | None = None,
) -> SinkFacts:
    return SinkFacts(
        sink.name,
        refused=refused,
        unresolved=unresolved,
        runs=runs,
        runs_old=runs_old,
        paused=sink.paused,
        delivery=delivery,
        address=sink.endpoint.url,
        credentials=credentials_of(sink.endpoint, namespace),
    )


def _delivery(running: RunningExporter | None, sink: Sink, now: float) -> DeliveryFacts | None:
    """Return the facts of all outputs of a sink; None if it does not run."""
    if running is None or sink.name not in running.entries:
        return None
    at = running.programmed_at
    urls = output_urls(running.exporter)
    return merged(
        {
            signal: delivery_facts(running.entries[name], programmed_at=at, now=now)._replace(
                address=urls.get(name, "")
            )
            for signal, name in outputs_by_signal(running.exporter, sink).items()
        }
    )


def delivery_facts(entry: SinkEntry, *, programmed_at: float, now: float) -> DeliveryFacts:
    """Return the facts of one sink's delivery; times are wall clock, s."""
    facts = _answered(entry, programmed_at=programmed_at, now=now)
    counter = entry.counter
    if facts.loss or not counter.deltas or now - counter.deltas_at > LOSS_SHOWN_S:
        return facts
    return facts._replace(loss=DELTAS.format(count=counter.deltas), unsettled=True)


def _answered(entry: SinkEntry, *, programmed_at: float, now: float) -> DeliveryFacts:
    """Return the facts that the endpoint's answers tell."""
    outcomes, matched, waiting, held, behind = entry.worker.read_delivery()
    success_at, since, error = outcomes.last_success_at, outcomes.failing_since, outcomes.last_error
    succeeded = success_at is not None and success_at >= programmed_at
    is_new = matched > entry.matched_before
    if error is None or (since is None and now - error.at > LOSS_SHOWN_S):
        return DeliveryFacts(is_new, waiting > 0, succeeded, behind=behind)
    failure, loss = "", ""
    kind: FailureKind = "retried"
    counts = since is not None and (not succeeded or now - since >= SETTLE_S)
    if counts and held:
        failure, kind = held, "unauthorized"
    elif counts and error.at >= programmed_at:
        failure, kind = error.text, error.kind
    elif error.at >= programmed_at and error.kind in _LOSSES:
        loss = error.text
    return DeliveryFacts(
        is_new, waiting > 0, succeeded, failure, kind, loss, behind, unsettled=True
    )


def credentials_of(endpoint: Endpoint, namespace: str) -> str:
    """Return the Secret and the keys of an endpoint's authentication in words; "" for none."""
    authentication = endpoint.authentication
    reference = authentication.secret
    if reference is None:
        return ""
    keys = f"key {reference.key}" if reference.key else _KEYS[authentication.type]
    return f"secret {namespace}/{reference.name}, {keys}"


def unresolved_references(exporter: Exporter, secrets: SecretStore) -> Unresolved:
    """Return the problems of the Secrets that sinks refer to, by name; never with a value.

    Reads files where secrets are mounted.
    """
    look_up = secrets.of(exporter)
    found: dict[str, tuple[Problem, ...]] = {}
    for sink in exporter.sinks:
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
        if problems:
            found[sink.name] = tuple(problems)
    return found


def _lacking(refused: RefusedSink) -> tuple[Problem, ...]:
    """Return the problem of a sink that is refused for its Secret."""
    if refused.reason != "InvalidAuthentication":
        return ()
    return (Problem(REF_NOT_USABLE, refused.message),)


def _problem(refused: RefusedSink | None) -> Problem | None:
    return Problem(refused.reason, refused.message) if refused is not None else None
