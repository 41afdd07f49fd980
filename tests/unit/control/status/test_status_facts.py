"""Facts of an exporter: refused sinks, references, and what its workers tell of delivery."""

from __future__ import annotations

import pytest

from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import (
    Authentication,
    ClientTls,
    OtlpHttp,
    RefusedSink,
    SecretRef,
)
from relay.control.status.assess import ObjectFacts, ObjectVerdicts, assess
from relay.control.status.facts import (
    LOSS_SHOWN_S,
    SETTLE_S,
    credentials_of,
    delivery_facts,
    sink_facts,
    unresolved_references,
)
from tests.kit.sink.running_sinks import ToldSinks, ToldWorker, entry_of, exporter, sink

TOKEN = SecretRef("s")
PROGRAMMED_AT = 100.0
NOW = 1000.0


def verdict_of(worker: ToldWorker, now: float = NOW) -> tuple[str, str]:
    """Return status and reason of the worker's delivery."""
    sinks = ToldSinks()
    one = exporter()
    sinks.workers[one.id, "out"] = worker
    sinks.apply(one, PROGRAMMED_AT)
    found = verdicts(sinks, now)
    return found.sinks["out"]["Delivering"].status, found.sinks["out"]["Delivering"].reason


def verdicts(sinks: ToldSinks, now: float = NOW) -> ObjectVerdicts:
    """Return the verdicts of the only exporter."""
    running = next(iter(sinks.runs.values()))
    return assess(ObjectFacts(sink_facts(running.exporter, running, {}, now=now)))


def worker(*, success_at: float | None = None) -> ToldWorker:
    """Return a worker with points that wait."""
    told = ToldWorker("n/e", "out")
    told.waiting = 1
    if success_at is not None:
        told.outcomes.succeeded(success_at)
    return told


def test_a_success_counts_for_its_version_only() -> None:
    assert verdict_of(worker(success_at=150)) == ("True", "Delivering")
    assert verdict_of(worker(success_at=99)) == ("Unknown", "NoAnswer")


def test_points_of_an_older_version_are_no_match_of_this_one() -> None:
    told = worker()
    told.waiting, told.matched = 0, 7
    assert verdict_of(told) == ("Unknown", "NoData")


def test_a_first_failure_counts_at_once() -> None:
    told = worker()
    told.outcomes.failed("503", 200)
    assert verdict_of(told, now=200) == ("False", "Failing")
    told.outcomes.rejected("400", 201, in_part=False)
    assert verdict_of(told, now=201) == ("False", "Rejected")


def test_a_failure_after_a_success_counts_when_no_success_follows_it() -> None:
    told = worker(success_at=150)
    told.outcomes.failed("503", 200)
    assert verdict_of(told, now=200 + SETTLE_S / 2) == ("True", "Delivering")
    told.outcomes.failed("503", 204)
    assert verdict_of(told, now=200 + SETTLE_S) == ("False", "Failing")
    told.outcomes.succeeded(210)
    assert verdict_of(told, now=210) == ("True", "Delivering")


def test_a_failure_of_an_older_version_does_not_count() -> None:
    told = worker()
    told.outcomes.failed("503", 99)
    assert verdict_of(told) == ("Unknown", "NoAnswer")


def test_credentials_that_were_refused_before_the_version_hold_it_back() -> None:
    told = worker()
    told.outcomes.failed("401", 99, "unauthorized")
    told.held = "401"
    assert verdict_of(told) == ("False", "Failing")


@pytest.mark.parametrize("in_part", [False, True])
def test_a_loss_is_shown_for_a_while(in_part: bool) -> None:
    told = worker()
    told.outcomes.rejected("400: too old", 200, in_part=in_part)
    told.outcomes.succeeded(200)
    sinks = ToldSinks()
    one = exporter()
    sinks.workers[one.id, "out"] = told
    sinks.apply(one, PROGRAMMED_AT)
    shown = verdicts(sinks, 200 + LOSS_SHOWN_S - 1).sinks["out"]["Delivering"]
    assert shown.status == "True"
    assert "400: too old" in shown.message
    assert not verdicts(sinks, 201 + LOSS_SHOWN_S).sinks["out"]["Delivering"].message


def test_facts_that_time_alone_changes_are_marked() -> None:
    told = worker(success_at=150)
    entry = entry_of(told)
    assert not delivery_facts(entry, programmed_at=100, now=NOW).unsettled
    told.outcomes.failed("503", NOW)
    assert delivery_facts(entry, programmed_at=100, now=NOW).unsettled


