"""Generated configurations of the operator come out as manifests with the same values."""

from __future__ import annotations

import base64
import contextlib
import copy
import io
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hypothesis import given
from hypothesis import strategies as st

from relay.cli.import_vector.convert import import_vector
from relay.cli.import_vector.federation_selector import PROJECT_LABEL
from relay.cli.import_vector.manifest_files import rendered
from relay.cli.import_vector.vector_file import VectorConfig
from relay.cli.main import main
from relay.config.yaml.document import parse_documents
from relay.runtime.errors import ConfigError
from relay.selector.evaluate import compile_selector, render_selector
from relay.selector.matchers import NAME, Matcher, Selector
from relay.selector.metricsql.parser import parse_query, parse_selector

SENTINEL = "hunter2"

Group = tuple[Matcher, ...]

names = st.from_regex(r"[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
labels = st.one_of(
    st.sampled_from(["job", "or", "OR", "a", NAME, PROJECT_LABEL]),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=5),
)
texts = st.text(st.characters(codec="utf-8"), max_size=10)
patterns = st.sampled_from(["", ".*", "a|b", "x.+", "[0-9]+", "é"])
matchers = st.one_of(
    st.builds(Matcher, labels, st.sampled_from(["=", "!="]), texts),
    st.builds(Matcher, labels, st.sampled_from(["=~", "!~"]), patterns),
)


def has_one_name(group: list[Matcher]) -> bool:
    """Whether a group is one that MetricsQL accepts."""
    return sum(one.label == NAME and one.op == "=" for one in group) <= 1


groups = st.lists(matchers, max_size=3).filter(has_one_name).map(tuple)
selectors = st.lists(st.lists(groups, min_size=1, max_size=2), min_size=1, max_size=3)
passwords = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda text: text[-1] not in "\r\n"
)
users = passwords.map(lambda text: text.replace(":", "."))


class Sink(NamedTuple):
    """One sink of a policy."""

    sources: list[str]
    credentials: tuple[str, str] | None
    batch: tuple[int, int] | None
    """Seconds and events."""
    retry: tuple[int, int] | None
    """Attempts and seconds."""


class Policy(NamedTuple):
    """One policy of the operator."""

    sources: dict[str, list[list[Group]]]
    """Groups of each ``match[]``, by name."""
    sinks: dict[str, Sink]


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """A policy with one or more sources and sinks."""
    sources = draw(st.dictionaries(names, selectors, min_size=1, max_size=3))
    sink = st.builds(
        Sink,
        st.lists(st.sampled_from(sorted(sources)), min_size=1, unique=True),
        st.none() | st.tuples(users, passwords),
        st.none() | st.tuples(st.integers(1, 600), st.integers(1, 5000)),
        st.none() | st.tuples(st.integers(1, 10), st.integers(1, 3600)),
    )
    return Policy(sources, draw(st.dictionaries(names, sink, min_size=1, max_size=3)))


operators = st.dictionaries(st.tuples(names, names, names), policies(), min_size=1, max_size=3)


def vector_text(text: str) -> str:
    """A text as Vector wants it."""
    return text.replace("$", "$$")


def match_of(project: str, given_groups: list[Group]) -> str:
    """A selector with the project's matcher in each group, as the operator writes it."""
    mine = Matcher(PROJECT_LABEL, "=", project)
    return render_selector(Selector(tuple((*group, mine) for group in given_groups)))


def config_of(operator: dict[tuple[str, str, str], Policy]) -> dict[str, Any]:
    """The configuration that the operator renders of policies."""
    config: dict[str, Any] = {"sources": {}, "sinks": {}}
    for (project, namespace, name), policy in operator.items():
        owner = f"export-policy:{project}:{namespace}:{name}:6f1c2d1e"
        for source, given_selectors in policy.sources.items():
            config["sources"][f"{owner}:{source}-source"] = {
                "type": "prometheus_scrape",
                "endpoints": ["http://vmauth:8427/federate"],
                "auth": {"strategy": "basic", "user": "vector", "password": SENTINEL},
                "query": {
                    "match[]": [vector_text(match_of(project, one)) for one in given_selectors]
                },
            }
        for sink, one in policy.sinks.items():
            component: dict[str, Any] = {
                "type": "prometheus_remote_write",
                "inputs": [f"{owner}:{source}-source" for source in one.sources],
                "endpoint": "https://mimir.example.com/api/v1/push",
            }
            if one.credentials:
                user, password = map(vector_text, one.credentials)
                component["auth"] = {"strategy": "basic", "user": user, "password": password}
            if one.batch:
                component["batch"] = dict(
                    zip(("timeout_secs", "max_events"), one.batch, strict=True)
                )
            if one.retry:
                keys = ("retry_attempts", "retry_initial_backoff_secs")
                component["request"] = dict(zip(keys, one.retry, strict=True))
            config["sinks"][f"{owner}:{sink}-sink"] = component
    return config


