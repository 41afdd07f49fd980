"""For one series: who takes it, why, and what it becomes. The answer to "where is my metric?"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from relay.errors import SelectorError
from relay.exporter.model import Exporter
from relay.pipeline.metric_types import MetricTypes, Typing
from relay.pipeline.translate import OWN_SCOPE, Translation, Translator
from relay.selector.ast import NAME
from relay.selector.families import missing_members
from relay.selector.matching import Explanation, compile_selector, render
from relay.selector.parser import parse_selector


@dataclass(frozen=True, slots=True)
class SourceAnswer:
    """What one source says to a series."""

    source: str
    explanation: Explanation
    sinks: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """Members of the series' histogram that the source does not take."""


def parse_series(text: str) -> dict[str, str]:
    """Labels of a series written as ``name{label="value", …}``. Raises SelectorError."""
    selector = parse_selector(text)
    if len(selector.groups) != 1:
        raise SelectorError(
            "a series has one set of labels",
            text=text,
            offset=0,
            hint='write it like http_requests_total{code="200"}',
        )
    labels: dict[str, str] = {}
    for matcher in selector.groups[0]:
        if matcher.op != "=":
            raise SelectorError(
                f"a series has values, not conditions: {render(matcher)}",
                text=text,
                offset=max(0, text.find(matcher.op)),
                hint="use = for every label",
            )
        if labels.setdefault(matcher.label, matcher.value) != matcher.value:
            raise SelectorError(f"label {matcher.label} is given two values", text=text, offset=0)
    labels = {label: value for label, value in labels.items() if value}
    if NAME not in labels:
        raise SelectorError(
            "a series needs a metric name",
            text=text,
            offset=0,
            hint='write it like http_requests_total{code="200"}',
        )
    return labels


def answers(exporter: Exporter, labels: Mapping[str, str]) -> Iterator[SourceAnswer]:
    """What every source of an exporter says to the series, in the exporter's order."""
    for source in exporter.sources:
        sinks = tuple(sink.name for sink in exporter.sinks if source.name in sink.sources)
        selector = compile_selector(source.selector)
        missing = missing_members(selector, labels) or ()
        yield SourceAnswer(source.name, selector.explain(labels), sinks, missing)


def explain(
    exporters: Iterable[Exporter],
    labels: Mapping[str, str],
    *,
    infer_types: bool = True,
    tenancy_label: str = "",
) -> Iterator[str]:
    """Lines for people: every exporter's answer, then the OTLP of the series."""
    for exporter in exporters:
        yield exporter.id
        project = labels.get(tenancy_label, "") if tenancy_label else ""
        if tenancy_label and project != exporter.project:
            # Neither the series' project nor anything of its selectors is said: it is not theirs.
            yield f"  no: the series is not of this exporter's project ({tenancy_label})"
            continue
        for answer in answers(exporter, labels):
            yield from _source_lines(answer)
    types = MetricTypes(families_max=2, infer=infer_types)
    name = labels[NAME]
    if "le" in labels or "vmrange" in labels:
        types.infer_histogram(name)
    translation = Translator(types).translate(sorted(labels.items()))
    yield ""
    yield from _otlp_lines(translation, types.typing(name))


def _source_lines(answer: SourceAnswer) -> Iterator[str]:
    explanation = answer.explanation
    if explanation.matched:
        yield f"  yes: source {answer.source} takes it, to {', '.join(answer.sinks) or 'no sink'}"
        if answer.missing:
            yield f"    as a single number: it does not take {' and '.join(answer.missing)}"
        return
    yield f"  no: source {answer.source}"
    for failure in explanation.failures:
        yield f"    {failure}"


def _otlp_lines(translation: Translation, typing: Typing) -> Iterator[str]:
    metric = translation.metric
    kind: str = metric.kind
    if kind == "sum":
        kind += ", cumulative" + (", monotonic" if metric.monotonic else "")
    yield f"As OTLP (type by name; metadata from the sender goes first): {metric.name} ({kind})"
    if typing.family is not None:
        family = typing.family
        yield f"  or, where a source takes all of it, part of {family.name} ({family.kind})"
    scope = translation.scope
    if scope != OWN_SCOPE:
        yield f"  scope: {scope.name} {scope.version}".rstrip()
    for title, pairs in (
        ("resource", translation.resource),
        ("scope attributes", scope.attributes),
        ("attributes", translation.attributes),
    ):
        if pairs:
            yield f"  {title}:"
            for key, value in pairs:
                yield f"    {key} = {value!r}"
