"""The CRDs of ExportPolicy accept what the platform's own definition accepts, and all spellings.

The platform's definition: required fields, limits and types of its fields as they shipped.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import celpy
import pytest
import yaml
from celpy.celtypes import StringType
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from relay.config.yaml.document import read_documents
from tests.kit.paths import ROOT

DATA = ROOT / "tests/data/export_policies"
GROUPS = ("telemetry.miloapis.com", "telemetry.datumapis.com")
CRDS = {
    group: yaml.safe_load((ROOT / f"config/crds/exportpolicies.{group}.yaml").read_text())
    for group in GROUPS
}
SCHEMA = CRDS[GROUPS[0]]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
GOOD = sorted((DATA / "good").glob("*.yaml"))
BAD = sorted((DATA / "bad").glob("*.yaml"))
EDITORS = Draft202012Validator(json.loads((ROOT / "config/schema/export-policy.json").read_text()))

REFUSED_BY_THE_CRD = {
    "authentication-both",
    "authentication-two",
    "authentication-two-other-words",
    "batch-enabled",
    "batch-incomplete",
    "batch-max-size-large",
    "batch-max-size-missing",
    "batch-max-size-zero",
    "batch-timeout",
    "bearer-both",
    "endpoint-missing",
    "kinds-both-spellings",
    "kinds-group-name",
    "kinds-resources-beside-group",
    "label-selector-operator",
    "metricsql-and-resource-selectors",
    "metricsql-number",
    "opentelemetry-endpoint-missing",
    "opentelemetry-http-missing",
    "resource-selectors-empty",
    "retry-backoff-both",
    "retry-backoff-unit",
    "retry-incomplete",
    "retry-max-attempts",
    "retry-max-attempts-missing",
    "retry-max-attempts-missing-backoff",
    "secret-ref-missing",
    "secret-ref-name-missing",
    "sink-name",
    "sink-name-twice",
    "sink-sources-empty",
    "sink-sources-missing",
    "sinks-empty",
    "sinks-missing",
    "source-name",
    "source-name-long",
    "source-name-missing",
    "source-name-twice",
    "sources-empty",
    "sources-too-many",
    "target-beside-target",
    "target-missing",
    "target-of-exporter",
    "target-two",
    "targets-beside",
}
"""Bad files that the API server refuses by the CRD; the others are faults to the loader alone."""


@cache
def program(rule: str) -> Any:
    environment = celpy.Environment()
    return environment.program(
        environment.compile(rule),
        functions={"lowerAscii": lambda text: StringType(str(text).lower())},
    )


def stored(schema: Any, value: Any) -> Any:
    """Return a value as the API server stores it: without nulls, pruned, with defaults."""
    if isinstance(value, list):
        return [stored(schema.get("items", {}), one) for one in value]
    properties = schema.get("properties")
    if not isinstance(value, dict) or properties is None:
        return value
    kept = {
        key: stored(properties[key], one)
        for key, one in value.items()
        if key in properties and one is not None
    }
    for key, one in properties.items():
        if "default" in one and key not in kept:
            kept[key] = stored(one, one["default"])
    return kept


def broken_rules(schema: Any, value: Any) -> Iterator[str]:
    for one in schema.get("x-kubernetes-validations", ()):
        if not program(one["rule"]).evaluate({"self": celpy.json_to_cel(value)}):
            yield one["rule"]
    if isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys", ())
        names = [tuple(one[key] for key in keys) for one in value] if keys else []
        if len(set(names)) < len(names):
            yield "repeated"
        for one in value:
            yield from broken_rules(schema.get("items", {}), one)
    elif isinstance(value, dict):
        for key, one in value.items():
            below = schema.get("properties", {}).get(key, schema.get("additionalProperties", {}))
            yield from broken_rules(below, one)


def faults_of_crd(value: Any) -> list[str]:
    kept = stored(SCHEMA, value)
    found = [error.message for error in Draft202012Validator(SCHEMA).iter_errors(kept)]
    return found or list(broken_rules(SCHEMA, kept))


def policies_of(file: Path) -> Iterator[Any]:
    for document in read_documents(file):
        value = document.value
        assert isinstance(value, dict)
        for one in value.get("items", [value]):
            if str(one.get("kind")).startswith("ExportPolic"):
                yield one


def test_both_groups_have_the_same_definition() -> None:
    first, second = (copy.deepcopy(CRDS[group]) for group in GROUPS)
    for group, crd in zip(GROUPS, (first, second), strict=True):
        assert crd["metadata"]["name"] == f"exportpolicies.{group}"
        assert crd["spec"]["group"] == group
        del crd["spec"]["group"], crd["metadata"]
    assert first == second
    assert first["spec"]["names"] == {
        "kind": "ExportPolicy",
        "listKind": "ExportPolicyList",
        "plural": "exportpolicies",
        "singular": "exportpolicy",
        "shortNames": ["expol"],
        "categories": ["telemetry"],
    }
    (version,) = first["spec"]["versions"]
    assert (version["name"], version["subresources"]) == ("v1alpha1", {"status": {}})


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_good_files_are_accepted_by_the_crd_and_by_editors(file: Path) -> None:
    for policy in policies_of(file):
        assert faults_of_crd(policy) == []
        assert [error.message for error in EDITORS.iter_errors(policy)] == []


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_bad_files_are_refused_where_the_crd_can_tell(file: Path) -> None:
    (policy,) = policies_of(file)
    assert bool(faults_of_crd(policy)) == (file.stem in REFUSED_BY_THE_CRD), faults_of_crd(policy)


NAMES = st.sampled_from(["a", "datum-metrics", "0", "a" * 63])
DURATIONS = st.sampled_from(["5s", "1m", "100ms", "1m30s"])
BASIC = st.fixed_dictionaries({"secretRef": st.fixed_dictionaries({"name": NAMES})})
REMOTE_WRITE = st.fixed_dictionaries(
    {"endpoint": st.sampled_from(["https://a.example.com/api/v1/write", "a"])},
    optional={
        "authentication": st.fixed_dictionaries({}, optional={"basicAuth": BASIC}),
        "batch": st.fixed_dictionaries({"timeout": DURATIONS, "maxSize": st.integers(1, 5000)}),
        "retry": st.fixed_dictionaries(
            {"backoffDuration": DURATIONS, "maxAttempts": st.integers(1, 10)}
        ),
    },
)
SOURCES = st.lists(
    st.fixed_dictionaries(
        {"name": NAMES},
        optional={
            "metrics": st.fixed_dictionaries(
                {}, optional={"metricsql": st.sampled_from(["", "{}", "up", "rate(x[5m])"])}
            )
        },
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one["name"],
)
SINKS = st.lists(
    st.fixed_dictionaries(
        {
            "name": NAMES,
            "sources": st.lists(st.sampled_from(["a", "b", "not-there"]), min_size=1, max_size=20),
            "target": st.fixed_dictionaries({}, optional={"prometheusRemoteWrite": REMOTE_WRITE}),
        }
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one["name"],
)


@given(sources=SOURCES, sinks=SINKS)
def test_what_the_platform_accepts_is_accepted(sources: Any, sinks: Any) -> None:
    policy = {
        "apiVersion": f"{GROUPS[0]}/v1alpha1",
        "kind": "ExportPolicy",
        "metadata": {"name": "a"},
        "spec": {"sources": sources, "sinks": sinks},
    }
    assert faults_of_crd(policy) == []
