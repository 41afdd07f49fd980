"""Verdicts by the issue's words: one case for each reason, with a message that says what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.control.status.assess import (
    DeliveryFacts,
    ObjectFacts,
    Problem,
    SinkFacts,
    assess,
    assess_sink,
)
from relay.control.status.conditions import TYPES

GOOD = DeliveryFacts(matched=True, succeeded=True)
SINK = SinkFacts("otlp", delivery=GOOD, address="https://h:4318/v1/metrics")
BROKEN = GOOD._replace(failure="503 Service Unavailable")


@pytest.mark.parametrize(
    ("changes", "status", "reason", "says"),
    [
        ({}, "True", "Delivering", ""),
        ({"loss": "400: too old"}, "True", "Delivering", "lost: 400: too old"),
        ({"matched": False, "succeeded": False}, "Unknown", "NoData", "relay preview"),
        ({"succeeded": False}, "Unknown", "NoAnswer", "first answer"),
        ({"matched": False, "waits": True, "succeeded": False}, "Unknown", "NoAnswer", "answer"),
        ({"failure": "503"}, "False", "Failing", "503: it is tried again"),
        (
            {"failure": "cannot connect", "kind": "unreachable"},
            "False",
            "Failing",
            "cannot connect: check the address https://h:4318/v1/metrics",
        ),
        (
            {"failure": "logs: no route", "kind": "unreachable", "address": "https://h/v1/logs"},
            "False",
            "Failing",
            "no route: check the address https://h/v1/logs, and",
        ),
        (
            {"succeeded": False, "failure": "400: bad", "kind": "rejected"},
            "False",
            "Rejected",
            "it is lost; check the address https://h:4318/v1/metrics, what is sent, and",
        ),
        ({"failure": "503", "kind": "given up"}, "False", "Failing", "retry.maxAttempts"),
        (
            {"failure": "401", "kind": "unauthorized"},
            "False",
            "Failing",
            "401: it has no authentication",
        ),
        ({"behind": "90 points wait"}, "False", "Behind", "takes less than arrives"),
        ({"behind": "90 points wait", "failure": "503"}, "False", "Failing", "503"),
    ],
)
def test_a_sink_delivers(changes: dict, status: str, reason: str, says: str) -> None:
    found = assess_sink(replace(SINK, delivery=GOOD._replace(**changes)))["Delivering"]
    assert (found.status, found.reason) == (status, reason)
    assert says in found.message


@pytest.mark.parametrize(
    ("changes", "programmed", "delivering"),
    [
        ({}, ("True", "Programmed"), ("True", "Delivering")),
        ({"runs": False}, ("False", "Pending"), ("Unknown", "NotProgrammed")),
        ({"runs": False, "runs_old": True}, ("False", "LastGoodRuns"), ("True", "Delivering")),
        ({"paused": True}, ("True", "Programmed"), ("False", "Paused")),
        ({"delivery": None}, ("True", "Programmed"), ("Unknown", "NoReport")),
        (
            {"refused": Problem("InvalidAuthentication", "x"), "runs": False},
            ("False", "NotAccepted"),
            ("Unknown", "NotProgrammed"),
        ),
        (
            {"refused": Problem("InvalidAuthentication", "x"), "runs": False, "runs_old": True},
            ("False", "LastGoodRuns"),
            ("True", "Delivering"),
        ),
    ],
)
def test_a_sink_runs(
    changes: dict, programmed: tuple[str, str], delivering: tuple[str, str]
) -> None:
    found = assess_sink(replace(SINK, **changes))
    assert tuple(found) == TYPES
    assert (found["Programmed"].status, found["Programmed"].reason) == programmed
    assert (found["Delivering"].status, found["Delivering"].reason) == delivering


def test_references() -> None:
    missing = Problem("RefNotUsable", "secret n/s, key token: there is no such secret")
    found = assess(ObjectFacts((replace(SINK, unresolved=(missing,)), replace(SINK, name="b"))))
    assert found.sinks["otlp"]["ResolvedRefs"].message == missing.message
    whole = found.conditions["ResolvedRefs"]
    assert (whole.status, whole.reason) == ("False", "RefNotUsable")
    assert whole.message == f"1 of 2 sinks: otlp: {missing.message}"


def test_refused_credentials_name_the_secret() -> None:
    sink = replace(
        SINK,
        delivery=GOOD._replace(failure="401 Unauthorized", kind="unauthorized"),
        credentials="secret n/s, key token",
    )
    message = assess_sink(sink)["Delivering"].message
    assert message.startswith("401 Unauthorized: check secret n/s, key token; nothing is sent")


def test_a_forbidden_address_says_what_is_allowed() -> None:
    delivery = GOOD._replace(failure="the endpoint's address is not allowed here", kind="forbidden")
    message = assess_sink(replace(SINK, delivery=delivery))["Delivering"].message
    assert message.startswith(
        "the endpoint's address is not allowed here: use an endpoint with a public address, or ask "
        "the operator to allow this one; it is tried again"
    )


def test_a_paused_sink_is_not_said_to_deliver() -> None:
    found = assess(ObjectFacts((SINK, replace(SINK, name="b", paused=True))))
    whole = found.conditions["Delivering"]
    assert (whole.status, whole.message) == ("True", "every sink delivers, but for 1 paused")
    assert found.sinks["b"]["Delivering"].message.endswith("set it to false to go on")


def test_the_only_sink_is_named_without_counting() -> None:
    found = assess(ObjectFacts((replace(SINK, delivery=BROKEN),))).conditions["Delivering"]
    assert found.message.startswith("otlp: 503 Service Unavailable: it is tried again")


def test_what_does_not_run_says_why_where_delivery_is_looked_for() -> None:
    missing = Problem("RefNotUsable", "there is no such secret")
    refused = Problem("Invalid", "spec.sinks: is missing")
    for facts, cause in (
        (ObjectFacts((), unresolved=(missing,)), missing),
        (ObjectFacts((), refused=refused), refused),
    ):
        found = assess(facts).conditions["Delivering"]
        assert found.message == f"it does not run: {cause.message}"
    bad = assess_sink(replace(SINK, refused=refused, runs=False))["Delivering"]
    assert bad.message == "it does not run: spec.sinks: is missing"
    soon = assess_sink(replace(SINK, runs=False))["Delivering"]
    assert soon.message == "it is being put into service"


def test_an_object_that_lacks_a_secret_is_accepted_and_does_not_run() -> None:
    missing = Problem("RefNotUsable", "secret n/s, key token: there is no such secret")
    found = assess(ObjectFacts((), unresolved=(missing,))).conditions
    assert found["Accepted"].status == "True"
    assert (found["ResolvedRefs"].reason, found["ResolvedRefs"].message) == (
        "RefNotUsable",
        missing.message,
    )
    assert (found["Programmed"].status, found["Programmed"].reason) == ("False", "NotResolved")
    assert found["Delivering"].status == "Unknown"
    old = replace(SINK, runs=False, runs_old=True)
    found = assess(ObjectFacts((old,), unresolved=(missing,))).conditions
    assert found["Programmed"].reason == "LastGoodRuns"


def test_an_invalid_object_and_a_conflict() -> None:
    for reason in ("Invalid", "Conflict"):
        found = assess(ObjectFacts((), refused=Problem(reason, "spec.sinks: is missing")))
        assert found.conditions["Accepted"].reason == reason
        assert found.conditions["Programmed"].reason == "NotAccepted"
        assert found.conditions["Delivering"].status == "Unknown"


def test_the_last_good_version_of_an_invalid_object_is_judged() -> None:
    found = assess(ObjectFacts((SINK,), refused=Problem("Invalid", "x")))
    assert found.conditions["Programmed"].reason == "LastGoodRuns"
    assert found.conditions["Delivering"].status == "True"


def test_refused_sinks_are_counted_and_named() -> None:
    bad = SinkFacts("bad", refused=Problem("InvalidSources", "no source x"), runs=False)
    found = assess(ObjectFacts((SINK, bad), warnings=("w",))).conditions["Accepted"]
    assert found.reason == "SinksNotAccepted"
    assert found.message == "1/2 sinks are accepted; bad: no source x"
    assert assess(ObjectFacts((SINK,), warnings=("w",))).conditions["Accepted"].message == "w"


def test_a_message_names_a_few_sinks() -> None:
    sinks = tuple(SinkFacts(f"s{number}", delivery=BROKEN) for number in range(10))
    message = assess(ObjectFacts(sinks)).conditions["Delivering"].message
    assert message.startswith("10 of 10 sinks: s0: 503 Service Unavailable: it is tried again")
    assert message.endswith("; and 7 more")