def takes(selector: Selector, series: dict[str, str]) -> bool:
    """Whether a selector takes a series."""
    return compile_selector(selector).matches(series)


@given(operators, st.data())
def test_manifests_have_the_values_of_the_configuration(
    operator: dict[tuple[str, str, str], Policy], data: st.DataObject
) -> None:
    config = config_of(operator)
    read = VectorConfig()
    read.add(json.dumps(config), "v.json")
    done = import_vector(read.sections)
    assert done.notes == (), [str(note)[-200:] for note in done.notes]
    assert [(one.project, one.namespace, one.name) for one in done.policies] == list(operator)
    for (owner, policy), made in zip(operator.items(), done.policies, strict=True):
        text = rendered([made])
        assert SENTINEL not in text
        # As the relay itself reads manifests.
        documents = [one.value for one in parse_documents(text, "m.yaml")]
        assert documents == list(made.documents) == list(yaml.safe_load_all(text))
        *secrets, manifest = documents
        by_name = {one["metadata"]["name"]: one["stringData"] for one in secrets}
        spec = manifest["spec"]
        assert [one["name"] for one in spec["sources"]] == list(policy.sources)
        assert [one["name"] for one in spec["sinks"]] == list(policy.sinks)
        for sink, made_sink in zip(policy.sinks.values(), spec["sinks"], strict=True):
            check_sink(sink, made_sink, by_name)
        for given_selectors, source in zip(policy.sources.values(), spec["sources"], strict=True):
            check_selector(owner[0], given_selectors, source["metrics"]["metricsql"], data)


def check_sink(sink: Sink, made: dict[str, Any], secrets: dict[str, Any]) -> None:
    """Compare a sink with its manifest."""
    target = made["target"]["prometheusRemoteWrite"]
    assert made["sources"] == sink.sources
    if sink.credentials is None:
        assert "authentication" not in target
    else:
        name = target["authentication"]["basicAuth"]["secretRef"]["name"]
        user, password = sink.credentials
        assert secrets[name] == {"username": user, "password": password}
    assert target.get("batch") == (
        sink.batch and {"timeout": f"{sink.batch[0]}s", "maxSize": sink.batch[1]}
    )
    assert target.get("retry") == (
        sink.retry and {"maxAttempts": sink.retry[0], "backoffDuration": f"{sink.retry[1]}s"}
    )


def check_selector(
    project: str, selectors_given: list[list[Group]], text: str, data: st.DataObject
) -> None:
    """Compare what the ``match[]`` and the manifest's selector take of the project's series."""
    # As VictoriaMetrics reads each of them: a name on which groups agree is lent to the others.
    meant = [parse_query(match_of(project, one)) for one in selectors_given]
    made = parse_selector(text)
    used = {m.label: m.value for one in meant for group in one.groups for m in group}
    value = st.sampled_from(["", "a", "b", "x1", *used.values()])
    for _ in range(3):
        series = {label: data.draw(value) for label in used} | {PROJECT_LABEL: project}
        assert takes(made, series) == any(takes(one, series) for one in meant), (series, text)


HOSTILE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**300, 10**301)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["prometheus_scrape", "basic", "${X}", "SECRET[a.b]", "\ud800", "a:b"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def places(value: object) -> list[tuple[Any, Any]]:
    """Every (container, key) in a value."""
    found: list[tuple[Any, Any]] = []
    entries: Any = ()
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, list):
        entries = enumerate(value)
    for key, one in entries:
        found += [(value, key), *places(one)]
    return found


@given(operators, st.data())
def test_nothing_in_a_configuration_is_a_crash_or_shows_a_password(
    operator: dict[tuple[str, str, str], Policy], data: st.DataObject
) -> None:
    config = copy.deepcopy(config_of(operator))
    for sink in config["sinks"].values():
        sink["auth"] = {"strategy": "basic", "user": "u", "password": SENTINEL}
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(config)))
        container[key] = data.draw(HOSTILE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "v.json")
        path.write_text(json.dumps(config))
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(["import", "vector", str(path)])
    assert status in (0, 1, 2)
    assert SENTINEL not in err.getvalue()
    assert all(line.isprintable() for line in err.getvalue().splitlines())
    faulty = any(line.startswith("fault ") for line in err.getvalue().splitlines())
    assert bool(out.getvalue()) == (status == 0 or faulty)
    assert not (faulty and status == 0)
    for document in parse_documents(out.getvalue(), "m.yaml"):
        assert not document.faults


@given(st.binary(max_size=200), st.sampled_from(["json", "toml", "yaml", "data"]))
def test_any_bytes_are_read_or_refused_in_one_line(content: bytes, kind: str) -> None:
    text = content.decode(errors="replace")
    if kind == "data":
        encoded = base64.b64encode(content).decode()
        kind, text = "yaml", f"kind: Secret\ndata: {{x: {encoded}}}\n"
    try:
        VectorConfig().add(text, f"v.{kind}")
    except ConfigError as error:
        (fault,) = error.faults
        assert "\n" not in str(fault)
