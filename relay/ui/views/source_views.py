"""The sources of one exporter, in words where they are no selectors. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from relay.ui.authoring.signals import SIGNALS, SignalRow
from relay.ui.views.values import mapping_of, mappings_in, number_in

_OPERATORS: Final = {
    "In": "in",
    "NotIn": "not in",
    "Exists": "exists",
    "DoesNotExist": "is not there",
}


@dataclass(frozen=True, slots=True)
class SourceView:
    """One source: its selector, series, samples or records a minute, and share of those of all.

    The share is of all sources of its signal.
    """

    name: str
    signal: str
    word: str
    counts: str
    """Unit of its figure a minute."""
    selector: str
    resources: tuple[str, ...]
    """The resources of each of its resource selectors, in words."""
    series: int | None
    per_minute: int | None
    share: tuple[float, float]
    everything: str
    """Words for what it takes without a selector."""
    asks: tuple[str, ...] = ()
    """Its other conditions, and its changes of attributes."""


def signals_of(source: Mapping[str, Any]) -> tuple[SignalRow, ...]:
    """Return the signals of a source: that of a policy may have several."""
    return tuple(row for row in SIGNALS if row.field in source) or SIGNALS[:1]


def source_view(
    source: Mapping[str, Any], row: SignalRow, usage: Mapping[str, Any], total: int
) -> SourceView:
    """Return one signal of a source; ``total`` is the figure a minute of all its sources."""
    body = mapping_of(source.get(row.field))
    selector = body.get(row.selector)
    is_metrics = row.field == "metrics"
    count = number_in(usage, row.per_minute)
    return SourceView(
        str(source.get("name", "")),
        row.field,
        row.word,
        "samples" if is_metrics else row.unit,
        selector if isinstance(selector, str) else "",
        tuple(_resources(one) for one in mappings_in(body, "resourceSelectors")),
        number_in(usage, "activeSeries") if is_metrics else None,
        count,
        (float(count or 0), float(total)),
        f"every {row.unit_of_one}",
        tuple(_conditions(body)),
    )


def _resources(selector: Mapping[str, Any]) -> str:
    """Return in words which resources an entry of resource selectors takes."""
    kinds = " or ".join(_kind(one) for one in mappings_in(selector, "kinds"))
    words = [f"Resources of kind {kinds}" if kinds else "Resources of any kind"]
    labels = " and ".join(_labels(mapping_of(selector.get("labelSelectors"))))
    if labels:
        words.append(f"with {labels}")
    if "namespaceSelector" not in selector:
        words.append("in this namespace")
    else:
        asked = " and ".join(_labels(mapping_of(selector["namespaceSelector"])))
        words.append(f"in namespaces with {asked}" if asked else "in any namespace, or none")
    return ", ".join(words)


def _kind(entry: Mapping[str, Any]) -> str:
    """Return a kind: ``Gateway (networking.datumapis.com)``."""
    kinds = _texts(entry.get("kind", entry.get("resources")))
    groups = [one or "core" for one in _texts(entry.get("group", entry.get("apiGroups")))]
    where = f" ({' or '.join(groups)})" if groups else ""
    return f"{' or '.join(kinds) or '?'}{where}"


def _texts(value: object) -> list[str]:
    """Return one text, or those of a list."""
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str)]


def _labels(selector: Mapping[str, Any]) -> Iterator[str]:
    """Yield the conditions of a selector of labels."""
    for name, value in mapping_of(selector.get("matchLabels")).items():
        yield f"{name}={value}"
    for one in mappings_in(selector, "matchExpressions"):
        operator = str(one.get("operator", ""))
        values = one.get("values")
        told = f" ({', '.join(map(str, values))})" if isinstance(values, list) and values else ""
        yield f"{one.get('key', '')} {_OPERATORS.get(operator, operator)}{told}"


def _conditions(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield in words what a source of logs or traces asks besides its selector."""
    categories, severity = body.get("categories"), body.get("minSeverity")
    if isinstance(categories, list):
        yield f"category {' or '.join(map(str, categories))}"
    if isinstance(severity, str):
        yield f"severity {severity} or more"
    ratio = body.get("sampleRatio")
    if isinstance(ratio, int | float) and ratio < 1:
        yield f"{100 * ratio:.4g} % of all traces"
    if body.get("keep") == "trace":
        yield "every span of a trace, or none"
    for one in mappings_in(body, "redact"):
        how = "hashes" if one.get("action") == "hash" else "drops"
        yield f"{how} {one.get('attribute', '')}"