def test_behind_and_paused() -> None:
    told = worker(success_at=150)
    told.behind = "9 points wait"
    assert verdict_of(told) == ("False", "Behind")
    sinks = ToldSinks()
    sinks.apply(exporter("e", sink(paused=True)), PROGRAMMED_AT)
    assert verdicts(sinks).sinks["out"]["Delivering"].reason == "Paused"


def test_refused_sinks_run_in_their_last_good_version_or_not() -> None:
    refused = tuple(RefusedSink(name, "InvalidSources", "x") for name in ("out", "new"))
    sinks = ToldSinks()
    sinks.apply(exporter(kind="ExportPolicy", refused=refused), PROGRAMMED_AT)
    found = verdicts(sinks)
    assert found.sinks["out"]["Programmed"].reason == "LastGoodRuns"
    assert found.sinks["new"]["Programmed"].reason == "NotAccepted"
    assert found.sinks["new"]["ResolvedRefs"].status == "True"
    assert found.conditions["Accepted"].message.startswith("0/2 sinks are accepted")


def test_a_sink_that_is_refused_for_its_secret_has_an_unresolved_reference() -> None:
    refused = (RefusedSink("new", "InvalidAuthentication", "no such secret"),)
    found = sink_facts(exporter(kind="ExportPolicy", refused=refused), None, {}, now=NOW)
    assert [one.message for one in found[-1].unresolved] == ["no such secret"]


def test_an_exporter_that_does_not_run_yet() -> None:
    found = sink_facts(exporter(), None, {}, now=NOW)
    programmed = assess(ObjectFacts(found)).conditions["Programmed"]
    assert (programmed.status, programmed.reason) == ("False", "Pending")


def test_references_are_looked_up_and_no_value_is_shown() -> None:
    tls = ClientTls(ca=SecretRef("ca"), certificate=SecretRef("c"))
    endpoint = OtlpHttp("https://h/v1/metrics", Authentication("bearerToken", TOKEN), tls=tls)
    one = exporter("e", sink(endpoint=endpoint))
    missing = unresolved_references(one, SecretStore())["out"]
    assert [each.reason for each in missing] == ["RefNotUsable"] * 2
    assert "secret n/s, key token" in missing[0].message
    secrets = SecretStore()
    secrets.add("", "n", "s", {"token": b"very secret\x00"})
    assert "very" not in unresolved_references(one, secrets)["out"][0].message
    secrets = SecretStore()
    secrets.add("", "n", "s", {"token": b"good"})
    secrets.add("", "n", "ca", {"ca.crt": b"PEM"})
    secrets.add("", "n", "c", {"tls.crt": b"PEM", "tls.key": b"PEM"})
    assert unresolved_references(one, secrets) == {}


@pytest.mark.parametrize(
    ("authentication", "words"),
    [
        (Authentication(), ""),
        (Authentication("bearerToken", TOKEN), "secret n/s, key token"),
        (Authentication("bearerToken", SecretRef("s", "k")), "secret n/s, key k"),
        (Authentication("apiKey", TOKEN, "X-Key"), "secret n/s, key apiKey"),
        (Authentication("basicAuth", TOKEN), "secret n/s, keys username and password"),
    ],
)
def test_credentials_in_words(authentication: Authentication, words: str) -> None:
    assert credentials_of(OtlpHttp("https://h", authentication), "n") == words


def test_deltas_that_a_sink_drops_are_told_for_a_while() -> None:
    for told, status, reason in (
        (worker(success_at=150), "True", "Delivering"),
        (ToldWorker("n/e", "out"), "Unknown", "NoData"),
    ):
        sinks = ToldSinks()
        one = exporter()
        sinks.workers[one.id, "out"] = told
        sinks.apply(one, PROGRAMMED_AT)
        (running,) = sinks.runs.values()
        counter = running.entries["out"].counter
        counter.deltas, counter.deltas_at = 1_234, NOW
        found = verdicts(sinks, NOW + LOSS_SHOWN_S).sinks["out"]["Delivering"]
        assert (found.status, found.reason) == (status, reason)
        assert "1,234 data points came as deltas" in found.message
        assert "(temporality)" in found.message
        assert (
            "deltas"
            not in verdicts(sinks, NOW + LOSS_SHOWN_S + 1).sinks["out"]["Delivering"].message
        )
