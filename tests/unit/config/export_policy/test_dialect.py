"""The table of dialects, the schema and the rules of an ExportPolicy say the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from relay.config.export_policy.build import export_policy_schema
from relay.config.export_policy.dialect import (
    BATCH_DEFAULT,
    RETRY_DEFAULT,
    ROW,
    ROWS,
    in_dialect,
)
from relay.config.export_policy.rules import POLICY_RULES
from relay.config.schema.rules import RULES
from relay.config.schema.source import Node, children
from tests.kit.oracle.crd import holds

ABSENT = object()
Fields = dict[str, list[Any]]

SINK: Fields = {
    "sources": [ABSENT, ["a"]],
    "target": [ABSENT, {}],
    "prometheusRemoteWrite": [ABSENT, {}],
    "openTelemetry": [ABSENT, {}],
}
AUTHENTICATION: Fields = {
    word: [ABSENT, {}] for word in ("basicAuth", "basic", "bearer", "bearerToken")
}
BATCH: Fields = {"timeout": [ABSENT, "5s"], "maxSize": [ABSENT, 5]}
RETRY: Fields = {
    "maxAttempts": [ABSENT, 3],
    "backoffDuration": [ABSENT, "5s"],
    "backoff": [ABSENT, "5s"],
}
VALUES: dict[str, Fields] = {
    "aliasOfBasicAuth": AUTHENTICATION,
    "aliasOfBearer": AUTHENTICATION,
    "oneAuthentication": AUTHENTICATION,
    "aliasOfBackoffDuration": RETRY,
    "attemptsOfRetry": RETRY,
    "backoffOfRetry": RETRY,
    "timeoutOfBatch": BATCH,
    "maxSizeOfBatch": BATCH,
    "anyTarget": SINK,
    "targetBesideTarget": SINK,
    "sourcesOfTarget": SINK,
    "oneKindOfTarget": {word: [ABSENT, {}] for word in ("prometheusRemoteWrite", "openTelemetry")},
}


def values_of(fields: Fields) -> Iterator[dict[str, Any]]:
    for combination in itertools.product(*fields.values()):
        pairs = zip(fields, combination, strict=True)
        yield {key: value for key, value in pairs if value is not ABSENT}


@pytest.mark.parametrize("name", [name for name, rule in POLICY_RULES.items() if rule.cel])
def test_cel_and_python_agree(name: str) -> None:
    rule, verdicts = POLICY_RULES[name], set()
    for value in values_of(VALUES[name]):
        good = holds(rule.cel, value)
        is_good = not list(rule.faults(value))
        assert good == is_good, value
        verdicts |= {good}
    assert verdicts == {True, False}


def named_rules(node: Node) -> Iterator[str]:
    yield from node.get("x-relay-rules", ())
    for key, child in children(node):
        for one in child.values() if key == "properties" else (child,):
            yield from named_rules(one)


def test_every_rule_is_used_and_every_used_one_is_there() -> None:
    used = set(named_rules(export_policy_schema().root))
    assert used - set(RULES) == set(POLICY_RULES)
    common = {"oneSelector", "oneRecordSelector", "spellingOfKind"}
    common |= {"valuesOfIn", "valuesOfExists"}
    assert used & set(RULES) == common


SPEC = export_policy_schema().root["properties"]["spec"]["properties"]
SINK_FIELDS = SPEC["sinks"]["items"]["properties"]
TARGET = SINK_FIELDS["target"]["properties"]
HOLDERS = {
    "source": [SPEC["sources"]["items"]],
    "sink": [SPEC["sinks"]["items"]],
    "target": [*TARGET.values()],
    "batch": [SINK_FIELDS["batch"]],
    "retry": [SINK_FIELDS["retry"]],
}


def has(node: Node, path: str) -> bool:
    """Return True if a schema has a field at a path."""
    for step in path.split("."):
        if step not in node.get("properties", {}):
            return False
        node = node["properties"][step]
    return True


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.field)
def test_every_path_of_the_table_is_a_field_of_the_schema(row: Any) -> None:
    for path in row.paths:
        if path.startswith("target.") and row.field in ("batch", "retry"):
            assert all(has(one, path.removeprefix("target.")) for one in HOLDERS["target"])
        else:
            assert any(has(one, path) for one in HOLDERS[row.below]), path


def test_a_target_is_the_same_beside_the_name() -> None:
    for word, node in TARGET.items():
        beside = SINK_FIELDS[word]
        assert {**beside, "description": "", "x-relay-brief": True} == {
            **node,
            "description": "",
            "x-relay-brief": True,
        }


def test_the_first_path_that_is_given_counts() -> None:
    row = ROW["retry.backoff_s"]
    assert row.find({"backoff": "1s"}) == (("backoff",), "1s")
    assert row.find({}) == (("backoffDuration",), None)
    row = ROW["authentication.basic"]
    assert row.find({"authentication": {"basic": {"secretRef": {"name": "a"}}}}) == (
        ("authentication", "basic", "secretRef"),
        {"name": "a"},
    )
    assert row.find({"authentication": "basic"})[1] is None


def test_the_reference_says_the_defaults() -> None:
    for node in (*TARGET.values(),):
        fields = node["properties"]
        assert fields["batch"]["x-relay-default"] == (
            f"`{{timeout: {BATCH_DEFAULT.timeout_s:g}s, maxSize: {BATCH_DEFAULT.points_max}}}`"
        )
        assert fields["retry"]["x-relay-default"] == (
            f"`{{maxAttempts: {RETRY_DEFAULT.attempts_max}, "
            f"backoffDuration: {RETRY_DEFAULT.backoff_s:g}s}}`"
        )
        assert (BATCH_DEFAULT.enabled, RETRY_DEFAULT.enabled) == (True, True)


def test_messages_are_translated_for_policies_only() -> None:
    message = "otlp_http sends OTLP, with profile: datadog"
    assert in_dialect(message, "Exporter") == message
    assert in_dialect(message, "ExportPolicy") == "openTelemetry.http sends OTLP"
