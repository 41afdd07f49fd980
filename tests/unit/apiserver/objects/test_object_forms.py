"""Ages, cells, JSONPath; bodies with repeated fields; the schemas that are served."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from relay.apiserver.objects.field_checks import UnreadableBodyError, read_json
from relay.apiserver.objects.kinds import served_kinds
from relay.apiserver.objects.table import cells, duration, found_at
from tests.kit.apiserver.running import exporter
from tests.kit.paths import ROOT

KINDS = {kind.storage_key: kind for kind in served_kinds()}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (11000, "3h3m"),
        (28800, "8h"),
        (172800, "2d"),
        (190000, "2d4h"),
        (700000, "8d"),
        (63072000, "2y"),
        (65000000, "2y22d"),
        (300000000, "9y"),
    ],
)
def test_durations_are_kubectls(seconds: int, said: str) -> None:
    assert duration(seconds) == said


def test_jsonpath() -> None:
    value = {"a": [{"type": "X", "v": 1}, {"type": "Y", "v": 2}], "b": {"c": "d"}}
    assert found_at(value, ".b.c") == "d"
    assert found_at(value, '.a[?(@.type=="Y")].v') == 2
    assert found_at(value, ".a[1].type") == "Y"
    assert found_at(value, ".a[7].type") is None
    assert found_at(value, ".b['c']") == "d"


def test_every_column_can_be_shown() -> None:
    value: dict[str, Any] = exporter(creationTimestamp="1970-01-01T00:00:00Z")
    for kind in KINDS.values():
        assert len(cells(kind, value, 60.0)) >= len(kind.columns)
    value["status"] = {"conditions": [{"type": "Accepted", "status": "True"}]}
    kind = KINDS["exporters.telemetry.datumapis.com"]
    names = ["Name", *(column.name for column in kind.columns)]
    row = dict(zip(names, cells(kind, value, 60.0), strict=True))
    assert (row["Name"], row["Accepted"], row["Age"]) == ("acme", "True", "60s")


def test_repeated_fields_are_found_with_their_paths() -> None:
    value, paths = read_json(b'{"a":1,"b":[{"c":1,"c":2}],"a":3}')
    assert value == {"a": 3, "b": [{"c": 2}]}
    assert paths == ["a", "b[0].c"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\\ud800"}',
        b"[" * 100_000,
        b"[" * 300 + b"]" * 300,
    ],
)
def test_what_cannot_be_stored_is_not_read(body: bytes) -> None:
    with pytest.raises(UnreadableBodyError):
        read_json(body)


def test_schemas_are_those_of_the_definitions() -> None:
    for kind in KINDS.values():
        if not kind.is_custom:
            continue
        file = ROOT / f"config/crds/{kind.storage_key}.yaml"
        crd = yaml.safe_load(file.read_text())["spec"]
        (version,) = crd["versions"]
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        assert kind.node["properties"]["spec"] == spec
        assert [column.name for column in kind.columns] == [
            column["name"] for column in version["additionalPrinterColumns"]
        ]


def test_what_matches_of_each_signal_is_shown_without_wide_columns() -> None:
    for kind in KINDS.values():
        if kind.is_custom:
            shown = [one.name for one in kind.columns if not one.priority]
            assert shown[-3:] == ["Series", "Records/min", "Age"]
