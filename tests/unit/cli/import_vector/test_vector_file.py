"""Ways to hold a Vector configuration, and files that cannot be read."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import yaml

from relay.cli.import_vector.convert import VectorImport, import_vector
from relay.cli.import_vector.vector_file import VectorConfig
from relay.runtime.errors import ConfigError
from tests.kit.remote_write.vector_config import rendered

TOML = """
[sources.metrics]
type = "prometheus_scrape"
endpoints = ["http://victoria:8428/federate"]
[sources.metrics.query]
"match[]" = ['{job="gateway"}']
[sinks.mimir]
type = "prometheus_remote_write"
inputs = ["metrics"]
endpoint = "https://mimir.example.com/api/v1/push"
"""


def read(text: str, file: str) -> dict[str, Any]:
    """The sections of one file."""
    config = VectorConfig()
    config.add(text, file)
    return config.sections


def imported(text: str, file: str) -> VectorImport:
    """What comes of one file."""
    return import_vector(read(text, file))


def as_secret(config: dict[str, Any]) -> str:
    """The Secret that the operator writes."""
    encoded = base64.b64encode(json.dumps(config).encode()).decode()
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "List",
            "items": [
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": "export-policy-vector-config-6f1c2d1e"},
                    "data": {"6f1c2d1e.json": encoded},
                }
            ],
        }
    )


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("vector.json", json.dumps(rendered(), indent="\t")),
        ("vector.yaml", yaml.safe_dump(rendered())),
        ("secrets.yaml", as_secret(rendered())),
    ],
)
def test_each_way_to_hold_a_configuration(file: str, text: str) -> None:
    assert imported(text, file) == import_vector(rendered())


def test_toml() -> None:
    done = imported(TOML, "vector.toml")
    assert done.policies[0].documents[-1]["spec"]["sources"] == [
        {"name": "metrics", "metrics": {"metricsql": '{job="gateway"}'}}
    ]
    assert done.notes == ()


DEEP = 100_000
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(ord('a') + n)}: &{chr(ord('a') + n)} [{', '.join(['*' + chr(ord('a') + n - 1)] * 10)}]\n"
    for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("v.json", "{", "v.json:1:2: is no JSON: Expecting property name"),
        ("v.json", "[" * DEEP, "v.json: is nested too deeply"),
        ("v.json", "[" * 65 + "]" * 65, "v.json: is nested deeper than 64 levels"),
        ("v.json", '{"a": ' + "1" * 5000 + "}", "v.json: is no JSON: a number has too many digits"),
        ("v.json", '{"a": 1, "a": 2}', 'v.json: the key "a" stands twice in one mapping'),
        ("v.json", "[]", "v.json: must hold settings by section, not a list"),
        ("v.toml", "a = ", "v.toml: is no TOML: Invalid value"),
        ("v.toml", "a = " + "[" * DEEP, "v.toml: is nested too deeply"),
        ("v.toml", "a" + ".a" * DEEP + " = 1", "v.toml: is nested deeper than 64 levels"),
        ("v.toml", "a = " + "1" * 5000, "v.toml: is no TOML: a number or a date is out of range"),
        ("v.toml", "#" * 1_048_577, "v.toml: is longer than 1048576 characters; write JSON"),
        ("v.yaml", "- a\n", "v.yaml: must hold settings by section, not a list"),
        ("v.yaml", "", "v.yaml: holds no Vector configuration"),
        ("v.yaml", "a: [\n", "v.yaml:"),
        ("v.yaml", "[" * DEEP, "v.yaml:1:1001: nested deeper than 64 levels"),
        ("v.yaml", BOMB, "v.yaml:"),
        ("v.yaml", "sources: 5\n", "v.yaml: sources: must hold components by their ids, not a num"),
        (
            "v.yaml",
            "apiVersion: v1\nkind: Pod\n",
            "v.yaml: kind: must be Secret, ConfigMap or",
        ),
        ("v.yaml", "kind: List\n", "v.yaml: items: must be a list"),
        ("v.yaml", "kind: List\nitems: [5]\n", "v.yaml: items[0]: must be a Secret or a ConfigMap"),
        (
            "v.yaml",
            "kind: Secret\ndata: {x.json: '?'}\n",
            'v.yaml: data["x.json"]: is no UTF-8 text in base64',
        ),
        (
            "v.yaml",
            "kind: Secret\ndata: {x.json: /w==}\n",
            'v.yaml: data["x.json"]: is no UTF-8 text in base64',
        ),
        (
            "v.yaml",
            "kind: Secret\nstringData: {x.json: '{'}\n",
            'v.yaml: stringData["x.json"]:1:2: is no JSON',
        ),
        (
            "v.yaml",
            "kind: Secret\nstringData: {x.yaml: 'kind: Secret'}\n",
            'v.yaml: stringData["x.yaml"]: must be a Vector configuration, not a Kubernetes object',
        ),
        ("v.yaml", "kind: Secret\ndata: 5\n", "v.yaml: data: must be a mapping, not a number"),
        (
            "v.yaml",
            "sinks: {a: {type: b}}\n---\nsinks: {a: {type: c}}\n",
            'v.yaml: sinks["a"]: is there twice, and not the same',
        ),
    ],
)
def test_a_file_that_cannot_be_read_says_so(file: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(text, file)
    said = str(raised.value)
    assert said.startswith(message)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("v.yaml", "sinks:\n  a:\n    auth: {user: u, password: 'hunter2}\n"),
        ("v.yaml", 'sinks:\n  a:\n    auth:\n      password: "hunter2\\q"\n'),
        ("v.yaml", "sinks:\n  a:\n    auth:\n      password: hunter2: x\n"),
        ("v.yaml", "sinks:\n  a:\n    auth:\n      password: @hunter2\n"),
        ("v.yaml", "sinks:\n  a:\n    auth:\n      password: *hunter2\n"),
        ("v.yaml", "sinks:\n  a:\n    auth:\n      password: !hunter2 x\n"),
        ("v.yaml", "sinks:\n  a:\n    auth:\n      password: hunter2\n      password: hunter2\n"),
        ("v.json", '{"sinks": {"a": {"auth": {"password": "hunter2}}}}'),
        ("v.json", '{"sinks": {"a": {"auth": {"password": hunter2}}}}'),
        ("v.toml", '[sinks.a.auth]\npassword = "hunter2\n'),
        ("v.toml", "[sinks.a.auth]\npassword = hunter2\n"),
        ("v.toml", '[sinks.a.auth]\npassword = "hunter2"\npassword = "hunter2"\n'),
    ],
)
def test_a_fault_beside_a_password_does_not_show_it(file: str, text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(text, file)
    assert "hunter2" not in str(raised.value)


def test_other_secrets_of_a_list_are_named_and_left_alone() -> None:
    text = yaml.safe_dump_all(
        [
            yaml.safe_load(as_secret(rendered())),
            {"kind": "List", "items": [{"kind": "Secret", "data": {"token": "!"}}]},
        ]
    )
    config = VectorConfig()
    config.add(text, "all.yaml")
    assert import_vector(config.sections) == import_vector(rendered())
    assert [str(note) for note in config.notes] == [
        "all.yaml: items[0]: is not the Secret of a policy (export-policy-vector-config-UID)"
    ]


def test_a_config_map_holds_yaml_as_text() -> None:
    text = yaml.safe_dump(
        {"kind": "ConfigMap", "data": {"vector.yaml": yaml.safe_dump(rendered())}}
    )
    assert imported(text, "map.yaml") == import_vector(rendered())


def test_stdin_may_be_json_with_tabs() -> None:
    assert imported(json.dumps(rendered(), indent="\t"), "stdin") == import_vector(rendered())


def test_files_are_merged_and_the_same_component_may_come_twice() -> None:
    config = VectorConfig()
    config.add(json.dumps({"sources": rendered()["sources"], "api": {"enabled": True}}), "a.json")
    config.add(json.dumps(rendered() | {"api": {"enabled": False}}), "b.json")
    done = import_vector(config.sections)
    assert done.policies == import_vector(rendered()).policies
    assert [str(note) for note in done.notes] == [
        "api: is Vector's own and has no place in an ExportPolicy"
    ]
