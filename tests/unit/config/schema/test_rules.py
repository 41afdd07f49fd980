"""Each rule over several fields says the same in CEL, as Kubernetes runs it, and in Python."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from relay.config.exporter.build import exporter_schema
from relay.config.schema.rules import RULES
from relay.config.schema.source import Node, children
from relay.config.settings.rules import SETTINGS_RULES
from relay.config.settings.settings import settings_schema
from tests.kit.oracle.crd import holds

ABSENT = object()
Fields = dict[str, list[Any]]

ACCESS = {
    "type": ["tokens", "oidc", "none"],
    "file": [ABSENT, "a"],
    "oidc": [ABSENT, {}],
}
CREDENTIALS: Fields = {
    "type": ["none", "bearer", "basic"],
    "token": [ABSENT, "x"],
    "tokenFile": [ABSENT, "x"],
    "username": [ABSENT, "x"],
    "password": [ABSENT, "x"],
    "passwordFile": [ABSENT, "x"],
}
AUTHENTICATION: Fields = {
    "type": ["none", "bearerToken", "basicAuth", "apiKey"],
    "secretRef": [ABSENT, {"name": "s"}],
    "header": [ABSENT, "X-Key"],
}
EXPRESSION: Fields = {
    "operator": ["In", "NotIn", "Exists", "DoesNotExist"],
    "values": [ABSENT, [], ["a"]],
}
SOURCE: dict[str, list[object]] = {
    name: [ABSENT, {}, {"selector": ""}] for name in ("metrics", "logs", "traces")
}
METRICS: Fields = {"metricsql": [ABSENT, "", "up"], "resourceSelectors": [ABSENT, [{}]]}
KIND: Fields = {
    "group": [ABSENT, "a"],
    "kind": [ABSENT, "A", "*", "a", ["a"], [], 5],
    "apiGroups": [ABSENT, ["a"]],
    "resources": [ABSENT, ["a"]],
}
STRICTER = {"spellingOfKind"}
"""Rules of which CEL can tell a part only, because ``kind`` has two types."""
SINK: Fields = {key: [ABSENT, {}] for key in ("otlp_http", "prometheusRemoteWrite")}
KIND_ROW: Fields = {
    "kind": ["A", "*"],
    "marks": [ABSENT, {"label": "a"}],
    **{key: [ABSENT, "", "a"] for key in ("group", "nameLabel", "namespaceLabel", "uidLabel")},
}
PATHS = [ABSENT, [{"path": "x"}], [{"path": "x", "project": "a"}, {"path": "y"}]]

VALUES: dict[str, Fields | list[Any]] = {
    "limitsWithTenancy": {"limits": [ABSENT, {}], "tenancy": [ABSENT, {"label": "t"}]},
    "oneSignal": SOURCE,
    "anySignal": SOURCE,
    "oneRecordSelector": {
        "selector": [ABSENT, "", "{}"],
        "resourceSelectors": [ABSENT, [], [{}]],
    },
    "oneSelector": METRICS,
    "anySelector": METRICS,
    "valuesOfIn": EXPRESSION,
    "valuesOfExists": EXPRESSION,
    "spellingOfKind": KIND,
    "sourcesOfSinks": {
        "sources": [[{"name": "a"}], [{"name": "a"}, {"name": "b"}]],
        "sinks": [[{"name": "x"}], [{"sources": ["a"]}, {"sources": ["b", "a"]}], [{}, {}]],
    },
    "oneEndpoint": SINK,
    "anyEndpoint": SINK,
    "versionOfProfile": {
        "profile": ["generic", "victoriametrics", "mimir"],
        "protocolVersion": ["1.0", "2.0"],
    },
    "secretNeeded": AUTHENTICATION,
    "secretUnused": AUTHENTICATION,
    "headerNeeded": AUTHENTICATION,
    "headerUnused": AUTHENTICATION,
    "headersOnce": [{}, {"a": "1"}, {"a": "1", "b": "1"}, {"a": "1", "A": "1"}],
    "headerOfAuthentication": {
        "headers": [ABSENT, {"x-key": "1"}, {"AUTHORIZATION": "1"}, {"y": "1"}],
        "authentication": [
            {"type": "none"},
            {"type": "basicAuth"},
            {"type": "bearerToken"},
            {"type": "apiKey"},
            {"type": "apiKey", "header": "X-Key"},
        ],
    },
    "tlsNeedsHttps": {
        "endpoint": ["http://a", "HTTP://a", "https://a", "hTTps://a"],
        "tls": [ABSENT, {}],
    },
    "certificateKey": {"name": ["s"], "key": [ABSENT, "k"]},
    "ageAboveBatchTimeout": {
        "batch": [
            {"enabled": enabled, "timeout": timeout}
            for enabled in (True, False)
            for timeout in ("5s", "1m", "1500ms")
        ],
        "queue": [{"maxAge": age} for age in ("1s", "5s", "60s", "1h30m")],
    },
    "projectsWithTenancy": {
        "tenancy": [ABSENT, {}],
        "exporters": PATHS,
        "inventory": [ABSENT, {}, *({"manifests": one} for one in PATHS[1:])],
    },
    "labelOrAccounts": {"label": [ABSENT, "a"], "accounts": [ABSENT, [{}]]},
    "kindOfInfoSeries": {"metric": ["kube_pod", "kube_<kind>"], "kind": [ABSENT, "pod"]},
    "oneMarkedKind": KIND_ROW,
    "groupOfMarks": KIND_ROW,
    "groupWithoutMarks": KIND_ROW,
    "labelsWithoutMarks": KIND_ROW,
    "anyMark": {
        "metricPrefix": [ABSENT, "a"],
        "label": [ABSENT, "a"],
        "labels": [ABSENT, {}, {"a": "b"}],
    },
    "oneToken": CREDENTIALS,
    "onePassword": CREDENTIALS,
    "tokenUnused": CREDENTIALS,
    "passwordUnused": CREDENTIALS,
    "usernameNeeded": CREDENTIALS,
    "usernameUnused": CREDENTIALS,
    "onePasswordOfProxy": CREDENTIALS,
    "usernameOfProxy": CREDENTIALS,
    "kubernetesProjectsWithTenancy": {
        "tenancy": [ABSENT, {}],
        "kubernetes": [ABSENT, {}, {"projects": {}}],
    },
    "oneAccess": {
        "kubeconfig": [ABSENT, "a"],
        "inCluster": [ABSENT, True, False],
        "projects": [ABSENT, {}, {"kubeconfigs": "a"}, {"namespaceLabel": "a"}],
    },
    "oneOfProjects": {
        "namespaceLabel": [ABSENT, "a"],
        "kubeconfigs": [ABSENT, "a"],
        "serverPath": [ABSENT, {}],
    },
    "apiPath": {
        "api": [ABSENT, {}, {"path": "a"}],
        "storage": [ABSENT, {}],
    },
    "tokensFile": ACCESS,
    "tokensFileUnused": ACCESS,
    "oidcNeeded": ACCESS,
    "oidcUnused": ACCESS,
    "oneKeySet": {
        "jwksUri": [ABSENT, "a"],
        "jwksFile": [ABSENT, "a"],
    },
}
ALL = {**RULES, **SETTINGS_RULES}


def values_of(name: str) -> Iterator[Any]:
    """Yield every combination of the values that a rule's fields may have."""
    fields = VALUES[name]
    if isinstance(fields, list):
        yield from fields
        return
    for combination in itertools.product(*fields.values()):
        pairs = zip(fields, combination, strict=True)
        yield {key: value for key, value in pairs if value is not ABSENT}


