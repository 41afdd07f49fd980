"""Every spelling of an ExportPolicy means the same, and no damage to one goes without a place."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import Exporter, ExporterPath
from tests.kit.paths import ROOT

FILES = sorted((ROOT / "tests/data/export_policies").rglob("*.yaml"))
CORPUS = [list(yaml.safe_load_all(file.read_text(encoding="utf-8"))) for file in FILES]

SECRETS = [
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "login"},
        "type": "kubernetes.io/basic-auth",
        "stringData": {"username": "user", "password": "example"},
    },
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "token"},
        "stringData": {"token": "example"},
    },
]

Spell = st.DataObject


def batches() -> st.SearchStrategy[Any]:
    return st.none() | st.fixed_dictionaries(
        {"timeout": st.sampled_from(["100ms", "5s", "1m"]), "maxSize": st.integers(1, 5000)}
    )


def retries() -> st.SearchStrategy[Any]:
    return st.none() | st.fixed_dictionaries(
        {"maxAttempts": st.integers(1, 10), "backoffDuration": st.sampled_from(["1s", "5s", "2m"])}
    )


KINDS = st.tuples(
    st.sampled_from(["", "apps", "gateway.networking.k8s.io", "*"]),
    st.sampled_from(["Gateway", "Deployment", "*"]),
)
SELECTIONS = st.one_of(
    st.just(("all", None)),
    st.tuples(st.just("metricsql"), st.sampled_from(["up", '{job="api"}', '{a="b" or c!~"d.*"}'])),
    st.tuples(st.just("kinds"), st.lists(KINDS, min_size=1, max_size=3)),
)
SINKS = st.fixed_dictionaries(
    {
        "protocol": st.sampled_from(["prometheusRemoteWrite", "openTelemetry"]),
        "authentication": st.sampled_from([None, "basicAuth", "bearer"]),
        "batch": batches(),
        "retry": retries(),
        "sources": st.integers(1, 3),
    }
)
POLICIES = st.fixed_dictionaries(
    {
        "sources": st.lists(SELECTIONS, min_size=1, max_size=3),
        "sinks": st.lists(SINKS, min_size=1, max_size=3),
    }
)
ALIASES = {
    "basicAuth": ["basicAuth", "basic"],
    "bearer": ["bearer", "bearerToken"],
    "backoffDuration": ["backoffDuration", "backoff"],
}


def source_of(number: int, selection: tuple[str, Any], spell: Spell | None) -> dict[str, Any]:
    """Return a source; without ``spell`` in the first spelling of each choice."""
    how, what = selection
    source: dict[str, Any] = {"name": f"source-{number}"}
    if how == "all":
        forms = [{"metrics": {}}, {}, {"metrics": {"metricsql": ""}}, {"metrics": None}]
        forms.append({"metrics": {"metricsql": "{}"}})
        source |= spell.draw(st.sampled_from(forms)) if spell else forms[0]
    elif how == "metricsql":
        source["metrics"] = {"metricsql": what}
    else:
        kinds = [kind_of(group, kind, spell) for group, kind in what]
        source["metrics"] = {"resourceSelectors": [{"kinds": kinds}]}
    return source


def kind_of(group: str, kind: str, spell: Spell | None) -> dict[str, Any]:
    forms = [
        {"group": group, "kind": kind},
        {"apiGroups": [group], "resources": [kind]},
        {"apiGroups": [group], "kind": [kind]},
    ]
    return spell.draw(st.sampled_from(forms)) if spell else forms[0]


def word_of(word: str, spell: Spell | None) -> str:
    return spell.draw(st.sampled_from(ALIASES[word])) if spell else word


def sink_of(number: int, wanted: dict[str, Any], names: list[str], spell: Spell | None) -> Any:
    target: dict[str, Any] = {}
    if wanted["protocol"] == "openTelemetry":
        target["http"] = {"endpoint": "https://otlp.example.com/otlp"}
    else:
        target["endpoint"] = "https://prometheus.example.com/api/v1/write"
    if wanted["authentication"]:
        secret = "login" if wanted["authentication"] == "basicAuth" else "token"
        word = word_of(wanted["authentication"], spell)
        target["authentication"] = {word: {"secretRef": {"name": secret}}}
    sink: dict[str, Any] = {"name": f"sink-{number}", "sources": names[: wanted["sources"]]}
    beside = spell.draw(st.booleans()) if spell else False
    for field, given_ in (("batch", wanted["batch"]), ("retry", wanted["retry"])):
        if given_ is None:
            continue
        values = {
            (word_of(key, spell) if key == "backoffDuration" else key): value
            for key, value in given_.items()
        }
        if spell and spell.draw(st.booleans()):
            values["enabled"] = True
        holder = sink if spell and spell.draw(st.booleans()) else target
        holder[field] = values
    if beside:
        sink[wanted["protocol"]] = target
        if sink["sources"] == names and spell and spell.draw(st.booleans()):
            del sink["sources"]
    else:
        sink["target"] = {wanted["protocol"]: target}
    return sink


def document_of(policy: dict[str, Any], spell: Spell | None) -> dict[str, Any]:
    sources = [source_of(n, one, spell) for n, one in enumerate(policy["sources"])]
    names = [one["name"] for one in sources]
    groups = ["telemetry.miloapis.com/v1alpha1", "telemetry.datumapis.com/v1alpha1"]
    return {
        "apiVersion": spell.draw(st.sampled_from(groups)) if spell else groups[0],
        "kind": "ExportPolicy",
        "metadata": {"name": "example"},
        "spec": {
            "sources": sources,
            "sinks": [sink_of(n, one, names, spell) for n, one in enumerate(policy["sinks"])],
        },
    }


def model_of(file: Path, document: dict[str, Any]) -> Exporter:
    """Return the model of a policy, without the texts of its queries."""
    file.write_text(yaml.safe_dump_all([*SECRETS, document], sort_keys=False))
    result = load_exporters([ExporterPath(file)])
    assert result.faults == ()
    (exporter,) = result.exporters
    return replace(exporter, sources=tuple(replace(one, query="") for one in exporter.sources))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(policy=POLICIES, spell=st.data())
def test_every_spelling_is_the_same_model(
    tmp_path: Path, policy: dict[str, Any], spell: st.DataObject
) -> None:
    plain = model_of(tmp_path / "plain.yaml", document_of(policy, None))
    spelt = model_of(tmp_path / "spelt.yaml", document_of(policy, spell))
    assert spelt == plain
    assert plain.id == "default/ExportPolicy/example"


VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 5.5, "", "a", "5s", "{}", "Ä", [], {}, [None], ["a", "a"], {"a": {}}]
)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of everything in a value."""
    found = [path]
    pairs = value.items() if isinstance(value, dict) else ()
    pairs = enumerate(value) if isinstance(value, list) else pairs
    for key, one in pairs:
        found += places_in(one, (*path, key))
    return found


