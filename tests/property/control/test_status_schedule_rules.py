"""The schedule's promises for any history of changes, failures and time."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relay.control.kubernetes.status_body import StatusParts
from relay.control.kubernetes.status_schedule import (
    COUNTERS_INTERVAL_S,
    MESSAGE_INTERVAL_S,
    StatusSchedule,
)
from tests.kit.examples import examples

RATE = 20
KEYS = 30


def parts(conditions: int, messages: int, counters: int) -> StatusParts:
    return StatusParts(
        b"%d" % conditions, b"%d" % messages, b"%d %d %d" % (conditions, messages, counters)
    )


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["condition", "message", "counter", "forget", "wait", "long wait"]),
        st.integers(0, 4),
        st.booleans(),
    ),
    max_size=60,
)


@given(ACTIONS)
@examples(300)
def test_rates_order_and_the_end(actions: list[tuple[str, int, bool]]) -> None:
    """Writes take no time; every third one fails where the action says so."""
    schedule: StatusSchedule[int] = StatusSchedule(RATE)
    wanted: dict[int, list[int]] = {}
    written: dict[int, tuple[StatusParts, float]] = {}
    new: set[int] = set()
    """Of which nothing was written since their conditions."""
    times: list[float] = []
    now = 0.0

    def work(until: float, *, fails: bool) -> None:
        nonlocal now
        while (at := schedule.next_at(now)) is not None and at <= until:
            now = max(now, at)
            key = schedule.take(now)
            assert key is not None, "next_at promised one"
            times.append(now)
            present = parts(*wanted[key])
            if key in written:
                before, since = written[key]
                assert before != present, "nothing is written twice"
                if before.conditions == present.conditions:
                    patience = MESSAGE_INTERVAL_S
                    if before.messages == present.messages and key not in new:
                        patience = COUNTERS_INTERVAL_S
                    assert now >= since + patience
                    waiting = [
                        other
                        for other, value in wanted.items()
                        if other != key
                        and other in written
                        and written[other][0].conditions != parts(*value).conditions
                    ]
                    assert failed_once or not waiting, "conditions come first"
            if fails and len(times) % 3 == 0:
                schedule.failed(key, now)
            else:
                schedule.written(key, present, now)
                if key in written and written[key][0].conditions == present.conditions:
                    new.discard(key)
                else:
                    new.add(key)
                written[key] = (present, now)
        now = max(now, until)

    failed_once = False
    for action, key, fails in actions:
        failed_once = failed_once or fails
        if action == "forget":
            schedule.forget(key)
            wanted.pop(key, None)
            written.pop(key, None)
        elif action == "wait":
            work(now + 0.03, fails=failed_once)
        elif action == "long wait":
            work(now + 70, fails=failed_once)
        else:
            value = wanted.setdefault(key, [0, 0, 0])
            value[["condition", "message", "counter"].index(action)] += 1
            schedule.offer(key, parts(*value), now)
    work(now + 2 * COUNTERS_INTERVAL_S, fails=False)
    assert {key: one for key, (one, _) in written.items()} == {
        key: parts(*value) for key, value in wanted.items()
    }
    for before, after in pairwise(times):
        assert after - before >= 1 / RATE - 1e-9


@given(
    st.lists(st.tuples(st.integers(0, KEYS - 1), st.floats(0, 0.05)), min_size=1, max_size=120),
    st.integers(1, 4),
)
@examples(100)
def test_a_changed_condition_is_written_within_two_seconds(
    changes: list[tuple[int, float]], churn: int
) -> None:
    """At most 19 conditions change in a second, while all counters change all the time."""
    schedule: StatusSchedule[int] = StatusSchedule(RATE)
    state = {key: [0, 0, 0] for key in range(KEYS)}
    for key in state:
        schedule.known(key, parts(0, 0, 0), -COUNTERS_INTERVAL_S)
    since: dict[int, float] = {}
    now = 0.0
    for number, (key, more_s) in enumerate(changes):
        until = now + 1 / 19 + more_s
        for other in range(number % churn, KEYS, churn):
            state[other][2] += 1
            schedule.offer(other, parts(*state[other]), now)
        state[key][0] += 1
        schedule.offer(key, parts(*state[key]), now)
        since.setdefault(key, now)
        while (at := schedule.next_at(now)) is not None and at <= until:
            now = max(now, at)
            taken = schedule.take(now)
            assert taken is not None
            schedule.written(taken, parts(*state[taken]), now)
            assert now - since.pop(taken, now) <= 2
        now = until
        assert all(now - at <= 2 for at in since.values())
