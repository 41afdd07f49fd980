"""When a status is written: conditions first, the rest with patience."""

from __future__ import annotations

from relay.control.kubernetes.status_body import StatusParts
from relay.control.kubernetes.status_schedule import (
    COUNTERS_INTERVAL_S,
    MESSAGE_INTERVAL_S,
    RETRY_S_MAX,
    StatusSchedule,
)


def parts(conditions: str = "c", messages: str = "m", counters: str = "0") -> StatusParts:
    return StatusParts(
        conditions.encode(), messages.encode(), f"{conditions}{messages}{counters}".encode()
    )


def schedule() -> StatusSchedule[str]:
    return StatusSchedule(20)


def write(one: StatusSchedule[str], wanted: StatusParts, now: float) -> None:
    one.offer("a", wanted, now)
    assert one.take(now) == "a"
    one.written("a", wanted, now)


def test_a_first_status_is_written_at_once_and_once() -> None:
    one = schedule()
    assert one.take(0) is one.next_at(0) is None
    write(one, parts(), 0)
    assert one.take(10) is one.next_at(10) is None


def test_messages_and_counters_wait() -> None:
    one = schedule()
    one.known("a", parts(), 0)
    one.offer("a", parts(counters="1"), 5)
    assert one.next_at(5) == COUNTERS_INTERVAL_S
    one.offer("a", parts(messages="n"), 6)
    assert one.next_at(6) == MESSAGE_INTERVAL_S
    assert one.take(MESSAGE_INTERVAL_S - 0.1) is None
    assert one.take(MESSAGE_INTERVAL_S) == "a"


def test_the_first_counters_after_a_condition_come_a_minute_later_and_others_as_ever() -> None:
    one = schedule()
    write(one, parts(), 0)
    one.offer("a", parts(counters="1"), 5)
    assert one.next_at(5) == MESSAGE_INTERVAL_S
    write(one, parts(counters="1"), MESSAGE_INTERVAL_S)
    one.offer("a", parts(counters="2"), 70)
    assert one.next_at(70) == MESSAGE_INTERVAL_S + COUNTERS_INTERVAL_S
    write(one, parts("d", counters="3"), 80)
    one.offer("a", parts("d", counters="4"), 81)
    assert one.next_at(81) == 80 + MESSAGE_INTERVAL_S


def test_a_condition_takes_the_counters_along() -> None:
    one = schedule()
    write(one, parts(), 0)
    one.offer("a", parts(counters="1"), 5)
    write(one, parts("d", counters="1"), 6)
    assert one.next_at(6) is None


def test_what_is_over_is_not_written() -> None:
    one = schedule()
    write(one, parts(), 0)
    one.offer("a", parts("d"), 1)
    one.offer("a", parts(), 1)
    assert one.take(2) is None
    assert one.statistics().waiting == 0


def test_conditions_come_before_counters_and_the_oldest_first() -> None:
    one = schedule()
    for key in "abc":
        one.known(key, parts(), 0)
    later = COUNTERS_INTERVAL_S
    one.offer("a", parts(counters="1"), 0)
    one.offer("c", parts("d"), later)
    one.offer("b", parts("d"), later + 0.1)
    taken = [one.take(later + 1 + number) for number in range(4)]
    assert taken == ["c", "b", "a", None]


def test_what_the_server_has_is_not_written_again() -> None:
    one = schedule()
    one.known("a", parts(), 0)
    one.offer("a", parts(), 0)
    assert one.next_at(0) is None


def test_a_change_while_it_is_written_is_written_next() -> None:
    one = schedule()
    one.offer("a", parts("1"), 0)
    assert one.take(0) == "a"
    one.offer("a", parts("2"), 0.01)
    assert one.take(1) is None
    one.written("a", parts("1"), 1)
    assert one.take(1) == "a"


def test_a_failure_waits_longer_each_time_and_costs_no_other() -> None:
    one = schedule()
    one.offer("a", parts(), 0)
    now, pauses = 0.0, []
    for _ in range(9):
        assert one.take(now) == "a"
        one.failed("a", now)
        at = one.next_at(now)
        assert at is not None
        pauses.append(at - now)
        one.offer("b", parts(str(now)), now)
        assert one.take(now + 0.1) == "b"
        one.written("b", parts(str(now)), now + 0.1)
        now = at
    assert pauses[:4] == [1, 2, 4, 8]
    assert pauses[-1] == RETRY_S_MAX
    one.take(now)
    one.failed("a", now, retry_after_s=1000)
    assert one.next_at(now) == now + 1000


def test_one_that_is_put_off_leaves_its_room_to_others() -> None:
    one = schedule()
    one.offer("a", parts(), 0)
    one.offer("b", parts(), 0)
    assert one.take(0) == "a"
    one.put_off("a", 5, 0)
    assert one.take(0) == "b"
    one.written("b", parts(), 0)
    assert one.next_at(4) == 5
    assert one.take(4.9) is None
    assert one.take(5) == "a"
    one.forget("a")
    one.put_off("a", 9, 5)


def test_an_object_that_is_gone_is_not_written() -> None:
    one = schedule()
    one.offer("a", parts(), 0)
    one.forget("a")
    assert one.take(0) is one.next_at(0) is None
    one.written("a", parts(), 0)
    one.failed("a", 0)
    assert one.statistics().objects == 0