def mutate(documents: list[Any], data: st.DataObject) -> None:
    """Replace, remove, rename, copy or add one thing in place."""
    places = [path for path in places_in(documents) if len(path) > 1]
    *above, last = data.draw(st.sampled_from(places))
    holder: Any = documents
    for step in above:
        holder = holder[step]
    other: Any = documents
    how = data.draw(st.sampled_from(["replace", "remove", "rename", "copy", "add"]))
    if how == "remove":
        del holder[last]
    elif how == "rename" and isinstance(holder, dict):
        holder[data.draw(st.sampled_from([f"{last}x", str(last).upper(), "kind", "x"]))] = (
            holder.pop(last)
        )
    elif how == "copy":
        for step in data.draw(st.sampled_from(places)):
            other = other[step]
        holder[last] = copy.deepcopy(other)
    elif how == "add" and isinstance(holder[last], dict):
        word = data.draw(st.sampled_from(["batch", "target", "basic", "group", "sources", "logs"]))
        holder[last][word] = copy.deepcopy(data.draw(VALUES))
    else:
        holder[last] = copy.deepcopy(data.draw(VALUES))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_mutated_policy_gives_exporters_or_faults_with_a_place(
    tmp_path: Path, data: st.DataObject
) -> None:
    documents = copy.deepcopy(data.draw(st.sampled_from(CORPUS)))
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(documents, data)
    file = tmp_path / "f.yaml"
    # JSON is YAML, and has no aliases for what was copied.
    file.write_text("\n---\n".join(json.dumps(one, indent=1) for one in documents))
    result = load_exporters([ExporterPath(file)])
    for fault in (*result.faults, *result.warnings):
        assert fault.message
        assert "bug in the relay" not in fault.message
        assert fault.origin.startswith(f"{file}:")
        assert fault.place >= (1, 1)
    for exporter in result.exporters:
        names = [sink.name for sink in exporter.sinks] + [one.name for one in exporter.refused]
        assert len(set(names)) == len(names)
        known = {source.name for source in exporter.sources}
        assert all(set(sink.sources) <= known for sink in exporter.sinks)
        assert all(one.message for one in exporter.refused)
