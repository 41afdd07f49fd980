"""What a click on a metric of a preview puts into the form."""

from __future__ import annotations

from relay.ui.authoring.draft import Draft, empty_value, text_of
from relay.ui.pages.tools import choices_of, few_of_each
from relay.ui.views.answers import MetricCount, PreviewView, SelectedView


def test_a_choice_is_for_the_source_that_matched() -> None:
    value = empty_value()
    value["spec"]["sources"] = [
        {"name": "a", "metrics": {"metricsql": "{}"}},
        {"name": "by-kind", "metrics": {"resourceSelectors": []}},
        {"name": "b", "metrics": {"metricsql": 'm{x="1"}'}},
    ]
    metrics = (MetricCount("m", 3),)
    shown = tuple(SelectedView(name=name, top_metrics=metrics) for name in ("a", "by-kind", "b"))
    draft = Draft(value, text_of(value))
    found = choices_of(draft, PreviewView(sources=shown))
    assert set(found) == {("a", "m"), ("b", "m")}
    first, last = found["a", "m"], found["b", "m"]
    assert (first.field, first.narrowing.only) == ("spec.sources[0].metrics.metricsql", "m")
    assert first.narrowing.without == '{__name__!="m"}'
    assert last.field == "spec.sources[2].metrics.metricsql"
    assert (last.narrowing.only, last.narrowing.without) == ("", "")
    own = PreviewView(sources=(SelectedView(top_metrics=metrics),))
    assert choices_of(draft, own, is_anew=True)["", "m"].narrowing.only == "m"


def test_one_metric_does_not_hide_the_others() -> None:
    series = [f'a{{x="{number}"}}' for number in range(9)] + ["b"]
    assert few_of_each(series) == ['a{x="0"}', 'a{x="1"}', 'a{x="2"}', "b"]
