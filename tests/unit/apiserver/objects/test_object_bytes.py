"""A status is put into an object's JSON without reading the rest; the typed merge is the oracle."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from relay.apiserver.merging.typed_values import merge
from relay.apiserver.objects.kinds import served_kinds
from relay.apiserver.objects.object_bytes import metadata_of, overlaid, status_of, with_status
from relay.apiserver.objects.table import row, shows_status_alone

encode = msgspec.json.Encoder(order="sorted").encode
EXPORTER = next(kind for kind in served_kinds() if kind.kind == "Exporter")
OBJECT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Any",
    "metadata": {"name": "a", "annotations": {"status": '"status":{}}'}},
    "spec": {"status": {}},
}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"status": {}},
        {"status": {"conditions": [{"type": "A"}]}},
        {"status": {}, "zone": {}},
        {"status": {}, "zone": {"status": {}}},
        {"zone": {"status": {}}},
        {"status": {"status": {}}},
    ],
    ids=str,
)
def test_only_the_status_is_another_one(more: dict[str, Any]) -> None:
    shown = encode({**OBJECT, **more})
    status = {"usage": {"activeSeries": 7}, "words": 'a "quoted" } brace'}
    made = with_status(shown, encode(status))
    assert made == encode({**OBJECT, **more, "status": status})
    assert status_of(shown) == more.get("status", {})
    assert msgspec.json.decode(metadata_of(shown)) == OBJECT["metadata"]


def conditions(random: Random) -> list[dict[str, Any]]:
    return [
        {"type": name, "status": random.choice(("True", "False")), "reason": "R", "message": ""}
        for name in ("Accepted", "Programmed")
    ]


def figures(random: Random) -> dict[str, Any]:
    names = random.sample(["a", "b", "c"], random.randint(0, 3))
    found: dict[str, Any] = {"usage": {"activeSeries": random.randint(0, 9)}}
    if names:
        found["sinks"] = [
            {"name": one, "ledger": {"matched": random.randint(0, 9)}} for one in names
        ]
    if random.random() < 0.5:
        found["sources"] = [{"name": "s", "usage": {"activeSeries": random.randint(0, 9)}}]
    return found


@pytest.mark.parametrize("seed", range(50))
def test_figures_are_put_over_as_the_typed_merge_does(seed: int) -> None:
    random = Random(seed)
    stored: dict[str, Any] = {"conditions": conditions(random)}
    if random.random() < 0.8:
        names = random.sample(["a", "b", "c"], random.randint(1, 3))
        stored["sinks"] = [{"name": one, "conditions": conditions(random)} for one in names]
    before, computed = encode(stored), figures(random)
    made = overlaid(stored, computed)
    merged = merge(EXPORTER.field_type, {"status": stored}, {"status": computed})["status"]
    assert in_order(made) == in_order(merged)
    assert [one["name"] for one in made.get("sinks", ())][: len(stored.get("sinks", ()))] == [
        one["name"] for one in stored.get("sinks", ())
    ]
    assert encode(stored) == before


def in_order(status: dict[str, Any]) -> dict[str, Any]:
    sinks = sorted(status.get("sinks", ()), key=lambda one: str(one["name"]))
    return {**status, "sinks": sinks}


def test_lists_without_names_are_replaced() -> None:
    assert overlaid({"a": [1, 2]}, {"a": [3]}) == {"a": [3]}
    assert overlaid({"a": [{"name": "x"}, {"name": "x"}]}, {"a": []}) == {"a": []}
    assert overlaid({"a": 1, "b": {"c": 2}}, {"a": {"d": 3}}) == {"a": {"d": 3}, "b": {"c": 2}}


def test_rows_of_custom_kinds_show_nothing_of_the_spec() -> None:
    for kind in served_kinds():
        assert shows_status_alone(kind) is kind.is_custom
        if kind.is_custom:
            value = {"metadata": {"name": "a"}, "status": {"usage": {"activeSeries": 7}}}
            found = row(kind, value, 0.0, "None")
            assert found == row(kind, {**value, "spec": {"sinks": []}}, 0.0, "None")
            assert 7 in found["cells"]
