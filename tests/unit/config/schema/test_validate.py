"""Reading by a schema: every fault at once, each at its place, and the rest as values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from relay.codec.otlp.metrics import Temporality
from relay.config.exporter.backend_profiles import ProfileName
from relay.config.exporter.build import exporter_schema
from relay.config.exporter.types import AuthenticationType, Drain, OtlpCompression, Overflow
from relay.config.schema.source import Node, children
from relay.config.schema.validate import Reading, Schema
from relay.config.settings.ingest_security import SenderAuthenticationType
from relay.config.settings.settings import (
    FsyncPolicy,
    LogFormat,
    LogLevel,
    load_settings,
    settings_schema,
)
from relay.config.yaml.document import parse_documents
from relay.config.yaml.report import Report
from relay.runtime.errors import ConfigError

SCHEMAS = [exporter_schema(), settings_schema()]

SHOP = Schema(
    {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string"},
            "count": {"type": "integer", "minimum": 1, "maximum": 9, "default": 2},
            "wait": {"type": "string", "x-relay-duration": {"minimum": "1s", "maximum": "1m"}},
            "size": {"x-relay-size": {"minimum": "1KiB", "maximum": "1MiB"}},
            "extra": {
                "type": "object",
                "maxProperties": 2,
                "additionalProperties": {"type": "string", "x-relay-secret": True},
            },
            "shelves": {
                "type": "array",
                "maxItems": 3,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["label"],
                "items": {
                    "type": "object",
                    "required": ["label"],
                    "properties": {
                        "label": {"type": "string"},
                        "depth": {"type": "integer", "minimum": 1, "maximum": 9},
                    },
                },
            },
        },
    },
    checks={},
    rules={},
)


def read(text: str, schema: Schema = SHOP) -> tuple[list[str], Reading]:
    """Return the faults of a YAML text, and the reading."""
    (document,) = parse_documents(text, "f.yaml")
    report = Report(document)
    reading = schema.read(report, (), document.value)
    return [f"{fault.path}: {fault.message}" for fault in report.faults], reading


def test_every_fault_is_found_and_the_rest_is_read() -> None:
    faults, reading = read(
        "nmae: x\ncount: 12\nwait: 2m\nsize: 5\nextra: {'0': 7}\n"
        "shelves: [{label: a}, {label: a, depth: 0}, null]\n"
    )
    assert faults == [
        "name: is required",
        'nmae: unknown field; did you mean "name"?',
        "count: must be a whole number from 1 to 9, not the number 12",
        'wait: must be a duration from 1s to 1m, not "2m"',
        "size: must be a size from 1KiB to 1MiB, not the number 5",
        'extra["0"]: must be a string: put it in quotes',
        'shelves[1].label: "a" is already taken; labels must be unique',
        "shelves[1].depth: must be a whole number from 1 to 9, not the number 0",
        "shelves[2]: is required",
    ]
    assert reading.values == {"extra": {}, "shelves": [{"label": "a"}, {"label": "a"}, None]}


def test_a_misspelt_field_is_read_and_keeps_its_place() -> None:
    faults, reading = read("name: x\nShelves: [{label: 5}]\n")
    assert faults == [
        'Shelves: unknown field; did you mean "shelves"?',
        "Shelves[0].label: must be a string: put it in quotes (the number 5)",
    ]
    assert reading.values["shelves"] == [{}]


def test_defaults_are_filled_in_and_null_is_absent() -> None:
    faults, reading = read("name: x\ncount: null\n")
    assert faults == []
    assert reading.values == {"name": "x", "count": 2}


@pytest.mark.parametrize("value", ["2.0", "2.5", "true", "'2'", "[]"])
def test_a_whole_number_is_written_as_one(value: str) -> None:
    (fault,), _ = read(f"name: x\ncount: {value}\n")
    assert fault.startswith("count: must be a whole number from 1 to 9, not ")


def test_a_list_or_map_that_is_too_long_is_one_fault() -> None:
    faults, reading = read("name: x\nextra: {a: 1, b: 2, c: 3}\nshelves: [1, 2, 3, 4]\n")
    assert faults == [
        "extra: must have at most 2 entries, not 3",
        "shelves: must have 0 to 3 entries, not 4",
    ]
    assert reading.values == {"name": "x", "count": 2}


def test_a_million_faults_are_counted_and_cost_little() -> None:
    unknown = {f"field{number}": 1 for number in range(20_000)}
    report = Report(parse_documents("a: 1", "f.yaml")[0])
    SHOP.read(report, (), {"name": "x", **unknown, "shelves": [1] * 1_000_000})
    assert report.faults[-1].message == "19901 more faults"


def test_a_field_in_the_wrong_place_is_told_where_it_belongs() -> None:
    faults, _ = read("name: x\nlabel: a\nshelves: [{label: b, wait: 5s}]\n")
    assert faults == [
        "label: unknown field; it belongs into an entry of shelves",
        "shelves[0].wait: unknown field; it belongs beside shelves, not below it",
    ]


def test_a_path_that_no_file_can_have_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text(f"ingest: {{tls: {{certFile: {'a' * 300}, keyFile: {'b' * 300}}}}}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    assert [fault.path for fault in caught.value.faults] == [
        "ingest.tls.certFile",
        "ingest.tls.keyFile",
    ]


def scalar_defaults(node: Node) -> Iterator[Node]:
    """Yield the parts of a schema that have a default which is no mapping."""
    if "default" in node and not isinstance(node["default"], dict):
        yield node
    for key, child in children(node):
        for one in child.values() if key == "properties" else (child,):
            yield from scalar_defaults(one)


@pytest.mark.parametrize("schema", SCHEMAS, ids=["exporter", "settings"])
def test_defaults_are_valid(schema: Schema) -> None:
    found = list(scalar_defaults(schema.root))
    assert len(found) > 10
    for node in found:
        root: dict[str, Any] = {"type": "object", "properties": {"field": node}}
        one = Schema(root, checks=schema.checks, rules=schema.rules)
        report = Report(parse_documents("a: 1", "f.yaml")[0])
        one.read(report, (), {"field": node["default"]})
        assert not report.faulty, report.faults


@pytest.mark.parametrize("schema", SCHEMAS, ids=["exporter", "settings"])
def test_every_field_is_described(schema: Schema) -> None:
    def undescribed(node: Node, path: str) -> Iterator[str]:
        for name, one in node.get("properties", {}).items():
            if "x-relay-hidden" not in one:
                if not one.get("description"):
                    yield f"{path}.{name}"
                yield from undescribed(one.get("items", one), f"{path}.{name}")

    assert list(undescribed(schema.root, "")) == []


WORDS = [
    (exporter_schema(), "spec.sinks.otlp_http.authentication.type", AuthenticationType),
    (exporter_schema(), "spec.sinks.otlp_http.compression", OtlpCompression),
    (exporter_schema(), "spec.sinks.otlp_http.temporality", Temporality),
    (exporter_schema(), "spec.sinks.otlp_http.profile", ProfileName),
    (exporter_schema(), "spec.sinks.queue.overflow", Overflow),
    (exporter_schema(), "spec.sinks.queue.drain", Drain),
    (settings_schema(), "ingest.authentication.type", SenderAuthenticationType),
    (settings_schema(), "storage.fsync", FsyncPolicy),
    (settings_schema(), "log.format", LogFormat),
    (settings_schema(), "log.level", LogLevel),
]


@pytest.mark.parametrize(("schema", "path", "words"), WORDS, ids=[path for _, path, _ in WORDS])
def test_the_words_are_those_of_the_model(schema: Schema, path: str, words: Any) -> None:
    node = schema.root
    for step in path.split("."):
        node = node["properties"][step]
        node = node.get("items", node)
    assert tuple(node["enum"]) == get_args(words)
