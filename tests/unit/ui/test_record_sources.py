"""Sources of logs and traces in the form, its YAML, completion and previews."""

from __future__ import annotations

from typing import Any

import pytest

from relay.ui.authoring.checking import check
from relay.ui.authoring.completion import CompletionPlace, attribute_options, inserted, place_of
from relay.ui.authoring.controls import all_controls, choices
from relay.ui.authoring.draft import Draft, draft_of, read_draft, shown_value
from relay.ui.authoring.signals import SIGNALS
from relay.ui.views.answers import preview_view

RESOURCES = (
    '{milo.project.id="acme", service.name="gateway", "odd name"="x"}',
    '{service.name="worker-1"}',
    '{service.name="cut o',
)


def exporter(source: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "telemetry.datumapis.com/v1alpha1",
        "kind": "Exporter",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {
            "sources": [{"name": "s", **source}],
            "sinks": [{"name": "t", "otlp_http": {"endpoint": "https://otlp.example.com"}}],
        },
    }


def sent(draft: Draft, **changes: str) -> Draft:
    """Return what comes back of a form, with some fields changed."""
    fields = {"base": draft.base, "text": draft.text, "digest": draft.digest}
    for path, control in all_controls(draft.value):
        fields[path] = shown_value(draft.value, path, control)
    return read_draft({**fields, **changes})


def test_every_signal_is_made_of_another_one() -> None:
    draft = draft_of(exporter({"metrics": {"metricsql": "up"}}))
    for row in (*SIGNALS[1:], SIGNALS[0]):
        before = draft.shape
        draft = sent(draft, **{"signal[0]": row.field})
        assert draft.sources == [{"name": "s", row.field: {row.selector: ""}}]
        assert draft.shape != before
        assert check(draft, "", None, is_begun=False).is_good


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        (
            {"logs": {"selector": ""}},
            {
                "logs.selector": '{service_name="a"} |= "x"',
                "logs.minSeverity": "WARN",
                "logs.categories": " access,security\n",
                "logs.redact": "user.email: hash\na:b: drop",
            },
            {
                "logs": {
                    "selector": '{service_name="a"} |= "x"',
                    "minSeverity": "WARN",
                    "categories": ["access", "security"],
                    "redact": [
                        {"attribute": "user.email", "action": "hash"},
                        {"attribute": "a:b", "action": "drop"},
                    ],
                }
            },
        ),
        (
            {"traces": {"selector": "{}", "keep": "trace"}},
            {"traces.sampleRatio": "0.25", "traces.keep": ""},
            {"traces": {"selector": "{}", "sampleRatio": 0.25}},
        ),
        (
            {"logs": {"minSeverity": "INFO", "categories": ["a"]}},
            {"logs.minSeverity": "", "logs.categories": ""},
            {"logs": {}},
        ),
        (
            {"logs": {"resourceSelectors": [{"kinds": [{"kind": ["Gateway"]}]}]}},
            {"logs.minSeverity": "WARN"},
            {
                "logs": {
                    "resourceSelectors": [{"kinds": [{"kind": ["Gateway"]}]}],
                    "minSeverity": "WARN",
                }
            },
        ),
    ],
)
def test_conditions_are_written(
    before: dict[str, Any], changes: dict[str, str], after: dict[str, Any]
) -> None:
    draft = draft_of(exporter(before))
    assert sent(draft).sources == draft.sources
    made = sent(draft, **{f"spec.sources[0].{name}": text for name, text in changes.items()})
    assert made.sources == [{"name": "s", **after}]
    assert check(made, "", None, is_begun=False).is_good


@pytest.mark.parametrize(
    ("path", "text", "at", "said"),
    [
        ("logs.selector", "{a=", "logs.selector", "in quotes"),
        ("logs.selector", "{} | json", "logs.selector", "json"),
        ("logs.redact", "user.email", "logs.redact", ""),
        ("traces.sampleRatio", "much", "traces.sampleRatio", "number"),
        ("traces.sampleRatio", "2", "traces.sampleRatio", "1"),
    ],
)
def test_a_fault_is_told_at_its_control(path: str, text: str, at: str, said: str) -> None:
    draft = draft_of(exporter({path.partition(".")[0]: {"selector": ""}}))
    made = sent(draft, **{f"spec.sources[0].{path}": text})
    checked = check(made, "", None, is_begun=True)
    assert list(checked.at) == [f"spec.sources[0].{at}"], checked
    assert said in checked.at[f"spec.sources[0].{at}"]


def test_choices_come_from_the_schema() -> None:
    controls = [one for row in SIGNALS for one in row.controls if one.kind == "select"]
    assert {one.path: choices("sources", one)[0] for one in controls} == {
        "logs.minSeverity": "TRACE",
        "traces.keep": "span",
    }


def test_names_and_values_of_attributes_are_offered() -> None:
    text = "{service"
    place = place_of(text, len(text))
    assert place is not None
    assert attribute_options(place, RESOURCES) == ["service.name"]
    everything = CompletionPlace("label", 1, 1, "")
    assert attribute_options(everything, RESOURCES) == [
        "milo.project.id",
        "odd name",
        "service.name",
    ]
    assert inserted(everything, "odd name") == '"odd name"'
    assert inserted(everything, "service.name") == "service.name"
    text = '{service_name="wor'
    place = place_of(text, len(text))
    assert place is not None
    assert attribute_options(place, RESOURCES) == ["worker-1"]


def test_a_preview_tells_of_records_without_a_severity() -> None:
    view = preview_view(
        {
            "records": [
                {
                    "name": "logs",
                    "signal": "logs",
                    "ofResources": 4,
                    "resources": 2,
                    "records": 10,
                    "asks": "severity WARN or more",
                    "sampledRecords": 8,
                    "withoutSeverity": 2,
                    "firstResources": ["{}"],
                },
                {"name": "traces", "signal": "traces"},
            ]
        }
    )
    logs, traces = view.records
    assert not view.has_metrics
    assert (logs.unit, logs.severity_share, logs.asks_severity) == ("log records", (2.0, 8.0), True)
    assert (traces.unit, traces.asks_severity) == ("spans", False)
    assert preview_view({}).has_metrics


def test_each_signal_has_a_control_for_a_url_of_its_own() -> None:
    value = exporter({"logs": {}})
    fields = {f"{row.field}Endpoint" for row in SIGNALS}
    for field in fields:
        path = f"spec.sinks[0].otlp_http.{field}"
        url = "https://own.example.com/in"
        assert sent(draft_of(value), **{path: url}).sinks[0]["otlp_http"][field] == url
