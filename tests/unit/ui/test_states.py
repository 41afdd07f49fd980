"""The word for the state of an exporter."""

from __future__ import annotations

import pytest

from relay.control.status import conditions
from relay.ui.views.states import FILTERS, ShownCondition, state_of


def made(**statuses: str) -> list[ShownCondition]:
    """Conditions by type, each as ``status/reason``."""
    return [
        ShownCondition(name, *value.split("/"), f"{name} says so")
        for name, value in statuses.items()
    ]


@pytest.mark.parametrize(
    ("statuses", "word", "tone"),
    [
        ({}, "Starting", "wait"),
        ({"Accepted": "False/Invalid"}, "Not accepted", "bad"),
        ({"Accepted": "False/Conflict"}, "Conflict", "bad"),
        ({"ResolvedRefs": "False/RefNotUsable"}, "Secret missing", "bad"),
        ({"Programmed": "False/Pending"}, "Starting", "wait"),
        ({"Delivering": "True/Delivering"}, "Delivering", "good"),
        ({"Delivering": "Unknown/NoData"}, "Nothing matches", "warn"),
        ({"Delivering": "False/Failing"}, "Failing", "bad"),
        ({"Delivering": "False/Rejected"}, "Rejected", "bad"),
        ({"Delivering": "False/Behind"}, "Behind", "warn"),
        ({"Delivering": "False/Paused"}, "Paused", "idle"),
        ({"Delivering": "Unknown/NoAnswer"}, "Starting", "wait"),
        ({"Delivering": "Unknown/Other"}, "Starting", "wait"),
        ({"Accepted": "True/LimitExceeded", "Delivering": "True/Delivering"}, "Delivering", "warn"),
        ({"Accepted": "True/LimitExceeded", "Delivering": "False/Failing"}, "Failing", "bad"),
    ],
)  # fmt: skip
def test_states(statuses: dict[str, str], word: str, tone: str) -> None:
    found = state_of(made(**statuses))
    assert (found.word, found.tone) == (word, tone)
    assert found.key in dict(FILTERS)


def test_the_types_are_those_that_the_relay_writes() -> None:
    assert {"Accepted", "ResolvedRefs", "Programmed", "Delivering"} <= set(conditions.OWN_TYPES)


def test_every_state_of_a_condition_has_a_sentence() -> None:
    for name in conditions.TYPES:
        assert ShownCondition(name, "True", name).sentence
        assert ShownCondition(name, "False", "x", "as it is").sentence == "as it is"


@pytest.mark.parametrize("reason", ["Paused", "NoData"])
def test_states_name_no_field_and_no_command(reason: str) -> None:
    said = state_of([ShownCondition("Delivering", "False", reason, "spec.sinks[].paused")]).message
    assert said
    assert "spec" not in said
