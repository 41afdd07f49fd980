"""The CRD judges examples and bad files as the loader does, but for what it cannot know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import ExporterPath
from relay.config.yaml.document import read_documents
from tests.kit.oracle.crd import faults_of_crd
from tests.kit.paths import ROOT

DATA = ROOT / "tests/data/exporters"
CRD = yaml.safe_load((ROOT / "config/crds/exporters.telemetry.datumapis.com.yaml").read_text())
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
GOOD = [*sorted((DATA / "good").glob("*.yaml")), *sorted((ROOT / "config/examples").glob("*.yaml"))]
BAD = sorted((DATA / "bad").glob("*.yaml"))


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
QUERY = "needs the parser of MetricsQL or LogQL"
TEXT = "a pattern does not know what can be printed"
ADDRESS = "a pattern does not tell such an address, host or port"
NO_EXPORTER = "the fault is not one of an Exporter"

TWO_TYPES = "`kind` has two types, so that CEL cannot read it"
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
    "kinds-both-names": TWO_TYPES,
    "kinds-empty-entry": TWO_TYPES,
    "key-not-a-string": YAML,
    "key-twice": YAML,
    "kind-missing": NO_EXPORTER,
    "kind-unknown": NO_EXPORTER,
    "label-selector-misspelt": UNKNOWN_FIELD,
    "list-item": UNKNOWN_FIELD,
    "logs-pipeline-stage": QUERY,
    "logs-range": QUERY,
    "metadata-missing": BY_ITSELF,
    "metricsql-bad-escape": QUERY,
    "metricsql-not-a-selector": QUERY,
    "name-missing": BY_ITSELF,
    "name-number": BY_ITSELF,
    "name-upper-case": BY_ITSELF,
    "namespace-dotted": BY_ITSELF,
    "not-a-mapping": NO_EXPORTER,
    "overflow-block-among-several": OTHERS,
    "records-to-remote-write": OTHERS,
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
    "traces-line-filter": QUERY,
    "traces-whole-by-span": QUERY,
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
    assert [fault for one in exporters_of(file) for fault in faults_of_crd(SCHEMA, one)] == []


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_what_the_loader_refuses_is_refused_but_for_what_is_beyond_it(file: Path) -> None:
    faults = [fault for one in exporters_of(file) for fault in faults_of_crd(SCHEMA, one)]
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
