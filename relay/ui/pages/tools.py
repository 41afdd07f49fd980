"""Try exporters: previews, tests of sinks, explanations, taps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from relay.ui.api_calls import GROUP, ApiProblemError, exporter_path, object_path
from relay.ui.authoring.backends import backend_of_url
from relay.ui.authoring.checking import plain, sendable
from relay.ui.authoring.controls import exporter_kind, signal_of, sink_kind_of
from relay.ui.authoring.draft import Draft, get
from relay.ui.authoring.narrowing import Narrowing, narrowed
from relay.ui.authoring.signals import SIGNALS, SignalRow, signal_row
from relay.ui.pages.credentials import store_credentials
from relay.ui.pages.exporter import find_output, find_sink
from relay.ui.pages.write import sent_draft
from relay.ui.views.answers import PreviewView, SelectedView, preview_view, test_view
from relay.ui.views.exporter_details import details_of
from relay.ui.visit import PageProblemError, Route, Visit

_TEMPLATE: Final = "tools.html"
MEASURE_S: Final = 10
TAP_S: Final = 5
EXAMPLES_OF_METRIC: Final = 3
TAP_POINTS: Final = 20
_SERIES_CHARS_MAX: Final = 20_000
_WAITS: Final = "The preview waits until what is marked is mended."


async def preview(visit: Visit) -> web.StreamResponse:
    """Answer with what a draft would match now, beside its stored version."""
    fields, draft = await sent_draft(visit)
    measure_s = MEASURE_S if fields.get("measure") else 0
    values: dict[str, Any] = {"preview": None, "problem": "", "is_busy": False, "own": ()}
    if draft.problems:
        values["problem"], values["is_busy"] = _WAITS, True
        return visit.part(_TEMPLATE, "preview", values)
    spec = {"exporter": _previewable(draft), "measureSeconds": measure_s}
    try:
        status = await act(visit, "exporterpreviews", "ExporterPreview", draft.namespace, spec)
    except ApiProblemError as problem:
        values["is_busy"] = problem.code in (422, 429)
        values["problem"] = _said(problem) if problem.code != 422 else _WAITS
        return visit.part(_TEMPLATE, "preview", values)
    view = values["preview"] = preview_view(status)
    values["bills"] = bills_of(draft, view.total)
    values["choices"] = choices_of(draft, view)
    if view.project_series and not view.total.series:
        own = await _own_series(visit)
        values["own"] = own.top_metrics
        values["choices"] = choices_of(draft, PreviewView(sources=(own,)), is_anew=True)
    return visit.part(_TEMPLATE, "preview", values)


@dataclass(frozen=True, slots=True)
class MetricChoice:
    """The text that a click on a metric puts into the control ``field`` of its source."""

    field: str
    narrowing: Narrowing


def choices_of(
    draft: Draft, preview: PreviewView, *, is_anew: bool = False
) -> dict[tuple[str, str], MetricChoice]:
    """Return the choices that the metrics of a preview offer, by source and metric.

    ``is_anew``: the metrics are those of the project, whatever a selector says.
    """
    found: dict[tuple[str, str], MetricChoice] = {}
    for index, (source, shown) in enumerate(zip(draft.sources, preview.sources, strict=False)):
        signal = signal_of(source)
        selector = get(source, f"{signal.field}.{signal.selector}")
        if not isinstance(selector, str):
            continue
        path = f"spec.sources[{index}].{signal.field}.{signal.selector}"
        for metric in shown.top_metrics:
            narrowing = narrowed("" if is_anew else selector, metric.name)
            found[shown.name, metric.name] = MetricChoice(path, narrowing)
    return found


def _previewable(draft: Draft) -> dict[str, Any]:
    """Return an object that a preview takes: its name may still be missing."""
    value = sendable(draft.value)
    metadata = {**(value.get("metadata") or {})}
    metadata["name"] = metadata.get("name") or "draft"
    kept = {name: own for name, own in metadata.items() if name in ("name", "namespace")}
    return {**value, "metadata": kept}


def bills_of(draft: Draft, total: SelectedView) -> tuple[str, ...]:
    """Return what the backends of a draft's sinks bill, each once, with the figures."""
    found = []
    for sink in draft.sinks:
        url = get(sink, f"{sink_kind_of(sink).field}.endpoint")
        backend = backend_of_url(url) if isinstance(url, str) else None
        if backend is not None and backend.bills:
            found.append(backend.bill(total.series, total.samples_per_minute))
    return tuple(dict.fromkeys(found))


