"""New sinks take no names of others, and say what they still lack."""

from __future__ import annotations

from relay.ui.authoring.additions import TakenNames, free_name, with_sink
from relay.ui.authoring.backends import backend_of
from relay.ui.authoring.draft import Draft, empty_value, text_of
from relay.ui.authoring.unfinished import secret_of, unfinished


def begun() -> Draft:
    """A form that was just opened."""
    return Draft(empty_value(), text_of(empty_value()))


def test_no_credential_takes_the_place_of_another() -> None:
    backend = backend_of("datadog")
    assert backend is not None
    taken = TakenNames(frozenset({"datadog"}), frozenset({"datadog"}))
    draft = with_sink(begun(), backend.sink("datadog"), {}, taken)
    draft = with_sink(draft, backend.sink("datadog"), {"apiKey": "k"}, taken)
    assert draft.name == "datadog-2"
    assert [one["name"] for one in draft.sinks] == ["datadog", "datadog-2"]
    assert [secret_of(one)["name"] for one in draft.sinks] == ["datadog-2", "datadog-3"]
    assert unfinished(draft, ["datadog"]) == {
        "credential[0].apiKey": 'enter it: there is no Secret "datadog-2" yet'
    }
    assert unfinished(draft, ["datadog-2"]) == {}


def test_a_word_that_stands_for_the_customers_own_is_asked_for() -> None:
    backend = backend_of("grafana-cloud")
    assert backend is not None
    draft = with_sink(begun(), backend.sink("grafana-cloud"), {}, TakenNames())
    found = unfinished(draft, ["grafana-cloud"])
    assert found == {"spec.sinks[0].otlp_http.endpoint": "put your own in the place of ZONE"}


def test_names_are_free() -> None:
    assert free_name("a", []) == "a"
    assert free_name("a", ["a", "a-2"]) == "a-3"
