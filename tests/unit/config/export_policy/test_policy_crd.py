"""The CRDs of ExportPolicy accept what the platform's own definition accepts, and all spellings.

The platform's definition: required fields, limits and types of its fields as they shipped.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from relay.config.yaml.document import read_documents
from tests.kit.oracle.crd import faults_of_crd
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
        assert faults_of_crd(SCHEMA, policy) == []
        assert [error.message for error in EDITORS.iter_errors(policy)] == []


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_bad_files_are_refused_where_the_crd_can_tell(file: Path) -> None:
    (policy,) = policies_of(file)
    faults = faults_of_crd(SCHEMA, policy)
    assert bool(faults) == (file.stem in REFUSED_BY_THE_CRD), faults


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
    assert faults_of_crd(SCHEMA, policy) == []
