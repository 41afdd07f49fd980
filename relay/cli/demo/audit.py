"""Compare the final counts of the agents, the relay and the endpoints. Pure.

Each of the three counts for itself; every check compares two of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from relay.api.records_status import RecordsView
from relay.api.status import StatusSource
from relay.cli.demo.agent import AgentStatistics
from relay.cli.demo.receiver import ReceiverStatistics
from relay.cli.demo.records.agent import RecordAgentStatistics
from relay.cli.demo.records.platform import expected_outputs
from relay.cli.demo.records.tally import Tally
from relay.codec.signal_names import RECORD_UNITS
from relay.control.reconcile.sink_entry import SinkKey
from relay.control.reconcile.sink_report import SinkReport
from relay.sink.reporting.ledger import EMPTY_LEDGER


@dataclass(frozen=True, slots=True)
class Check:
    """Two counts that must be equal; ``what`` names both."""

    what: str
    left: int
    right: int

    @property
    def balanced(self) -> bool:
        """True if both counts are equal."""
        return self.left == self.right

    def __str__(self) -> str:
        return f"{self.what}: {self.left:,} {'=' if self.balanced else '!='} {self.right:,}"


@dataclass(frozen=True, slots=True)
class SinkAudit:
    """Points or records of one output of a sink by outcome, as the relay counts them.

    The checks of ``own`` compare the relay with itself, those of ``across`` with the endpoint,
    those of ``intended`` what the platform meant to arrive with what did. ``endpoint`` is None for
    a sink that cannot be compared with one of the demo's.
    """

    exporter: str
    sink: str
    matched: int
    delivered: int
    rejected: int
    expired: int
    dropped: int
    queued: int
    endpoint: ReceiverStatistics | None
    own: tuple[Check, ...]
    across: tuple[Check, ...]
    intended: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class Audit:
    """All checks of a demo run."""

    checks: tuple[Check, ...]
    """Checks of the agents and the relay as a whole."""
    sinks: tuple[SinkAudit, ...]

    def faults(self) -> list[Check]:
        """Return all checks that do not balance."""
        checks = [*self.checks]
        for sink in self.sinks:
            checks += (*sink.own, *sink.across, *sink.intended)
        return [check for check in checks if not check.balanced]


def audit(
    agents: Sequence[AgentStatistics],
    facts: StatusSource,
    endpoints: Mapping[SinkKey, ReceiverStatistics],
    *,
    by_api: AbstractSet[SinkKey] = frozenset(),
    records: Sequence[RecordAgentStatistics] = (),
) -> Audit:
    """Compare all counts. ``facts`` must be taken after the relay has drained and stopped.

    ``endpoints`` are by output, ``records`` of the agents of logs and traces. ``by_api`` are the
    keys of endpoints whose sink comes by the API, if at all. Sinks that come by it may be faulty,
    and what they cannot deliver stays queued. The endpoint is compared only where one sink came by
    the API, and stayed: an endpoint does not know which of several has sent.
    """
    sent = sum(agent.samples for agent in agents)
    refused = sum(agent.refused_samples for agent in agents)
    engine = facts.engine
    faulty = sum(engine.dropped_samples.values())
    packaged = endpoints.keys() - by_api
    written = {(sink.exporter, sink.sink) for sink in facts.sinks} - packaged
    stayed = len(written) == 1 and facts.removed_ledger == EMPTY_LEDGER
    expected = expected_outputs({agent.signal: agent.expected for agent in records})
    compared = packaged | (written & by_api if stayed else set())
    return Audit(
        checks=(
            Check("sent by the platform, received by the relay", sent, engine.received_samples),
            Check("refused by the relay or dropped as faulty, none", refused + faulty, 0),
            *(check for view in facts.records for check in _audit_records(view, records)),
        ),
        sinks=tuple(
            _audit_sink(
                sink,
                endpoints.get(key) if key in compared else None,
                key in packaged,
                expected.get(key),
            )
            for sink in facts.sinks
            for key in ((sink.exporter, sink.sink),)
        ),
    )


def _audit_records(view: RecordsView, agents: Sequence[RecordAgentStatistics]) -> Iterator[Check]:
    """Compare one signal's agents with the relay."""
    signal, statistics = view.signal, view.statistics
    own = [agent for agent in agents if agent.signal == signal]
    unit = RECORD_UNITS[signal]
    sent = sum(agent.records for agent in own)
    yield Check(f"{unit} sent, received by the relay", sent, statistics.received)
    refused = sum(agent.refused for agent in own) + statistics.oversized
    yield Check(f"{unit} refused by the relay or too large, none", refused, 0)
    no_tenant = sum(agent.no_tenant for agent in own)
    yield Check(f"{unit} of no project, counted by the relay", no_tenant, statistics.no_tenant)
    told = sum(agent.rejected for agent in own)
    yield Check(f"{unit} of no project, told to the sender", no_tenant, told)


def _audit_sink(
    report: SinkReport,
    endpoint: ReceiverStatistics | None,
    packaged: bool,
    expected: Tally | None,
) -> SinkAudit:
    ledger = report.ledger
    rejected, dropped = sum(ledger.rejected.values()), sum(ledger.dropped.values())
    queued = ledger.queued + report.open
    accounted = ledger.delivered + rejected + ledger.expired + dropped + queued

    def check(what: str, left: int, right: int) -> Check:
        return Check(f"{report.exporter} {report.sink}: {what}", left, right)

    return SinkAudit(
        exporter=report.exporter,
        sink=report.sink,
        matched=report.matched,
        delivered=ledger.delivered,
        rejected=rejected,
        expired=ledger.expired,
        dropped=dropped,
        queued=queued,
        endpoint=endpoint,
        own=(
            check("matched, accounted for", report.matched, accounted),
            *([check("still queued, none", queued, 0)] if packaged else []),
            check("internal errors, none", report.worker.internal_errors, 0),
        ),
        across=()
        if endpoint is None
        else (
            check("delivered, kept by the endpoint", ledger.delivered, endpoint.kept),
            check("rejected, refused by the endpoint", rejected, endpoint.rejected),
        ),
        intended=()
        if endpoint is None or expected is None
        else (
            check("meant to arrive, kept by the endpoint", expected.records, endpoint.kept),
            check("checksums of both", expected.checksum, endpoint.content.checksum),
        ),
    )
