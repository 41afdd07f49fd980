"""The rules of merging, stated a second time, for the statuses of any relays."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from relay.control.replicas.merge import RelayReading, generation_of, is_behind, merged
from relay.control.status.conditions import TYPES, StatusCondition
from relay.control.status.object_status import ObjectStatus
from tests.kit.examples import examples
from tests.kit.kubernetes.statuses import condition, conditions, object_statuses

AT = 1000.0


@st.composite
def readings(draw: st.DrawFn, *, generations: int = 2) -> list[RelayReading]:
    """Draw what up to four relays say, this one's status always among it."""
    found = [RelayReading("r0", draw(object_statuses(generations=generations)))]
    for number in range(1, draw(st.integers(1, 4))):
        name = f"r{number}"
        kind = draw(st.integers(0, 4))
        if kind == 0:
            found.append(RelayReading(name, None, "no connection: refused"))
        elif kind == 1:
            found.append(RelayReading(name, None))
        else:
            found.append(RelayReading(name, draw(object_statuses(generations=generations))))
    return found


def of_type(found: tuple[StatusCondition, ...], name: str) -> StatusCondition:
    return next(one for one in found if one.type == name)


def statuses(given_readings: list[RelayReading]) -> list[ObjectStatus]:
    return [one.status for one in given_readings if one.status is not None]


@given(object_statuses())
@examples(50)
def test_one_relay_alone_is_shown_as_it_is(status: ObjectStatus) -> None:
    assert merged([RelayReading("r0", status)], None, at=AT, waits=True) is status


@given(readings(), st.randoms(use_true_random=False), st.booleans())
@examples(100)
def test_the_order_of_relays_does_not_matter(
    given_readings: list[RelayReading], random: object, waits: bool
) -> None:
    shuffled = list(given_readings)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert merged(shuffled, None, at=AT, waits=waits) == merged(
        given_readings, None, at=AT, waits=waits
    )


@given(readings(), st.booleans())
@examples(120)
def test_nothing_flaps(given_readings: list[RelayReading], waits: bool) -> None:
    """Judged again, everything is as it was, times of transitions included."""
    first = merged(given_readings, None, at=AT, waits=waits)
    second = merged(given_readings, first, at=AT + 1, waits=waits)
    third = merged(given_readings, second, at=AT + 2, waits=waits)
    assert third == second
    if len(given_readings) > 1 and not waits:
        assert second == first


@given(readings(), readings())
@examples(120)
def test_a_transition_has_a_time_and_nothing_else_has(
    before: list[RelayReading], after: list[RelayReading]
) -> None:
    old = merged(before, None, at=AT, waits=False)
    after = after if len(after) > 1 else [*after, RelayReading("r9", None, "gone")]
    new = merged(after, old, at=AT + 5, waits=False)
    for name in TYPES:
        was, now = of_type(old.conditions, name), of_type(new.conditions, name)
        assert now.since == (was.since if was.status == now.status else AT + 5)


@given(readings(generations=1))
@examples(120)
def test_sums_are_sums(given_readings: list[RelayReading]) -> None:
    found = merged(given_readings, None, at=AT, waits=False)
    known = statuses(given_readings)
    for field in ("active_series", "samples_per_minute", "bytes_per_minute", "resent_per_minute"):
        total = sum(getattr(one.usage, field) for one in known if one.usage is not None)
        assert (getattr(found.usage, field) if found.usage else 0) == total
    for sink in found.sinks:
        of = [one for status in known for one in status.sinks if one.name == sink.name]
        for field in ("matched", "delivered", "rejected", "expired", "dropped", "queued"):
            total = sum(getattr(one.ledger, field) for one in of if one.ledger is not None)
            assert (getattr(sink.ledger, field) if sink.ledger else 0) == total
        assert sink.last_success == max(
            (one.last_success for one in of if one.last_success is not None), default=None
        )
        assert sink.last_error_at == max(
            (one.last_error_at for one in of if one.last_error_at is not None), default=None
        )
    assert {sink.name for sink in found.sinks} == {
        sink.name for status in known for sink in status.sinks
    }


@given(readings(), st.booleans())
@examples(120)
def test_delivering_of_a_sink(given_readings: list[RelayReading], waits: bool) -> None:
    if len(given_readings) == 1:
        return
    found = merged(given_readings, None, at=AT, waits=waits)
    unreached = any(one.why for one in given_readings)
    for sink in found.sinks:
        of = [
            of_type(one.conditions, "Delivering")
            for status in statuses(given_readings)
            for one in status.sinks
            if one.name == sink.name
        ]
        shown = of_type(sink.conditions, "Delivering")
        counting = [one.status for one in of if one.reason != "NoData"] or [
            one.status for one in of
        ]
        if "False" in counting:
            assert shown.status == "False"
        elif unreached:
            assert (shown.status, shown.reason) == ("Unknown", "NoReport")
        elif "Unknown" in counting:
            assert shown.status == "Unknown"
        elif len(of) == len(given_readings):
            assert shown.status == "True"


@given(readings(generations=1), object_statuses(generations=1))
@examples(100)
def test_a_relay_without_data_spoils_no_other(
    given_readings: list[RelayReading], idle: ObjectStatus
) -> None:
    if len(given_readings) == 1:
        given_readings = [*given_readings, replace(given_readings[0], relay="r8")]
    before = merged(given_readings, None, at=AT, waits=False)
    nothing = conditions(condition("Delivering", "Unknown", "NoData"))
    idle_sinks = tuple(replace(sink, conditions=nothing) for sink in before.sinks)
    quiet = replace(idle, conditions=before.conditions, sinks=idle_sinks)
    after = merged([*given_readings, RelayReading("r9", quiet)], None, at=AT, waits=False)
    for was, now in zip(before.sinks, after.sinks, strict=True):
        old, new = (of_type(one.conditions, "Delivering") for one in (was, now))
        assert (old.status, old.reason) == (new.status, new.reason)


@given(readings(), st.booleans())
@examples(120)
def test_programmed_only_when_all_have_it(given_readings: list[RelayReading], waits: bool) -> None:
    if len(given_readings) == 1:
        return
    found = merged(given_readings, None, at=AT, waits=waits)
    shown = of_type(found.conditions, "Programmed")
    answered = [one for one in given_readings if not one.why]
    newest = max(generation_of(one) for one in statuses(given_readings))
    if is_behind(answered):
        assert shown.status == "False"
    if shown.status == "True":
        assert shown.observed_generation == newest
        assert all(
            of_type(one.conditions, "Programmed").status == "True"
            for one in statuses(given_readings)
        )
    assert found.relays == f"{len(answered)} of {len(given_readings)}"
