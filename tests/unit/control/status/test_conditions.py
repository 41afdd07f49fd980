"""Conditions over time: what keeps its time, and what is never taken away."""

from __future__ import annotations

from relay.control.status.conditions import (
    MESSAGE_CHARS_MAX,
    TYPES,
    ConditionVerdict,
    StatusCondition,
    updated,
)

YES = ConditionVerdict("True", "Good")
NO = ConditionVerdict("False", "Bad", "why")


def test_a_first_judgement_has_every_type() -> None:
    found = updated((), {"Accepted": YES}, generation=3, at=10)
    assert tuple(one.type for one in found) == TYPES
    assert found[0] == StatusCondition("Accepted", "True", "Good", "", 3, 10)
    assert {one.status for one in found[1:]} == {"Unknown"}
    assert {one.reason for one in found[1:]} == {"NotEvaluated"}


def test_the_time_is_of_the_status_alone() -> None:
    before = updated((), {"Accepted": NO}, generation=1, at=10)
    other = ConditionVerdict("False", "Worse", "another why")
    same = updated(before, {"Accepted": other}, generation=2, at=20)[0]
    assert (same.since, same.observed_generation, same.reason) == (10, 2, "Worse")
    changed = updated((same,), {"Accepted": YES}, generation=2, at=30)[0]
    assert (changed.since, changed.status) == (30, "True")


def test_a_type_of_its_own_is_kept_and_becomes_unknown() -> None:
    before = updated((), {"Ready": YES}, generation=1, at=10)
    after = {one.type: one for one in updated(before, {}, generation=2, at=20)}
    assert (after["Ready"].status, after["Ready"].since) == ("Unknown", 20)


def test_messages_are_bounded() -> None:
    long = ConditionVerdict("False", "Bad", "x" * 5000)
    (first, *_) = updated((), {"Accepted": long}, generation=1, at=0)
    assert len(first.message) == MESSAGE_CHARS_MAX
    assert first.message.endswith("…")


def test_equal_conditions_of_several_objects_are_one() -> None:
    verdicts = {"Accepted": ConditionVerdict("True", "Accepted", f"{'good'}: all")}
    one, two = (updated((), dict(verdicts), generation=1, at=5.0) for _ in range(2))
    assert [a is b for a, b in zip(one, two, strict=True)] == [True] * len(one)
    (later, *_) = updated((), verdicts, generation=1, at=6.0)
    assert later != one[0]