@pytest.mark.parametrize("name", ALL)
def test_cel_and_python_agree(name: str) -> None:
    rule, verdicts = ALL[name], set()
    for value in values_of(name):
        verdict = holds(rule.cel, value)
        is_good = not list(rule.faults(value))
        assert verdict == is_good or (name in STRICTER and verdict), value
        verdicts.add(verdict)
    assert verdicts == {True, False}, "the values show both"


def named_rules(node: Node) -> Iterator[str]:
    """Yield the rules that a schema names."""
    yield from node.get("x-relay-rules", ())
    for key, child in children(node):
        for one in child.values() if key == "properties" else (child,):
            yield from named_rules(one)


def test_every_rule_is_used_and_every_used_one_is_there() -> None:
    assert set(named_rules(exporter_schema().root)) == set(RULES)
    assert set(named_rules(settings_schema().root)) == set(SETTINGS_RULES)


def test_a_message_is_filled_in() -> None:
    rule = RULES["ageAboveBatchTimeout"]
    value = {"batch": {"enabled": True, "timeout": "5s"}, "queue": {"maxAge": "1s"}}
    assert list(rule.faults(value)) == [
        (
            ("queue", "maxAge"),
            "must be longer than batch.timeout (5s), or points expire before they are sent",
        )
    ]
