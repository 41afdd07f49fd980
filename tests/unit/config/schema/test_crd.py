"""The CRD judges examples and bad files as the loader does, but for what it cannot know."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import celpy
import pytest
import yaml
from celpy.celtypes import IntType, StringType
from jsonschema_rs import Draft202012Validator

from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import ExporterPath
from relay.config.yaml.document import read_documents
from relay.runtime.quantity import parse_bytes
from tests.kit.paths import ROOT

DATA = ROOT / "tests/data/exporters"
CRD = yaml.safe_load((ROOT / "config/crds/exporters.telemetry.datumapis.com.yaml").read_text())
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
GOOD = [*sorted((DATA / "good").glob("*.yaml")), *sorted((ROOT / "config/examples").glob("*.yaml"))]
BAD = sorted((DATA / "bad").glob("*.yaml"))


def quantity(text: Any) -> Any:
    """Stand in for Kubernetes' function of that name: a number that may be compared."""
    return IntType(parse_bytes(str(text)))


def compare_to(one: Any, other: Any) -> Any:
    """Stand in for the method of a quantity."""
    return IntType((one > other) - (one < other))


def lower_ascii(text: Any) -> Any:
    """Stand in for the method of a text, which is an extension of CEL."""
    return StringType(str(text).lower())


def replace(text: Any, old: Any, new: Any) -> Any:
    """Stand in for the method of a text, which is an extension of CEL."""
    return StringType(str(text).replace(str(old), str(new)))


FUNCTIONS = {
    "quantity": quantity,
    "compareTo": compare_to,
    "lowerAscii": lower_ascii,
    "replace": replace,
}


@cache
def program(rule: str) -> Any:
    """Return a rule, ready to run."""
    environment = celpy.Environment()
    return environment.program(environment.compile(rule), functions=FUNCTIONS)


def defaulted(schema: Any, value: Any) -> Any:
    """Return a value as the API server stores it: without nulls, pruned, with defaults."""
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), one) for one in value]
    properties = schema.get("properties")
    if not isinstance(value, dict) or properties is None:
        return value
    stored = {
        key: defaulted(properties[key], one)
        for key, one in value.items()
        if key in properties and one is not None
    }
    for key, one in properties.items():
        if "default" in one and key not in stored:
            stored[key] = defaulted(one, one["default"])
    return stored


def broken_rules(schema: Any, value: Any) -> Iterator[str]:
    """Yield the rules that a value does not meet, list types among them."""
    for one in schema.get("x-kubernetes-validations", ()):
        if not program(one["rule"]).evaluate({"self": celpy.json_to_cel(value)}):
            yield one["rule"]
    if isinstance(value, list):
        kind, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys")
        seen = [tuple(one[key] for key in keys) if kind == "map" else one for one in value]
        if kind in ("set", "map") and any(one in seen[:index] for index, one in enumerate(seen)):
            yield f"{kind}: repeated"
        for one in value:
            yield from broken_rules(schema.get("items", {}), one)
    elif isinstance(value, dict):
        for key, one in value.items():
            below = schema.get("properties", {}).get(key, schema.get("additionalProperties", {}))
            yield from broken_rules(below, one)


def faults_of_crd(value: Any) -> list[str]:
    """Return what the API server would say of an object."""
    stored = defaulted(SCHEMA, value)
    found = [error.message for error in Draft202012Validator(SCHEMA).iter_errors(stored)]
    return found or list(broken_rules(SCHEMA, stored))


def exporters_of(file: Path) -> Iterator[Any]:
    """Yield the Exporters of a file, those in lists too."""
    for document in read_documents(file):
        value = document.value
        items = value.get("items", [value]) if isinstance(value, dict) else ()
        yield from (one for one in items if isinstance(one, dict) and one.get("kind") == "Exporter")


BY_ITSELF = "the API server checks it by itself"
UNKNOWN_FIELD = "the API server refuses or prunes unknown fields by itself"
YAML = "a fault of the YAML text"
OTHERS = "other objects decide"
QUERY = "needs the parser of MetricsQL"
TEXT = "a pattern does not know what can be printed"
ADDRESS = "a pattern does not tell such an address, host or port"
NO_EXPORTER = "the fault is not one of an Exporter"

