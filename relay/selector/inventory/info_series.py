"""Parse info series that carry an object's labels, such as ``kube_namespace_labels{label_…="…"}``.

kube-state-metrics exports one such series for each object, with the value 1. When an object's
labels change, the old series ends and a new one begins: the newest series has the current labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from relay.selector.matchers import NAME

KIND_MARK: Final = "<kind>"
"""Placeholder for the kind, in lower case, in the name of a metric or label."""

NAMESPACE_KIND: Final = "namespace"
LABELS_MAX: Final = 128


class InfoSeries(msgspec.Struct, frozen=True):
    """Convention of one kind of info series.

    ``metric`` and ``name`` may contain ``<kind>``; ``kind`` is for a metric whose name does not
    tell it. ``namespace`` and ``name`` are the labels that identify the object, ``prefix`` precedes
    the object's own labels.
    """

    metric: str = f"kube_{KIND_MARK}_labels"
    kind: str = ""
    namespace: str = "namespace"
    name: str = KIND_MARK
    prefix: str = "label_"


INFO_SERIES_DEFAULT: Final = (
    # kube-state-metrics uses job_name, because "job" has another meaning in Prometheus.
    InfoSeries(metric="kube_job_labels", kind="job", name="job_name"),
    InfoSeries(),
)


class StreamKey(NamedTuple):
    """Identity of an object in the stream: without API group.

    ``namespace`` is "" for cluster-scoped objects and namespaces; ``kind`` is in lower case.
    """

    project: str
    kind: str
    namespace: str
    name: str


class InfoSeriesClaim(msgspec.Struct, frozen=True):
    """Labels of an object according to one info series; keys are sanitized for Prometheus."""

    key: StreamKey
    labels: Mapping[str, str]


class InfoReader:
    """Recognise info series. Immutable."""

    __slots__ = ("_rules", "prefixes")

    def __init__(self, rules: Sequence[InfoSeries] = INFO_SERIES_DEFAULT) -> None:
        self._rules: Final = tuple((_pattern(rule), rule) for rule in rules)
        self.prefixes: Final = tuple(rule.metric.partition(KIND_MARK)[0] for rule in rules)
        """Literal prefixes of the metric names, to reject other series quickly."""

    def claim(self, labels: Mapping[str, str], project: str) -> InfoSeriesClaim | None:
        """Parse a series as an info series; None for any other series."""
        metric = labels[NAME]
        for pattern, rule in self._rules:
            found = pattern.fullmatch(metric)
            if found is not None:
                kind = rule.kind.lower() or found["kind"].lower()
                return _read(rule, kind, labels, project)
        return None

    def __repr__(self) -> str:
        return f"<InfoReader {', '.join(rule.metric for _, rule in self._rules)}>"


def _read(
    rule: InfoSeries, kind: str, labels: Mapping[str, str], project: str
) -> InfoSeriesClaim | None:
    name = labels.get(rule.name.replace(KIND_MARK, kind), "")
    if not name:
        return None
    namespace = "" if kind == NAMESPACE_KIND else labels.get(rule.namespace, "")
    prefix = rule.prefix
    own = {
        label[len(prefix) :]: value
        for label, value in labels.items()
        if label.startswith(prefix) and value and label != prefix
    }
    if len(own) > LABELS_MAX:
        return None
    return InfoSeriesClaim(StreamKey(project, kind, namespace, name), own)


def _pattern(rule: InfoSeries) -> re.Pattern[str]:
    before, mark, after = rule.metric.partition(KIND_MARK)
    kind = "(?P<kind>[a-zA-Z0-9]+)" if mark else ""
    return re.compile(re.escape(before) + kind + re.escape(after))
