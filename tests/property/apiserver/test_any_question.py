"""Any spec of a kind that can only be created: a Status or an answer, and never a bug.

Whatever is asked in one project, no series and no exporter of the other one is in the answer.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.control.sink_test.service import WINDOW_S, TestLimits
from tests.kit.apiserver.any_json import json_values, text
from tests.kit.apiserver.projects import (
    NEIGHBOUR,
    ActingApi,
    acting_api,
    action,
    exporter,
    path_of,
)
from tests.kit.apiserver.running import EDITOR

KINDS = ("ExporterPreview", "SinkTest", "SeriesExplanation")
ENDPOINTS = ("http://127.0.0.1:1", "https://[::1]", "http://localhost:1", "ftp://x", "", "http://")
QUERIES = (
    "{}",
    "up",
    'up{job=~"(a|b)*"}',
    'up{tenant="globex"}',
    "{",
    '{tenant=~".*"}',
    "up or down",
)
NAMES = ("web", "idle", NEIGHBOUR, f"globex/default/{NEIGHBOUR}", "ExportPolicy/web", "../x", "")

manifests = st.builds(
    exporter,
    st.sampled_from(["web", "x", "", "?"]),
    st.sampled_from(QUERIES),
    st.sampled_from(ENDPOINTS),
)


@st.composite
def changed(draw: st.DrawFn, values: st.SearchStrategy[dict[str, Any]]) -> Any:
    """An object with something else at some places."""
    value = json.loads(json.dumps(draw(values)))
    for _ in range(draw(st.integers(0, 2))):
        at: Any = value
        while isinstance(at, dict | list) and at:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = draw(st.sampled_from(keys))
            if draw(st.booleans()) or not isinstance(at[key], dict | list):
                at[key] = draw(json_values)
                break
            at = at[key]
    return value


def otlp(resources: str, scopes: str, field: str, record: dict[str, Any]) -> dict[str, Any]:
    """A request with one record of one resource."""
    named = {"attributes": [{"key": "service.name", "value": {"stringValue": "a"}}]}
    return {resources: [{"resource": named, scopes: [{field: [record]}]}]}


LINE = {"severityNumber": 9, "body": {"stringValue": "x"}, "attributes": [{"key": "a"}]}
SPAN = {"traceId": "00" * 16, "spanId": "01" * 8, "name": "x", "links": [{"traceId": "02" * 16}]}
records = changed(
    st.sampled_from(
        (
            otlp("resourceLogs", "scopeLogs", "logRecords", LINE),
            otlp("resourceSpans", "scopeSpans", "spans", SPAN),
            LINE,
            SPAN,
        )
    )
)
some_records = st.one_of(
    records, st.lists(records, max_size=3), records.map(json.dumps), text, json_values
)
signals = st.sampled_from(("logs", "traces", "metrics"))
sinks = manifests.map(lambda one: one["spec"]["sinks"][0])
series = st.sampled_from(
    ('up{job="a"}', 'up{tenant="globex"}', f"{NEIGHBOUR}_x", "up{", '{a="b"}', "ü{}")
)
labels = st.dictionaries(
    st.sampled_from(("__name__", "tenant", "job", "vm_account_id")),
    st.one_of(text, st.sampled_from(("globex", "acme"))),
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "exporter": st.one_of(st.sampled_from(NAMES), changed(manifests), json_values),
        "sink": st.one_of(st.sampled_from(("one", "two")), changed(sinks), json_values),
        "series": st.one_of(series, text, json_values),
        "labels": st.one_of(labels, json_values),
        "signal": st.one_of(signals, json_values),
        "records": some_records,
        "measureSeconds": st.one_of(st.just(0), st.integers(-1, 0), text),
        "all": st.one_of(st.booleans(), json_values),
    },
)


plain = st.one_of(
    series.map(lambda one: {"series": one}),
    labels.map(lambda one: {"labels": one}),
    st.tuples(signals, some_records).map(lambda one: {"signal": one[0], "records": one[1]}),
    st.one_of(manifests, st.sampled_from(NAMES)).map(lambda one: {"exporter": one}),
    sinks.map(lambda one: {"sink": one}),
)


class Asked:
    """The API on a loop of its own."""

    def __init__(self, folder: Path) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.api: ActingApi = self._runner.run(self._start(folder))

    async def _start(self, folder: Path) -> ActingApi:
        api = await self._stack.enter_async_context(acting_api(folder, private=False))
        ticks = itertools.count(0.0, WINDOW_S)
        api.projects.tools.test._limits = TestLimits(lambda: next(ticks))
        await api.store(exporter("web", "up"))
        await api.store(exporter("idle", "{}"))
        return api

    def ask(self, kind: str, spec: Any, metadata: Any) -> tuple[int, dict[str, Any]]:
        """Create an object."""
        body = {**action(kind, spec), "metadata": metadata}
        path = f"{path_of(kind)}?fieldValidation=Ignore"
        return self._runner.run(self.api.user(EDITOR).ask("POST", path, body))

    def close(self) -> None:
        """Stop the API."""
        self._runner.run(self._stack.aclose())
        self._runner.close()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    found = Asked(tmp_path_factory.mktemp("api"))
    yield found
    found.close()


@pytest.mark.parametrize("kind", KINDS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(spec=st.one_of(plain, specs, json_values))
def test_any_spec(asked: Asked, kind: str, spec: Any) -> None:
    if isinstance(spec, dict):
        spec.setdefault("measureSeconds", 0)
    code, answer = asked.ask(kind, spec, {})
    assert code in (201, 400, 422), answer
    said = json.dumps(answer["status"] if code == 201 else answer)
    assert f"{NEIGHBOUR}_0" not in said
    if code == 201:
        assert answer["kind"] == kind
        assert answer["status"]
        assert NEIGHBOUR not in json.dumps(answer["status"]).replace(f"{NEIGHBOUR}_x", "")
        return
    assert (answer["kind"], answer["status"], answer["code"]) == ("Status", "Failure", code)
    assert answer["message"]
    if code == 422:
        assert all(one["field"] for one in answer["details"]["causes"]), answer


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    metadata=st.one_of(
        json_values,
        st.dictionaries(
            st.sampled_from(
                (
                    "name",
                    "generateName",
                    "labels",
                    "annotations",
                    "namespace",
                    "finalizers",
                    "ownerReferences",
                )
            ),
            json_values,
        ),
    )
)
def test_any_metadata(asked: Asked, metadata: Any) -> None:
    code, answer = asked.ask("SeriesExplanation", {"series": "up"}, metadata)
    assert code in (201, 400, 422), answer
    if code == 201:
        assert answer["metadata"]["namespace"] == "default"
        assert answer["status"]["series"] == "up{}"