async def test_draft(visit: Visit) -> web.StreamResponse:
    """Test a sink that is being written, after its credential is in its Secret."""
    fields, draft = await sent_draft(visit)
    index = fields.get("sink", "")
    if not (index.isascii() and index.isdigit() and int(index) < len(draft.sinks)):
        raise PageProblemError(400, "There is no such sink.")
    sink = draft.sinks[int(index)]
    try:
        await store_credentials(visit, draft)
    except ApiProblemError as problem:
        values = {"tests": [], "problem": _said(problem)}
        return visit.part(_TEMPLATE, "test", values)
    name = str(sink.get("name", ""))
    signals = signals_sent(draft, sink)
    if signals == ("metrics",):
        return await _test(visit, draft.namespace, {name: {"sink": sink}})
    exporter = _of_signals(sink, signals, draft.namespace)
    specs = {f"{name}/{one}": {"exporter": exporter, "sink": f"{name}/{one}"} for one in signals}
    return await _test(visit, draft.namespace, specs)


def signals_sent(draft: Draft, sink: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the signals that a sink of a draft gets; metrics where it gets nothing yet."""
    wanted = sink.get("sources")
    names = wanted if isinstance(wanted, list) else [one.get("name") for one in draft.sources]
    sent = {signal_of(one).field for one in draft.sources if one.get("name") in names}
    return tuple(row.field for row in SIGNALS if row.field in sent) or ("metrics",)


def _of_signals(sink: Mapping[str, Any], signals: Sequence[str], namespace: str) -> dict[str, Any]:
    """Return an Exporter that sends everything of some signals to a sink."""
    made = everything()
    made["metadata"]["namespace"] = namespace
    sources = [{"name": row.field, row.field: {row.selector: ""}} for row in SIGNALS]
    made["spec"] = {
        "sources": [one for one in sources if one["name"] in signals],
        "sinks": [{name: own for name, own in sink.items() if name != "sources"}],
    }
    return made


async def test_sink(visit: Visit) -> web.StreamResponse:
    """Test a sink of a stored Exporter."""
    namespace, name = visit.arguments["namespace"], visit.arguments["name"]
    value = await visit.api.get(exporter_path(namespace, name))
    sink = find_sink(details_of(value), visit.arguments["sink"])
    output = find_output(sink, (await visit.form()).get("signal", ""))
    return await _test(visit, namespace, {output: {"exporter": name, "sink": output}})


async def _test(
    visit: Visit, namespace: str, specs: Mapping[str, Mapping[str, Any]]
) -> web.StreamResponse:
    """Make one test after another, up to the first that is refused."""
    values: dict[str, Any] = {"tests": [], "problem": ""}
    for name, spec in specs.items():
        try:
            status = await act(visit, "sinktests", "SinkTest", namespace, spec)
        except ApiProblemError as problem:
            values["problem"] = _said(problem)
            break
        values["tests"].append((name if len(specs) > 1 else "", test_view(status)))
    if visit.is_part or not visit.arguments:
        return visit.part(_TEMPLATE, "test", values)
    return visit.page(_TEMPLATE, {**values, "back": visit.arguments})


async def show_explain(visit: Visit) -> web.StreamResponse:
    """Explain which exporters take a series, records of a resource or single ones, and why."""
    fields: Mapping[str, str] = visit.request.rel_url.query
    if visit.request.method == "POST":  # records are too long for an address
        fields = await visit.form()
    series = fields.get("series", "")[:_SERIES_CHARS_MAX].strip()
    row = signal_row(fields.get("signal", "")) or SIGNALS[0]
    records = fields.get("records", "").strip() if row is not SIGNALS[0] else ""
    every = bool(fields.get("all"))
    values: dict[str, Any] = {"series": series, "answer": None, "problem": "", "here": "explain"}
    values |= {"first": [], "signals": SIGNALS, "signal": row, "records": records, "every": every}
    if series or records:
        spec = {"series": series, "signal": row.field, "all": every}
        spec |= {"records": records} if records else {}
        try:
            values["answer"] = await act(
                visit,
                "seriesexplanations",
                "SeriesExplanation",
                fields.get("namespace", "") or "default",
                spec,
            )
        except ApiProblemError as problem:
            values["problem"] = _said(problem)
    else:
        values["first"] = await _some_series(visit, row)
    return visit.page("explain.html", values)


def few_of_each(series: Iterable[str]) -> list[str]:
    """Return a few series of each metric, so that the first does not hide the others."""
    counted: Counter[str] = Counter()
    found = []
    for one in series:
        name = one.partition("{")[0]
        counted[name] += 1
        if counted[name] <= EXAMPLES_OF_METRIC:
            found.append(one)
    return found


def everything(selector: str = "{}", signal: str = "metrics") -> dict[str, Any]:
    """Return an Exporter for a preview of what a selector of a signal matches."""
    row = signal_row(signal) or SIGNALS[0]
    return {
        "apiVersion": exporter_kind().api_version,
        "kind": "Exporter",
        "metadata": {"name": "draft"},
        "spec": {"sources": [{"name": "all", row.field: {row.selector: selector}}], "sinks": []},
    }


async def _own_series(visit: Visit) -> SelectedView:
    """Return the series of the project to choose from, none where there are none to be had."""
    view = await _own(visit, SIGNALS[0])
    return view.total if view is not None else SelectedView()


async def _some_series(visit: Visit, row: SignalRow) -> list[str]:
    """Return some series or resources of the project, [] where there are none to be had."""
    view = await _own(visit, row)
    if view is None:
        return []
    if view.records:
        return list(view.records[0].first_resources)
    return few_of_each(view.total.first_series)


async def _own(visit: Visit, row: SignalRow) -> PreviewView | None:
    """Return the preview of everything of a signal, None where there is none to be had."""
    spec = {"exporter": everything("{}", row.field), "measureSeconds": 0}
    try:
        status = await act(visit, "exporterpreviews", "ExporterPreview", "default", spec)
    except ApiProblemError:
        return None
    return preview_view(status)


async def show_tap(visit: Visit) -> web.StreamResponse:
    """Show some live points or records of a sink, where the operator allows it."""
    namespace, name = visit.arguments["namespace"], visit.arguments["name"]
    value = await visit.api.get(exporter_path(namespace, name))
    found = find_sink(details_of(value), visit.arguments["sink"])
    sink = find_output(found, (await visit.form()).get("signal", ""))
    path = exporter_path(namespace, name, "tap")
    values: dict[str, Any] = {"points": [], "problem": "", "sink": sink, "end": None}
    try:
        events = await visit.api.lines(path, sink=sink, seconds=str(TAP_S), points=str(TAP_POINTS))
    except ApiProblemError as problem:
        values["problem"] = _said(problem)
    else:
        values["points"] = [one for one in events if one.get("event") == "point"]
        values["end"] = next((one for one in events if one.get("event") == "end"), None)
        errors = [one for one in events if one.get("event") == "error"]
        if errors:
            values["problem"] = str(errors[0].get("message", ""))
    if visit.is_part:
        return visit.part(_TEMPLATE, "tap", values)
    return visit.page(_TEMPLATE, {**values, "back": visit.arguments, "tests": [], "is_tap": True})


async def act(
    visit: Visit, plural: str, kind: str, namespace: str, spec: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Create an object that is answered and not stored; return its status."""
    body = {"apiVersion": exporter_kind().api_version, "kind": kind, "spec": dict(spec)}
    answer = await visit.api.create(object_path(GROUP, namespace, plural), body)
    found: Mapping[str, Any] = answer.value.get("status") or {}
    return found


def _said(problem: ApiProblemError) -> str:
    """Return the words of a refusal, with the fields that they are about."""
    if not problem.problems:
        return problem.message
    return "\n".join(
        f"{one.field.removeprefix('spec.exporter.')}: {plain(one.message)}".lstrip(": ")
        for one in problem.problems
    )


_ONE: Final = "exporters/{namespace}/{name}"
ROUTES: Final = (
    Route("POST", "preview", preview),
    Route("POST", "try", test_draft),
    Route("POST", f"{_ONE}/sinks/{{sink}}/test", test_sink),
    Route("POST", f"{_ONE}/sinks/{{sink}}/tap", show_tap),
    Route("GET", "explain", show_explain),
    Route("POST", "explain", show_explain),
)
