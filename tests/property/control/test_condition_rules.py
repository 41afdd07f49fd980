"""The rules of aggregation, stated a second time, for any facts."""

from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from relay.control.status.assess import DeliveryFacts, ObjectFacts, Problem, SinkFacts, assess
from relay.control.status.conditions import TYPES, ConditionVerdict, updated
from relay.sink.steps import FailureKind
from tests.kit.examples import examples

PROBLEMS = st.none() | st.just(Problem("Invalid", "it is bad"))
DELIVERIES = st.builds(
    DeliveryFacts,
    matched=st.booleans(),
    waits=st.booleans(),
    succeeded=st.booleans(),
    failure=st.sampled_from(["", "503"]),
    kind=st.sampled_from(get_args(FailureKind)),
    loss=st.sampled_from(["", "400"]),
    behind=st.sampled_from(["", "slow"]),
)
SINKS = st.builds(
    SinkFacts,
    name=st.sampled_from("abcdef"),
    refused=PROBLEMS,
    unresolved=st.lists(st.just(Problem("RefNotUsable", "no secret")), max_size=2).map(tuple),
    runs=st.booleans(),
    runs_old=st.booleans(),
    paused=st.booleans(),
    delivery=st.none() | DELIVERIES,
)
OBJECTS = st.builds(
    ObjectFacts,
    st.lists(SINKS, max_size=6, unique_by=lambda one: one.name).map(tuple),
    refused=PROBLEMS,
    unresolved=st.lists(st.just(Problem("RefNotUsable", "no secret")), max_size=1).map(tuple),
)


@given(OBJECTS)
@examples(300)
def test_delivering_of_the_object(facts: ObjectFacts) -> None:
    found = assess(facts)
    active = [one.name for one in facts.sinks if not one.paused]
    statuses = [found.sinks[name]["Delivering"].status for name in active]
    if (facts.sinks and not active) or "False" in statuses:
        expected = "False"
    elif "Unknown" in statuses or not statuses:
        expected = "Unknown"
    else:
        expected = "True"
    assert found.conditions["Delivering"].status == expected


@given(OBJECTS)
@examples(300)
def test_other_conditions_of_the_object(facts: ObjectFacts) -> None:
    found = assess(facts)
    for name in ("ResolvedRefs", "Programmed"):
        statuses = {one[name].status for one in found.sinks.values()}
        if name == "Programmed" and facts.refused:
            statuses = {"False"}
        if name == "Programmed" and facts.unresolved and not any(o.runs for o in facts.sinks):
            statuses = {"False"}
        if name == "ResolvedRefs" and facts.unresolved and (found.sinks or not facts.refused):
            statuses = {"False"}
        expected = "False" if "False" in statuses else "True" if statuses else "Unknown"
        assert found.conditions[name].status == expected  # type: ignore[index]
    refused = facts.refused or any(one.refused for one in facts.sinks)
    assert found.conditions["Accepted"].status == ("False" if refused else "True")


@given(SINKS)
@examples(300)
def test_a_sink_is_true_only_after_a_success_of_this_version(sink: SinkFacts) -> None:
    verdict = assess(ObjectFacts((sink,))).sinks[sink.name]["Delivering"]
    facts = sink.delivery
    if verdict.status == "True":
        assert facts is not None
        assert facts.succeeded
        assert not facts.failure
        assert not sink.paused
        assert not facts.behind
    elif verdict.status == "False" and verdict.reason != "Paused":
        assert facts is not None
        assert facts.failure or facts.behind


@given(OBJECTS)
@examples(200)
def test_whatever_is_not_true_says_why(facts: ObjectFacts) -> None:
    found = assess(facts)
    for verdicts in (found.conditions, *found.sinks.values()):
        assert tuple(verdicts) == TYPES
        for one in verdicts.values():
            assert one.reason.isalnum()
            assert one.reason[0].isupper()
            assert one.message or one.status == "True"


VERDICTS = st.builds(
    ConditionVerdict,
    st.sampled_from(["True", "False", "Unknown"]),
    st.sampled_from(["Good", "Bad"]),
    st.just(""),
)


@given(st.lists(st.dictionaries(st.sampled_from(TYPES), VERDICTS), max_size=6))
@examples(200)
def test_the_time_is_that_of_the_last_change_of_status(
    history: list[dict[str, ConditionVerdict]],
) -> None:
    shown: tuple = ()
    told: dict[str, list[str]] = {name: [] for name in TYPES}
    for generation, verdicts in enumerate(history):
        shown = updated(shown, verdicts, generation=generation, at=float(generation))
        assert [one.type for one in shown] == list(TYPES)
        for one in shown:
            told[one.type].append(one.status)
            statuses = told[one.type]
            since = len(statuses) - 1
            while since and statuses[since - 1] == one.status:
                since -= 1
            assert one.since == since
            assert one.observed_generation == generation
