"""Whatever a file holds, reading it ends in values or faults; and quantities survive their text."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.config.exporter.build import exporter_schema
from relay.config.exporter.endpoints import endpoint_problem, metrics_url
from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import ExporterPath
from relay.config.schema.checks import header_value_problem
from relay.config.schema.validate import Schema
from relay.config.settings.settings import load_settings, settings_schema
from relay.config.yaml.document import VALUES_MAX, parse_documents
from relay.config.yaml.report import Report
from relay.runtime.errors import ConfigError, QuantityError
from relay.runtime.quantity import format_bytes, format_duration, parse_bytes, parse_duration_s
from tests.kit.paths import ROOT

DATA = ROOT / "tests/data"
CORPUS = [path.read_text() for path in sorted((DATA / "exporters/good").glob("*.yaml"))] + [
    path.read_text() for path in sorted((DATA / "settings/good").glob("*.yaml"))
]

YAML_CHARACTERS = st.sampled_from(list("ab1-.:,[]{}&*!|>'\"%@#?\n\n \t\\~=<\0\r\u2028é"))
YAML_TEXT = st.lists(
    st.one_of(
        YAML_CHARACTERS,
        st.sampled_from(["---\n", "...\n", "- ", "key: ", "&a ", "*a", "<<: ", "!!str ", "\n"]),
    ),
    max_size=60,
).map("".join)

PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=20)
PLAIN_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | PRINTABLE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PRINTABLE, inner, max_size=4),
    max_leaves=20,
)

EXPORTER_KEYS = st.sampled_from(
    ("apiVersion", "kind", "metadata", "spec", "name", "namespace", "sources", "sinks", "items")
) | st.sampled_from(
    ("metrics", "metricsql", "otlp_http", "endpoint", "authentication", "secretRef", "headers")
)
EXPORTER_LIKE: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(
        ["Exporter", "Secret", "List", "", "a", "5s", 5, -1, True, None, 1.5, "{", "ü"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(EXPORTER_KEYS, inner, max_size=5),
    max_leaves=25,
)


@given(YAML_TEXT)
def test_any_text_gives_values_or_faults(text: str) -> None:
    for document in parse_documents(text, "f.yaml"):
        assert document.value is not None or document.faults
        for where, message in document.faults:
            assert message
            assert 1 <= document.line(where) <= len(text.splitlines()) + 1


@given(PLAIN_VALUES)
def test_json_is_read_as_what_it_says(value: object) -> None:
    (document,) = parse_documents(json.dumps({"root": value}, ensure_ascii=False), "f.json")
    assert (document.value, *document.faults) == ({"root": value},)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=EXPORTER_LIKE)
def test_any_resource_gives_exporters_or_faults(tmp_path: Path, value: object) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(yaml.safe_dump(value))
    result = load_exporters([ExporterPath(file)])
    for fault in result.faults:
        assert fault.message
        assert fault.origin.startswith(str(file))
    with contextlib.suppress(ConfigError):
        load_settings(file)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_never_crash(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(CORPUS)).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 20)))
        content[start:end] = data.draw(st.binary(max_size=6))
    file = tmp_path / "f.yaml"
    file.write_bytes(content)
    load_exporters([ExporterPath(file)])
    with contextlib.suppress(ConfigError):
        load_settings(file)


@given(st.integers(2, 50), st.integers(1, 60))
def test_alias_chains_are_bounded_by_what_they_expand_to(width: int, depth: int) -> None:
    text = "a0: &a0 x\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]\n"
        for level in range(1, depth)
    )
    (document,) = parse_documents(text, "f.yaml")
    size, total = 1, 1
    for _ in range(depth):
        total += size
        size = size * width + 1
    assert (document.value is None) == (total > VALUES_MAX)


@given(st.text(max_size=40))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    for parse in (parse_duration_s, parse_bytes):
        with contextlib.suppress(QuantityError):
            assert parse(text) >= 0


@given(st.integers(0, 2**53))
def test_durations_survive_their_text(nanoseconds: int) -> None:
    seconds = nanoseconds / 1e9
    assert parse_duration_s(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@given(st.integers(0, 2**63 - 1))
def test_sizes_survive_their_text(size: int) -> None:
    assert parse_bytes(format_bytes(size)) == size


@given(st.text(max_size=60))
def test_a_header_value_never_breaks_the_line(text: str) -> None:
    if not header_value_problem(text):
        assert text == text.strip()
        assert all(character == "\t" or " " <= character <= "~" for character in text)


@given(st.text(st.sampled_from(list("ahtps:/@[]?#%.1-_ \t\n")), max_size=30))
def test_an_accepted_endpoint_has_one_host_and_no_surprises(rest: str) -> None:
    endpoint = f"https://{rest}"
    if not endpoint_problem(endpoint):
        assert not set(endpoint) & set("?# \t\n")
        assert "@" not in endpoint.split("/")[2]
        assert metrics_url(endpoint).startswith(endpoint.removesuffix("/"))
        assert metrics_url(endpoint).endswith("/v1/metrics")


@given(PLAIN_VALUES, st.sampled_from([exporter_schema(), settings_schema()]))
def test_a_schema_takes_any_value(value: object, schema: Schema) -> None:
    (document,) = parse_documents("a: 1", "f.yaml")
    report = Report(document)
    reading = schema.read(report, (), value)
    assert report.faulty == bool(report.faults)
    assert report.faulty or isinstance(reading.values, dict)
