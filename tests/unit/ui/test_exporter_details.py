"""The page of one exporter, made of what the API has."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.apiserver.merging.json_patch import json_patched
from relay.control.status.sink_history import HistoryMinute
from relay.ui.pages.exporter import commands_of
from relay.ui.views.exporter_details import (
    SinkChart,
    chart_of,
    details_of,
    events_of,
    kubectl_command,
    ledger_picture,
    pause_patch,
)
from tests.kit.apiserver.running import exporter
from tests.kit.ui.visitor import ready

CHANGES = ["Edit it", "Pause one"]
FIELDS = ("delivered", "rejected", "expired", "dropped", "queued")


@given(st.dictionaries(st.sampled_from(FIELDS), st.integers(0, 10**15)))
def test_the_parts_of_a_ledger_fill_the_bar(ledger: dict[str, int]) -> None:
    total = sum(ledger.values())
    picture = ledger_picture({**ledger, "matched": total})
    assert picture.is_balanced
    assert sum(part.width for part in picture.parts) == (1000 if total else 0)
    x = 0
    for part in picture.parts:
        assert part.x == x
        assert (part.width > 0) == (part.points > 0)
        x += part.width


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)
STATUS = st.fixed_dictionaries(
    {},
    optional={
        "conditions": JSON | st.lists(st.fixed_dictionaries({"type": JSON, "status": JSON})),
        "sinks": JSON
        | st.lists(st.fixed_dictionaries({"name": JSON, "ledger": JSON, "lastError": JSON})),
        "sources": JSON,
        "usage": JSON,
    },
)


@given(STATUS)
def test_a_status_of_any_shape_is_shown(status: dict[str, Any]) -> None:
    value = {**exporter("acme", namespace="default"), "status": status}
    details = details_of(value)
    assert details.sinks[0].name == "one"
    assert details.state.word


def test_a_sink_has_its_part_of_the_status() -> None:
    status = ready()
    status["sinks"] = [
        {
            "name": "one",
            **ready("Failing", "False", "HTTP 401"),
            "lastSuccess": "2026-11-29T07:00:00Z",
            "lastError": {"time": "2026-11-29T07:10:00Z", "message": "HTTP 401"},
            "ledger": {"matched": 3, "delivered": 1, "queued": 2},
            "usage": {"bytesPerMinute": 9, "x": "y"},
        }
    ]
    status["sources"] = [{"name": "all", "usage": {"activeSeries": 4, "samplesPerMinute": 8}}]
    details = details_of({**exporter("acme", namespace="default"), "status": status})
    (sink,) = details.sinks
    assert (sink.kind, sink.endpoint) == ("OTLP over HTTP", "https://otlp.example")
    assert (sink.state.word, sink.last_error, sink.usage) == (
        "Failing",
        "HTTP 401",
        {"bytesPerMinute": 9},
    )
    assert sink.ledger is not None
    assert [part.points for part in sink.ledger.parts] == [1, 2, 0, 0, 0]
    (source,) = details.sources
    assert (source.selector, source.series, source.share) == ("{}", 4, (8.0, 8.0))


def test_a_sink_has_a_ledger_for_each_signal() -> None:
    value = exporter("acme", namespace="default")
    (sink,) = value["spec"]["sinks"]
    value["spec"]["sources"] = [
        {"name": "all", "metrics": {"metricsql": "{}"}},
        {
            "name": "logs",
            "logs": {
                "minSeverity": "WARN",
                "categories": ["access", "audit"],
                "redact": [{"attribute": "user", "action": "drop"}],
            },
        },
        {"name": "spans", "traces": {"selector": '{a="b"}', "sampleRatio": 0.25, "keep": "trace"}},
    ]
    value["spec"]["sinks"] = [sink, {**sink, "name": "two", "sources": ["spans"]}]
    told = {"signal": "logs", "ledger": {"matched": 5, "delivered": 3, "queued": 2}}
    value["status"] = {
        "usage": {"samplesPerMinute": 180, "recordsPerMinute": 40},
        "sinks": [{"name": "one", "ledger": {"matched": 1}, "signals": [told]}],
        "sources": [
            {"name": "all", "usage": {"activeSeries": 2, "samplesPerMinute": 60}},
            {"name": "logs", "usage": {"activeSeries": 0, "recordsPerMinute": 30}},
            {"name": "spans", "usage": {"recordsPerMinute": 10}},
        ],
    }
    details = details_of(value)
    one, two = details.sinks
    assert [(out.name, out.unit, out.suffix) for out in one.outputs] == [
        ("one", "points", ""),
        ("one/logs", "log records", "-logs"),
        ("one/traces", "spans", "-traces"),
    ]
    assert [out.ledger and out.ledger.matched for out in one.outputs] == [1, 5, None]
    assert details.waiting == {"log records": 2}
    assert [(out.name, out.suffix) for out in two.outputs] == [("two/traces", "")]
    _, logs, spans = details.sources
    assert logs.everything == "every log record"
    assert [one.per_minute for one in details.sources] == [60, 30, 10]
    assert [one.series for one in details.sources] == [2, None, None]
    assert [one.share for one in details.sources] == [(60.0, 60.0), (30.0, 30.0), (10.0, 10.0)]
    assert [one.counts for one in details.sources] == ["samples", "log records", "spans"]
    assert details.rates == (("Samples", 180), ("Log records and spans", 40))
    assert logs.asks == ("category access or audit", "severity WARN or more", "drops user")
    assert (spans.selector, spans.asks) == (
        '{a="b"}',
        ("25 % of all traces", "every span of a trace, or none"),
    )


def test_sinks_and_sources_of_policies_are_shown() -> None:
    value = {
        "apiVersion": "telemetry.miloapis.com/v1alpha1",
        "kind": "ExportPolicy",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {
            "sources": [{"name": "s", "logs": {"resourceSelectors": [{"kinds": []}]}}],
            "sinks": [
                {
                    "name": "g",
                    "sources": ["s"],
                    "target": {"prometheusRemoteWrite": {"endpoint": "https://prom.example/w"}},
                }
            ],
        },
    }
    details = details_of(value)
    assert details.sinks[0].endpoint == "https://prom.example/w"
    assert (details.sources[0].signal, details.sources[0].selector) == ("logs", "")
    assert details.sources[0].resources == ("Resources of any kind, in this namespace",)


def test_resource_selectors_are_told_in_words() -> None:
    value = exporter("acme", namespace="default")
    among = {"key": "tier", "operator": "In", "values": ["a", "b"]}
    value["spec"]["sources"][0] = {
        "name": "one",
        "logs": {
            "resourceSelectors": [
                {"namespaceSelector": {}, "kinds": [{"group": "g.example", "kind": "Gateway"}]},
                {
                    "namespaceSelector": {"matchLabels": {"e": "p"}},
                    "labelSelectors": {"matchExpressions": [among]},
                    "kinds": [{"apiGroups": ["", "g"], "resources": ["pods", "nodes"]}],
                },
                "?",
            ]
        },
    }
    (source,) = details_of(value).sources
    assert source.resources == (
        "Resources of kind Gateway (g.example), in any namespace, or none",
        "Resources of kind pods or nodes (core or g), with tier in (a, b), in namespaces with e=p",
    )


def test_a_pause_is_refused_where_another_sink_is_at_its_place() -> None:
    value = exporter("acme")
    paused = json_patched(value, pause_patch(0, "one", paused=True))
    assert paused["spec"]["sinks"][0]["paused"] is True
    assert pause_patch(0, "one", paused=True)[0] == {
        "op": "test",
        "path": "/spec/sinks/0/name",
        "value": "one",
    }


def test_events_are_those_of_the_object_the_newest_first() -> None:
    def event(uid: str, at: str, reason: str) -> dict[str, Any]:
        return {
            "involvedObject": {"uid": uid},
            "lastTimestamp": at,
            "reason": reason,
            "type": "Normal",
        }

    listed = {
        "items": [
            event("a", "2026-11-29T07:00:00Z", "old"),
            event("b", "2026-11-29T07:01:00Z", "other"),
            event("a", "2026-11-29T07:02:00Z", "new"),
            {"involvedObject": 3},
        ]
    }
    assert [one.reason for one in events_of(listed, "a")][:2] == ["new", "old"]


def test_commands_are_quoted_for_a_shell() -> None:
    command = kubectl_command("patch", "exporter", "a b", "-p", "it's", namespace="team")
    assert shlex.split(command) == [
        "kubectl",
        "-n",
        "team",
        "patch",
        "exporter",
        "a b",
        "-p",
        "it's",
    ]
    assert kubectl_command("get", "x", namespace="default") == "kubectl get x"


def test_a_chart_has_rates_and_means() -> None:
    chart = SinkChart((HistoryMinute(60.0, 120.0, 4, 2.0), HistoryMinute(120.0, 0.0, 0, 0.0)))
    assert json.loads(chart.data) == [[60, 120], [2.0, 0.0], [0.5, None]]
    assert (chart.mean_rate, chart.mean_request_s) == (1.0, 0.5)
    assert chart.line == "0.0,4.0 600.0,98.0"
    assert chart_of(None).line == ""
    assert chart_of(None).mean_request_s is None


def failing(said: str, last_error: str = "", **more: Any) -> dict[str, Any]:
    """An Exporter whose sink fails with these words."""
    value = exporter("acme", namespace="default")
    value["spec"]["sinks"][0]["otlp_http"]["authentication"] = {
        "type": "bearerToken",
        "secretRef": {"name": "tok"},
    }
    sink = {"name": "one", **ready("Failing", "False", said), "lastError": {"message": last_error}}
    return {**value, "status": {**ready("Failing", "False"), "sinks": [{**sink, **more}]}}


def test_the_endpoints_words_are_apart_from_what_to_do() -> None:
    (sink,) = details_of(failing("HTTP 401: bad: check secret a/tok", "HTTP 401: bad")).troubles
    assert sink.told == ("HTTP 401: bad", "check secret a/tok")
    assert (sink.needs_credential, sink.secret, sink.secret_key) == (True, "tok", "token")
    (sink,) = details_of(failing("cannot connect: check it", "cannot connect")).troubles
    assert not sink.needs_credential
    (sink,) = details_of(failing("something else", "cannot connect")).troubles
    assert sink.told == ("something else", "")


def test_a_sink_that_was_not_judged_is_as_its_exporter_is() -> None:
    status = ready()
    status["conditions"][1].update(
        status="False", message="secret a/tok: there is no such secret; create it: kubectl create"
    )
    value = {**failing("x"), "status": status}
    details = details_of(value)
    (sink,) = details.lacking
    assert details.troubles == ()
    assert sink.state.word == "Secret missing"
    assert sink.told == (
        "secret a/tok: there is no such secret",
        "enter its value, or run: kubectl create",
    )
    assert sink.needs_credential


def test_a_sink_that_delivers_and_loses_wants_attention() -> None:
    value = failing("x")
    said = "a part of the data was lost: HTTP 400"
    value["status"]["sinks"][0] = {"name": "one", **ready(message=said)}
    (sink,) = details_of(value).troubles
    assert (sink.state.word, sink.state.tone, sink.told) == ("Delivering", "warn", (said, ""))
    value["status"]["sinks"][0] = {"name": "one", **ready()}
    assert details_of(value).troubles == ()


def test_every_loss_is_explained() -> None:
    picture = ledger_picture({"matched": 6, "rejected": 1, "expired": 2, "dropped": 3})
    assert [word for word, _ in picture.losses] == ["Rejected", "Expired", "Dropped"]
    assert ledger_picture({"matched": 1, "queued": 1}).losses == ()
    for _, text in ledger_picture({"rejected": 1, "expired": 2, "dropped": 3}, "spans").losses:
        assert " these spans " in f" {text}"
        assert "points" not in text


@pytest.mark.parametrize(
    ("file", "may_edit", "changes"),
    [("", True, CHANGES), ("", False, []), ("acme.yaml", True, []), ("acme.yaml", False, [])],
)
def test_no_command_is_shown_that_would_be_refused(
    file: str, may_edit: bool, changes: list[str]
) -> None:
    words = [word for word, _ in commands_of(details_of(exporter("a"), file), may_edit=may_edit)]
    assert [word for word in words if word in CHANGES] == changes
    assert [word for word in words if word not in CHANGES] == ["Show it", "Wait until it delivers"]
