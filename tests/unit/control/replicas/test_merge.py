"""One status from several relays: the words, and the cases that rules alone do not show."""

from __future__ import annotations

from dataclasses import replace

from relay.control.replicas.merge import RelayReading, merged
from relay.control.status.conditions import StatusCondition
from relay.control.status.object_status import LedgerCounts, ObjectStatus, SignalStatus, SinkStatus
from tests.kit.kubernetes.statuses import condition, conditions, object_status

OK = object_status()
NO_DATA = object_status("Unknown", "NoData", "nothing matches")


def delivering(status: ObjectStatus) -> tuple[StatusCondition, StatusCondition]:
    """``Delivering`` of the object and of its sink."""
    (sink,) = status.sinks
    return status.conditions[3], sink.conditions[3]


def test_relays_that_agree_say_it_once() -> None:
    failing = object_status("False", "Failing", "503: it is tried again")
    found = merged(
        [RelayReading("r0", failing), RelayReading("r1", failing)], None, at=9, waits=True
    )
    for one in delivering(found):
        assert (one.status, one.reason, one.message) == (
            "False",
            "Failing",
            "503: it is tried again",
        )
    assert found.relays == "2 of 2"


def test_the_relay_that_fails_is_named() -> None:
    failing = object_status("False", "Failing", "503: it is tried again")
    readings = [RelayReading("r0", OK), RelayReading("r1", failing), RelayReading("r2", NO_DATA)]
    of_object, of_sink = delivering(merged(readings, None, at=9, waits=True))
    assert of_sink.message == "1 of 3 relays: r1: 503: it is tried again"
    assert of_object.message == "out: 1 of 3 relays: r1: 503: it is tried again"
    assert (of_object.status, of_object.reason) == ("False", "Failing")


def test_a_relay_that_matches_nothing_does_not_spoil_the_others() -> None:
    of_object, of_sink = delivering(
        merged([RelayReading("r0", NO_DATA), RelayReading("r1", OK)], None, at=9, waits=True)
    )
    assert of_sink.status == of_object.status == "True"


def test_sinks_that_deliver_at_different_relays_make_one_object_that_delivers() -> None:
    def two(first: str, second: str) -> ObjectStatus:
        of = {"ok": condition(), "no": condition("Delivering", "Unknown", "NoData")}
        sinks = (
            SinkStatus("a", conditions(of[first])),
            SinkStatus("b", conditions(of[second])),
        )
        message = f"1 of 2 sinks: {'b' if second == 'no' else 'a'}: NoData"
        spoiled = condition("Delivering", "Unknown", "NoData", message)
        return ObjectStatus(conditions(spoiled), sinks)

    readings = [RelayReading("r0", two("ok", "no")), RelayReading("r1", two("no", "ok"))]
    found = merged(readings, None, at=9, waits=True)
    assert found.conditions[3].status == "True"
    assert found.conditions[3].message == "every sink delivers"


def test_a_relay_that_cannot_be_asked() -> None:
    readings = [
        RelayReading("r0", OK),
        RelayReading("r1", OK),
        RelayReading("r2", None, "no connection: Connection refused"),
    ]
    found = merged(readings, OK, at=9, waits=True)
    of_object, of_sink = delivering(found)
    assert found.relays == "2 of 3"
    assert (of_sink.status, of_sink.reason, of_sink.since) == ("Unknown", "NoReport", 9)
    assert of_sink.message == (
        "r2 cannot be asked: no connection: Connection refused; what it delivers is not known: "
        "if this stays, tell the operator of the relays"
    )
    assert (of_object.status, of_object.reason) == ("Unknown", "NoReport")
    for one in found.conditions[:3]:  # what the others can tell is told
        assert one.status == "True"


def test_a_failure_is_told_even_if_a_relay_cannot_be_asked() -> None:
    failing = object_status("False", "Failing", "503")
    readings = [RelayReading("r0", failing), RelayReading("r1", None, "its Lease has expired")]
    assert merged(readings, OK, at=9, waits=True).conditions[3].status == "False"


def test_a_new_version_is_programmed_when_every_relay_has_it() -> None:
    new, old = object_status(generation=2), object_status(generation=1)
    readings = [RelayReading("r0", new), RelayReading("r1", old)]
    found = merged(readings, old, at=9, waits=True)
    accepted, _, programmed, _ = found.conditions
    assert accepted.observed_generation == 2
    assert (programmed.status, programmed.observed_generation) == ("True", 1)
    late = merged(readings, found, at=20, waits=False).conditions[2]
    assert (late.status, late.reason, late.observed_generation) == ("False", "Pending", 2)
    assert late.message == "r1 of 2 relays run an older version or none"
    whole = merged([readings[0], RelayReading("r1", new)], found, at=21, waits=False)
    assert (whole.conditions[2].status, whole.conditions[2].observed_generation) == ("True", 2)
    assert whole.conditions[2].since == 1.0


