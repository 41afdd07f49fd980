"""Facts of a running exporter: refused sinks, references, and what a report says of delivery."""

from __future__ import annotations

import pytest

from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import (
    Authentication,
    ClientTls,
    Exporter,
    OtlpHttp,
    RefusedSink,
    SecretRef,
    Sink,
)
from relay.control.reconcile.sink_report import SinkReport
from relay.control.status.assess import ObjectFacts, assess
from relay.control.status.facts import facts_of
from relay.sink.queue.queue import QueueStatistics
from relay.sink.reporting.ledger import LedgerStatistics
from relay.sink.reporting.statistics import SinkStatistics
from relay.sink.reporting.throughput import ThroughputStatistics
from relay.sink.steps import LastEvent
from relay.telemetry.histogram import Distribution

QUEUE = QueueStatistics(0, 0, 0, 0, 0)
LEDGER = LedgerStatistics(10, 10, {}, 0, {}, 0)
TOKEN = SecretRef("s")


def sink(name: str = "otlp", *, tls: ClientTls | None = None, secret: bool = False) -> Sink:
    authentication = Authentication("bearerToken", TOKEN) if secret else Authentication()
    endpoint = OtlpHttp("https://h/v1/metrics", authentication=authentication, tls=tls)
    return Sink(name, ("s",), endpoint)


def report(
    state: str = "healthy", *, paused: str = "", error: LastEvent | None = None
) -> SinkReport:
    nothing = Distribution()
    worker = SinkStatistics(
        exporter="n/e",
        sink="otlp",
        state=state,  # type: ignore[arg-type]
        ledger=LEDGER,
        queue=QUEUE,
        oldest_point_age_s=None,
        last_success_at=150.0,
        last_error=error,
        last_warning=None,
        paused=paused,
        too_large_bytes=None,
        splits=0,
        requests={},
        bytes_sent=0,
        internal_errors=0,
        throughput=ThroughputStatistics(nothing, nothing, "9 points wait"),
    )
    return SinkReport("n/e", "otlp", 10, 10, LEDGER, 0, None, worker, QUEUE, None)


def facts(
    exporter: Exporter, found: SinkReport | None, secrets: SecretStore | None = None
) -> ObjectFacts:
    return facts_of(
        exporter,
        {"otlp": found} if found else {},
        secrets or SecretStore(),
        programmed_at=100,
        rejecting=lambda _: False,
        paused=lambda _: False,
    )


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (report(), "Delivering"),
        (report("behind"), "Behind"),
        (report("failing", error=LastEvent("503", 160)), "Failing"),
        (report("paused", paused="no token"), "Failing"),
        (None, "NoReport"),
    ],
)
def test_delivery(found: SinkReport | None, reason: str) -> None:
    verdicts = assess(facts(Exporter("", "n", "e", (), (sink(),)), found))
    assert verdicts.sinks["otlp"]["Delivering"].reason == reason


def test_refused_sinks_run_in_their_last_good_version_or_not() -> None:
    refused = tuple(RefusedSink(name, "InvalidSources", "x") for name in ("otlp", "new"))
    exporter = Exporter("", "n", "e", (), (sink(),), kind="ExportPolicy", refused=refused)
    verdicts = assess(facts(exporter, report()))
    assert verdicts.sinks["otlp"]["Programmed"].reason == "LastGoodRuns"
    assert verdicts.sinks["new"]["Programmed"].reason == "NotAccepted"
    assert verdicts.conditions["Accepted"].message.startswith("0/2 sinks are accepted")


def test_references_are_looked_up_and_no_value_is_shown() -> None:
    tls = ClientTls(ca=SecretRef("ca"), certificate=SecretRef("c"))
    exporter = Exporter("", "n", "e", (), (sink(tls=tls, secret=True),))
    missing = facts(exporter, None).sinks[0].unresolved
    assert [one.reason for one in missing] == ["RefNotUsable"] * 2
    assert "secret n/s, key token" in missing[0].message
    secrets = SecretStore()
    secrets.add("", "n", "s", {"token": b"very secret\x00"})
    bad = facts(exporter, None, secrets).sinks[0].unresolved[0]
    assert "very" not in bad.message
    secrets = SecretStore()
    secrets.add("", "n", "s", {"token": b"good"})
    secrets.add("", "n", "ca", {"ca.crt": b"PEM"})
    secrets.add("", "n", "c", {"tls.crt": b"PEM", "tls.key": b"PEM"})
    assert facts(exporter, None, secrets).sinks[0].unresolved == ()
