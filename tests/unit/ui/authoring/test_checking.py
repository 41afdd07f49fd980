"""Faults of a draft, at the fields of the form that can mend them."""

from __future__ import annotations

from typing import Any

import pytest

from relay.ui.api_calls import FieldProblem
from relay.ui.authoring.backends import BACKENDS
from relay.ui.authoring.checking import check, for_update, plain, sorted_problems
from relay.ui.authoring.draft import Draft, empty_value, text_of


def draft(**http: Any) -> Draft:
    """A draft with one sink."""
    value = empty_value()
    value["metadata"]["name"] = "acme"
    value["spec"]["sinks"] = [
        {"name": "one", "otlp_http": {"endpoint": "https://otlp.example", **http}}
    ]
    return Draft(value, text_of(value))


def test_a_good_draft_has_no_fault() -> None:
    checked = check(draft(), "acme", None, is_begun=False)
    assert checked.is_good
    assert checked.warnings == ()


@pytest.mark.parametrize(
    ("http", "path", "said"),
    [
        ({"endpoint": "ftp://x"}, "spec.sinks[0].otlp_http.endpoint", "http"),
        ({"timeout": "soon"}, "spec.sinks[0].otlp_http.timeout", "duration"),
        ({"concurrency": "many"}, "spec.sinks[0].otlp_http.concurrency", "number"),
        ({"profile": "nobody"}, "spec.sinks[0].otlp_http.profile", "one of"),
        ({"headers": {"a b": "c"}}, "spec.sinks[0].otlp_http.headers", "header"),
        (
            {"authentication": {"type": "bearerToken"}},
            "spec.sinks[0].authentication",
            "required",
        ),
    ],
)
def test_faults_are_at_their_fields(http: dict[str, Any], path: str, said: str) -> None:
    checked = check(draft(**http), "acme", None, is_begun=False)
    assert said in checked.at[path].lower(), checked
    assert not checked.others


def test_what_is_only_missing_waits_until_it_is_saved() -> None:
    value = draft().value
    value["metadata"]["name"] = ""
    begun = Draft(value, text_of(value))
    assert check(begun, "", None, is_begun=True).is_good
    checked = check(begun, "", None, is_begun=False)
    assert "metadata.name" in checked.at


def test_unknown_fields_are_told() -> None:
    value = draft().value
    value["spec"]["bogus"] = 1
    (problem,) = check(Draft(value, text_of(value)), "", None, is_begun=True).others
    assert "bogus" in problem.message


def test_a_fault_of_no_control_is_shown_with_its_field() -> None:
    problems = [FieldProblem("spec.other", "Invalid value: no"), FieldProblem("", "whole")]
    checked = sorted_problems(draft(), problems)
    assert checked.others == (FieldProblem("spec.other", "no"), FieldProblem("", "whole"))


def test_two_faults_of_one_field_are_both_told() -> None:
    path = "spec.sinks[0].name"
    checked = sorted_problems(draft(), [FieldProblem(path, "a"), FieldProblem(path, "b")])
    assert checked.at == {path: "a; b"}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Required value", "is required"),
        ("Required value: is needed", "is needed"),
        ("Invalid value: must be a URL", "must be a URL"),
        ("other", "other"),
        ("this { is never closed at offset 0", "this { is never closed (character 1)"),
        ("no value at offset 4; write 1", "no value (character 5); write 1"),
    ],
)
def test_messages_are_without_the_words_of_kubernetes(message: str, said: str) -> None:
    assert plain(message) == said


def test_an_update_keeps_what_the_server_and_kubectl_set() -> None:
    live = {
        "metadata": {
            "name": "acme",
            "uid": "u",
            "resourceVersion": "5",
            "labels": {"gone": "x"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"},
        }
    }
    value = {"metadata": {"name": "acme", "annotations": {"c": "d"}}, "spec": {}}
    metadata = for_update(value, live)["metadata"]
    assert metadata["uid"] == "u"
    assert metadata["resourceVersion"] == "5"
    assert "labels" not in metadata
    assert metadata["annotations"] == {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "c": "d",
    }


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda one: one.key)
def test_every_backend_makes_a_sink_that_only_lacks_what_is_asked_for(backend: Any) -> None:
    value = draft().value
    value["spec"]["sinks"] = [backend.sink(backend.key)]
    checked = check(Draft(value, text_of(value)), "", None, is_begun=True)
    asked = {f"spec.sinks[0].{backend.kind}.endpoint"} if backend.endpoint == "https://" else set()
    assert set(checked.at) == asked
    assert not checked.others
    for _, url in backend.regions:
        assert url.startswith("https://")