def test_an_object_that_a_relay_has_never_seen_is_not_programmed() -> None:
    readings = [RelayReading("r0", OK), RelayReading("r1", None)]
    found = merged(readings, None, at=9, waits=True)
    assert (found.conditions[2].status, found.conditions[2].reason) == ("False", "Pending")
    assert delivering(found)[1].reason == "NotProgrammed"
    again = merged(readings, OK, at=9, waits=True)  # it ran everywhere: the relay has restarted
    assert again.conditions[2].status == "True"


def test_paused_everywhere_is_paused() -> None:
    paused = object_status("False", "Paused", "spec.sinks[].paused is true")
    found = merged([RelayReading("r0", paused), RelayReading("r1", paused)], None, at=9, waits=True)
    assert (found.conditions[3].status, found.conditions[3].reason) == ("False", "Paused")


def test_a_paused_sink_is_left_out_of_the_object() -> None:
    paused = condition("Delivering", "False", "Paused")
    sinks = (SinkStatus("a", conditions(condition())), SinkStatus("b", conditions(paused)))
    one = ObjectStatus(conditions(condition(message="x")), sinks)
    other = replace(one, conditions=conditions(condition(message="y")))
    found = merged([RelayReading("r0", one), RelayReading("r1", other)], None, at=9, waits=True)
    assert found.conditions[3].status == "True"


def test_ledgers_are_added_and_times_are_the_latest() -> None:
    first = object_status(ledger=LedgerCounts(10, 7, 1, 0, 0, 2), last_success=50.0)
    sink = replace(first.sinks[0], last_error_at=40.0, last_error="503")
    first = replace(first, sinks=(sink,))
    second = object_status(ledger=LedgerCounts(5, 5, 0, 0, 0, 0), last_success=60.0)
    found = merged([RelayReading("r0", first), RelayReading("r1", second)], None, at=9, waits=True)
    (sink,) = found.sinks
    assert sink.ledger == LedgerCounts(15, 12, 1, 0, 0, 2)
    assert (sink.last_success, sink.last_error_at, sink.last_error) == (60.0, 40.0, "503")


def test_signals_are_added_each_by_itself() -> None:
    first, second = object_status(last_success=50.0), object_status()
    logs = SignalStatus("logs", 40.0, 30.0, "503", LedgerCounts(4, 4))
    traces = SignalStatus("traces", ledger=LedgerCounts(1, 1))
    first = replace(first, sinks=(replace(first.sinks[0], signals=(logs,)),))
    second = replace(second, sinks=(replace(second.sinks[0], signals=(logs, traces)),))
    found = merged([RelayReading("r0", first), RelayReading("r1", second)], None, at=9, waits=True)
    (sink,) = found.sinks
    assert sink.signals == (replace(logs, ledger=LedgerCounts(8, 8)), traces)


def test_a_condition_that_only_one_relay_has_is_kept() -> None:
    extra = condition("Ready", "False", "SinksNotAccepted", "1/2 sinks")
    one = replace(OK, conditions=(*OK.conditions, extra))
    found = merged([RelayReading("r0", one), RelayReading("r1", OK)], None, at=9, waits=True)
    assert found.conditions[4] == extra


def test_a_sink_that_the_newest_version_has_no_more_is_not_shown() -> None:
    new = object_status(generation=2)
    old = object_status(generation=1)
    gone = SinkStatus("gone", conditions(condition()))
    old = replace(old, sinks=(*old.sinks, gone))
    found = merged([RelayReading("r0", new), RelayReading("r1", old)], None, at=9, waits=True)
    assert [sink.name for sink in found.sinks] == ["out"]


def test_a_message_over_many_relays_is_shortened() -> None:
    readings = [RelayReading("r0", OK)]
    for number in range(1, 7):
        failing = object_status("False", "Failing", f"503 of {number}")
        readings.append(RelayReading(f"r{number}", failing))
    message = delivering(merged(readings, None, at=9, waits=True))[1].message
    assert message == ("6 of 7 relays: r1: 503 of 1; r2: 503 of 2; r3: 503 of 3; and 3 more")
