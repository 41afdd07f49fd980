"""What is told of a change of status, and that nothing is told twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.control.kubernetes.status_body import status_document
from relay.control.replicas.transitions import Happening, happenings
from relay.control.replicas.written_status import read_object_status
from relay.control.status.conditions import StatusCondition
from relay.control.status.object_status import LedgerCounts, ObjectStatus, SignalStatus, SinkStatus
from tests.kit.kubernetes.statuses import condition, object_status

NO_DATA = object_status("Unknown", "NoData", "nothing matches")
FIRST = object_status(last_success=10.0)
FAILING = object_status("False", "Failing", "503: it is tried again", last_success=10.0)


def told(before: ObjectStatus | None, after: ObjectStatus) -> list[tuple[str, str, str]]:
    return [(one.type, one.reason, one.message) for one in happenings(before, after)]


def with_condition(status: ObjectStatus, one: StatusCondition) -> ObjectStatus:
    return replace(
        status,
        conditions=tuple(one if old.type == one.type else old for old in status.conditions),
    )


def test_a_new_object_is_accepted_and_programmed() -> None:
    assert told(None, NO_DATA) == [
        ("Normal", "Accepted", "the object is valid"),
        ("Normal", "Programmed", "generation 1 runs"),
    ]


def test_nothing_happens_twice() -> None:
    for status in (NO_DATA, FIRST, FAILING):
        assert told(status, status) == []


@pytest.mark.parametrize("status", [NO_DATA, FIRST, FAILING])
def test_a_status_read_back_from_the_server_tells_nothing_again(status: ObjectStatus) -> None:
    assert told(read_object_status(status_document(status)), status) == []


def test_the_first_delivery() -> None:
    assert happenings(NO_DATA, FIRST) == (
        Happening("Normal", "Delivering", "out: data is delivered", "out"),
    )


def test_failing_and_recovered() -> None:
    assert told(FIRST, FAILING) == [("Warning", "Failing", "out: 503: it is tried again")]
    assert told(FAILING, FIRST) == [("Normal", "Recovered", "out: it delivers again")]


def test_recovered_after_an_edit() -> None:
    waiting = object_status("Unknown", "NoAnswer", generation=2, last_success=10.0)
    edited = (replace(waiting.sinks[0], last_error_at=12.0, last_error="503"),)
    waiting = replace(waiting, sinks=edited)
    assert told(FAILING, waiting) == [("Normal", "Programmed", "generation 2 runs")]
    done = object_status(generation=2, last_success=20.0)
    assert told(waiting, done) == [("Normal", "Recovered", "out: it delivers again")]


def edited_at(status: ObjectStatus, since: float) -> ObjectStatus:
    """The status with ``Delivering`` of its sink since then."""
    (sink,) = status.sinks
    conditions = (*sink.conditions[:3], replace(sink.conditions[3], since=since))
    return replace(status, sinks=(replace(sink, conditions=conditions),))


def test_an_edit_alone_recovers_nothing() -> None:
    waiting = object_status("Unknown", "NoAnswer", generation=2, last_success=10.0)
    done = object_status(generation=2, last_success=20.0)
    assert told(edited_at(waiting, 15.0), done) == []


@pytest.mark.parametrize("reason", ["NoData", "NoAnswer"])
def test_a_first_success_that_is_seen_before_its_condition(reason: str) -> None:
    seen = edited_at(object_status("Unknown", reason, last_success=10.0), 5.0)
    assert told(seen, FIRST) == [("Normal", "Delivering", "out: data is delivered")]


def test_another_message_is_no_event() -> None:
    assert told(FAILING, object_status("False", "Failing", "502", last_success=10.0)) == []


def test_rejected_after_failing_is_an_event() -> None:
    rejected = object_status("False", "Rejected", "400: bad label", last_success=10.0)
    assert told(FAILING, rejected) == [("Warning", "Rejected", "out: 400: bad label")]


def test_paused_and_resumed() -> None:
    paused = object_status("False", "Paused", "nothing is sent", last_success=10.0)
    assert told(FIRST, paused) == [("Normal", "Paused", "out: nothing is sent")]
    assert told(paused, FIRST) == [("Normal", "Resumed", "out: it delivers again")]


def test_a_relay_that_cannot_be_asked_is_no_event_of_its_objects() -> None:
    unknown = object_status("Unknown", "NoReport", "r1 cannot be asked", last_success=10.0)
    unknown = edited_at(unknown, 15.0)
    assert told(FIRST, unknown) == []
    assert told(unknown, FIRST) == []


def test_refused_and_accepted() -> None:
    refused = with_condition(FIRST, condition("Accepted", "False", "Invalid", "spec.x: no"))
    assert told(FIRST, refused) == [("Warning", "Invalid", "spec.x: no")]
    again = with_condition(
        FIRST, condition("Accepted", "False", "Invalid", "spec.y: no", generation=2)
    )
    assert told(refused, again) == [("Warning", "Invalid", "spec.y: no")]
    assert told(again, FIRST) == [("Normal", "Accepted", "the object is valid")]


def test_a_secret_that_is_missing_and_comes() -> None:
    missing = with_condition(
        FIRST, condition("ResolvedRefs", "False", "RefNotUsable", "secret token is missing")
    )
    assert told(FIRST, missing) == [("Warning", "RefNotUsable", "secret token is missing")]
    assert told(missing, FIRST) == [("Normal", "ResolvedRefs", "every reference is usable")]


def test_losses_are_told_with_their_number() -> None:
    before = object_status(ledger=LedgerCounts(9, 9, 0, 0, 0, 0), last_success=10.0)
    after = object_status(ledger=LedgerCounts(20, 9, 1, 2, 3, 5), last_success=10.0)
    assert told(before, after) == [
        ("Warning", "PointsRejected", "out: 1 points refused by the endpoint for good"),
        ("Warning", "PointsExpired", "out: 2 points too old before they could be delivered"),
        (
            "Warning",
            "PointsDropped",
            "out: 3 points dropped: see limits and the queue of the sink",
        ),
    ]
    assert told(after, before) == [], "a relay has restarted: its counters begin anew"


def test_losses_of_logs_are_told_in_records() -> None:
    before = object_status()
    logs = SignalStatus("logs", ledger=LedgerCounts(9, 5, 4))
    after = replace(before, sinks=(replace(before.sinks[0], signals=(logs,)),))
    said = "out: 4 log records refused by the endpoint for good"
    assert told(before, after) == [("Warning", "RecordsRejected", said)]
    assert told(after, after) == []


def test_a_sink_that_is_new_has_its_own_first_delivery() -> None:
    (old,) = FIRST.sinks
    new = SinkStatus("second", NO_DATA.sinks[0].conditions)
    waiting = replace(FIRST, sinks=(old, new))
    assert told(FIRST, waiting) == []
    both = replace(FIRST, sinks=(old, replace(old, name="second")))
    assert told(waiting, both) == [("Normal", "Delivering", "second: data is delivered")]
