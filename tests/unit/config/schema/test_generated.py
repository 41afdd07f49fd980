"""What is made of the schemas is up to date, and the CRD judges as the loader does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema_rs import Draft202012Validator

from relay.config.schema.generate import files, main
from relay.config.yaml.document import read_documents
from tests.kit.paths import ROOT

DATA = ROOT / "tests/data/exporters"
GENERATED = dict(files())

GOOD = [
    *sorted((DATA / "good").glob("*.yaml")),
    ROOT / "config/examples/every-field.yaml",
    ROOT / "config/examples/gateway-exporter.yaml",
]


@pytest.mark.parametrize("name", GENERATED)
def test_the_file_is_what_make_schema_writes(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATED[name], "run make schema"


def test_make_schema_writes_below_its_root(tmp_path: Path) -> None:
    main(tmp_path)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert found == set(GENERATED)


@pytest.mark.parametrize("name", [name for name in GENERATED if name.endswith(".json")])
def test_the_schema_for_editors_is_one(name: str) -> None:
    Draft202012Validator(json.loads(GENERATED[name]), validate_formats=True)


def test_editors_accept_what_the_loader_accepts() -> None:
    exporter = Draft202012Validator(json.loads(GENERATED["config/schema/exporter.json"]))
    for file in GOOD:
        for document in read_documents(file):
            value = document.value
            assert isinstance(value, dict)
            if value["kind"] == "Exporter":
                assert not [error.message for error in exporter.iter_errors(value)], file.name
    settings = Draft202012Validator(json.loads(GENERATED["config/schema/settings.json"]))
    files_of_settings = [ROOT / "config/relay.yaml", *(ROOT / "tests/data/settings/good").glob("*")]
    for file in files_of_settings:
        for document in read_documents(file):
            assert not [error.message for error in settings.iter_errors(document.value)], file.name


def test_editors_refuse_unknown_and_missing_fields() -> None:
    exporter = Draft202012Validator(json.loads(GENERATED["config/schema/exporter.json"]))
    for name in ("unknown-field", "retry-misspelt", "sinks-missing", "kind-missing"):
        (document,) = read_documents(DATA / f"bad/{name}.yaml")
        assert list(exporter.iter_errors(document.value)), name


@pytest.mark.parametrize("name", [name for name in GENERATED if "/crds/" in name])
def test_kubectl_writes_no_number_that_other_tools_read_as_text(name: str) -> None:
    """It writes a small number as 1e-06, which is text to readers of YAML 1.1."""
    for line in GENERATED[name].splitlines():
        key, _, value = line.strip().partition(": ")
        if key in ("minimum", "maximum"):
            assert "e" not in f"{float(value)!r}", line
