"""Which Events are written when."""

from __future__ import annotations

import pytest

from relay.control.kubernetes.status_body import StatusParts
from relay.control.kubernetes.status_schedule import StatusSchedule
from relay.control.replicas import event_schedule
from relay.control.replicas.event_schedule import (
    ATTEMPTS_MAX,
    RETRY_S,
    SERIES_INTERVAL_S,
    EventSchedule,
)
from relay.control.replicas.transitions import Happening
from tests.kit.kubernetes.statuses import object_key

FAILING = Happening("Warning", "Failing", "out: 503", "out")
WEB = object_key("web")


def test_one_event_is_due_at_once() -> None:
    schedule = EventSchedule()
    assert schedule.next_at() is None
    schedule.add(WEB, "u1", FAILING, now=5, at=1000)
    assert schedule.next_at() == 5
    event = schedule.take(5)
    assert event is not None
    assert (event.series.key, event.series.uid, event.series.reason) == (WEB, "u1", "Failing")
    assert (event.message, event.count, event.first_at, event.last_at) == (
        "out: 503",
        1,
        1000,
        1000,
    )
    assert schedule.take(6) is None


def test_what_happens_again_soon_is_one_event_with_a_count() -> None:
    schedule = EventSchedule()
    schedule.add(WEB, "u1", FAILING, now=0, at=1000)
    assert schedule.take(0) is not None
    for second in range(1, 10):
        again = Happening("Warning", "Failing", f"out: 503 at {second}", "out")
        schedule.add(WEB, "u1", again, now=second, at=1000 + second)
        assert schedule.take(second) is None
    assert schedule.next_at() == SERIES_INTERVAL_S
    event = schedule.take(SERIES_INTERVAL_S)
    assert event is not None
    assert (event.message, event.count) == ("out: 503 at 9", 9)
    assert (event.first_at, event.last_at) == (1001, 1009)


def test_sinks_reasons_and_objects_are_series_of_their_own() -> None:
    schedule = EventSchedule()
    schedule.add(WEB, "u1", FAILING, now=0, at=0)
    schedule.add(WEB, "u1", Happening("Warning", "Failing", "b: 503", "b"), now=0, at=0)
    schedule.add(WEB, "u1", Happening("Normal", "Recovered", "out: ok", "out"), now=0, at=0)
    schedule.add(object_key("other"), "u2", FAILING, now=0, at=0)
    schedule.add(WEB, "u3", FAILING, now=0, at=0)
    assert schedule.statistics().waiting == 5
    taken = [schedule.take(0) for _ in range(5)]
    assert [one.series.uid for one in taken if one] == ["u1", "u1", "u1", "u2", "u3"]


def test_the_number_that_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_schedule, "PENDING_MAX", 3)
    schedule = EventSchedule()
    for number in range(5):
        schedule.add(object_key(f"e{number}"), "u", FAILING, now=0, at=0)
    assert (schedule.statistics().waiting, schedule.statistics().given_up) == (3, 2)
    event = schedule.take(0)
    assert event is not None
    assert event.series.key.name == "e2"


def test_a_failed_write_is_tried_again_a_few_times() -> None:
    schedule, now = EventSchedule(), 0.0
    schedule.add(WEB, "u1", FAILING, now=0, at=0)
    for attempt in range(ATTEMPTS_MAX):
        event = schedule.take(now)
        assert event is not None, attempt
        schedule.failed(event, now, retry_after_s=20.0 if attempt else 0.0)
        assert schedule.take(now + RETRY_S - 1) is None
        now += 20.0
    assert schedule.take(now) is None
    assert schedule.statistics().given_up == 1


def test_a_failed_write_is_added_to_what_has_happened_meanwhile() -> None:
    schedule = EventSchedule()
    schedule.add(WEB, "u1", FAILING, now=0, at=1000)
    event = schedule.take(0)
    assert event is not None
    schedule.add(WEB, "u1", Happening("Warning", "Failing", "newer", "out"), now=1, at=1001)
    schedule.failed(event, 2)
    again = schedule.take(2 + RETRY_S)
    assert again is not None
    assert (again.message, again.count, again.first_at, again.last_at) == ("newer", 2, 1000, 1001)


def test_events_share_the_budget_of_statuses_and_let_conditions_go_first() -> None:
    statuses = StatusSchedule[str](10)
    parts = StatusParts(b"c", b"m", b"e")
    assert statuses.spend(0.0) == 0.0
    assert statuses.spend(0.05) == pytest.approx(0.1)  # at least one write's room later
    statuses.offer("a", parts, 0.05)
    assert statuses.take(0.05) is None, "the Event has taken this room"
    assert statuses.spend(0.2) > 0.0, "a condition is due"
    assert statuses.take(0.2) == "a"
    statuses.written("a", parts, 0.2)
    assert statuses.spend(0.31) == 0.0
    statuses.offer("a", StatusParts(b"c", b"m", b"other counters"), 0.4)
    assert statuses.spend(700.0) == 0.0, "counters do not go first"


def test_looking_for_the_next_event_visits_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = EventSchedule()
    for number in range(event_schedule.PENDING_MAX):
        schedule.add(object_key(f"web{number}"), "u1", FAILING, now=number, at=1000)
    hashed = 0
    usual = event_schedule.EventSeries.__hash__

    def counted(series: event_schedule.EventSeries) -> int:
        nonlocal hashed
        hashed += 1
        return usual(series)

    monkeypatch.setattr(event_schedule.EventSeries, "__hash__", counted)
    for _ in range(100):
        assert schedule.next_at() == 0
    assert schedule.take(0) is not None
    assert hashed < 10


def test_what_is_given_up_is_not_due_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_schedule, "PENDING_MAX", 2)
    schedule = EventSchedule()
    for number in range(7):
        schedule.add(object_key(f"web{number}"), "u1", FAILING, now=number, at=1000)
    assert schedule.next_at() == 5
    taken = [schedule.take(10), schedule.take(10), schedule.take(10)]
    assert [one.series.key.name if one else None for one in taken] == ["web5", "web6", None]
    assert schedule.statistics().given_up == 5


def test_a_warning_is_given_up_for_no_other_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_schedule, "PENDING_MAX", 3)
    schedule = EventSchedule()
    accepted = Happening("Normal", "Accepted", "it is valid")
    schedule.add(WEB, "u1", FAILING, now=0, at=0)
    for number in range(5):
        schedule.add(object_key(f"n{number}"), "u", accepted, now=number, at=0)
    assert schedule.statistics().given_up == 3
    for number in range(3):
        schedule.add(object_key(f"w{number}"), "u", FAILING, now=9, at=0)
    schedule.add(object_key("late"), "u", accepted, now=9, at=0)
    assert schedule.statistics().given_up == 7
    taken = [schedule.take(10) for _ in range(4)]
    assert [one.series.key.name for one in taken if one is not None] == ["w0", "w1", "w2"]