BEYOND_THE_CRD = {
    "api-version": BY_ITSELF,
    "api-version-missing": BY_ITSELF,
    "authentication-inline-token": UNKNOWN_FIELD,
    "duplicate": OTHERS,
    "endpoint-address-decimal": ADDRESS,
    "endpoint-address-hexadecimal": ADDRESS,
    "endpoint-address-hexadecimal-part": ADDRESS,
    "endpoint-address-large": ADDRESS,
    "endpoint-address-numeric-name": ADDRESS,
    "endpoint-address-octal": ADDRESS,
    "endpoint-address-short": ADDRESS,
    "endpoint-address-zero": ADDRESS,
    "endpoint-port-large": ADDRESS,
    "endpoint-port-zero": ADDRESS,
    "key-not-a-string": YAML,
    "key-twice": YAML,
    "kind-missing": NO_EXPORTER,
    "kind-unknown": NO_EXPORTER,
    "label-selector-misspelt": UNKNOWN_FIELD,
    "list-item": UNKNOWN_FIELD,
    "logs-source": UNKNOWN_FIELD,
    "metadata-missing": BY_ITSELF,
    "metricsql-bad-escape": QUERY,
    "metricsql-not-a-selector": QUERY,
    "name-missing": BY_ITSELF,
    "name-number": BY_ITSELF,
    "name-upper-case": BY_ITSELF,
    "namespace-dotted": BY_ITSELF,
    "not-a-mapping": NO_EXPORTER,
    "overflow-block-among-several": OTHERS,
    "project-is-not-the-authors": UNKNOWN_FIELD,
    "remote-write-compression": UNKNOWN_FIELD,
    "remote-write-external-label-lines": TEXT,
    "remote-write-secret-missing": OTHERS,
    "retry-misspelt": UNKNOWN_FIELD,
    "secret-api-version": NO_EXPORTER,
    "secret-base64": NO_EXPORTER,
    "secret-duplicate": NO_EXPORTER,
    "secret-key": NO_EXPORTER,
    "secret-key-missing": OTHERS,
    "secret-misspelt": NO_EXPORTER,
    "secret-missing": OTHERS,
    "secret-pair-without-colon": OTHERS,
    "secret-ref-namespace": UNKNOWN_FIELD,
    "secret-user-with-colon": OTHERS,
    "secret-value-number": NO_EXPORTER,
    "secret-value-two-lines": OTHERS,
    "text-only": NO_EXPORTER,
    "tls-authority-missing": OTHERS,
    "tls-certificate-missing": OTHERS,
    "unknown-field": UNKNOWN_FIELD,
    "yaml-alias-bomb": YAML,
    "yaml-alias-unknown": YAML,
    "yaml-complex-key": YAML,
    "yaml-deep": YAML,
    "yaml-tab": YAML,
    "yaml-tag": YAML,
    "yaml-unclosed": YAML,
}
"""Bad files that the CRD does not refuse, and why."""


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_what_the_loader_accepts_is_accepted(file: Path) -> None:
    assert not load_exporters([ExporterPath(file)], need_secrets=False).faults
    assert [fault for one in exporters_of(file) for fault in faults_of_crd(one)] == []


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_what_the_loader_refuses_is_refused_but_for_what_is_beyond_it(file: Path) -> None:
    faults = [fault for one in exporters_of(file) for fault in faults_of_crd(one)]
    assert bool(faults) != (file.stem in BEYOND_THE_CRD), faults


def test_the_crd_uses_no_keyword_that_kubernetes_refuses() -> None:
    def walk(node: Any) -> Iterator[str]:
        yield from node
        for key in ("items", "additionalProperties"):
            if key in node:
                yield from walk(node[key])
        for one in node.get("properties", {}).values():
            yield from walk(one)

    allowed = {
        "additionalProperties", "anyOf", "default", "description", "enum", "format", "items",
        "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minimum",
        "not", "pattern", "properties", "required", "type",
    }  # fmt: skip
    assert {key for key in walk(SCHEMA) if not key.startswith("x-kubernetes-")} <= allowed
