"""Parts the sinks of an ExportPolicy that have faults from those that run.

A fault below an entry of ``spec.sinks`` costs that sink alone, unless it is one of its name: then
it is not known which sink is meant. Any other fault costs the whole policy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from relay.config.export_policy.dialect import KIND
from relay.config.exporter.types import Exporter, Place, RefusalReason, RefusedSink
from relay.config.yaml.report import Report
from relay.runtime.errors import Fault

_SINKS: Place = ("spec", "sinks")
_MESSAGES_MAX = 3


def refused_sinks(
    exporter: Exporter, where: Place, report: Report
) -> tuple[RefusedSink, ...] | None:
    """Return the sinks that the report's faults concern, None if they concern the whole resource.

    ``exporter`` has all sinks of the document, in its order, and stands at ``where``.
    """
    if exporter.kind != KIND or report.overflowed:
        return None
    found: dict[int, list[tuple[Place, Fault]]] = {}
    for place, fault in report.located_faults():
        below = place[len(where) :]
        index = below[2] if len(below) > 3 and below[:2] == _SINKS else None
        if not isinstance(index, int) or below[3] == "name" or index >= len(exporter.sinks):
            return None
        found.setdefault(index, []).append((below[3:], fault))
    return tuple(
        RefusedSink(exporter.sinks[index].name, _reason(faults), _message(faults))
        for index, faults in sorted(found.items())
    )


def merged(*parts: Iterable[RefusedSink]) -> tuple[RefusedSink, ...]:
    """Return each refused sink once; the first mention says why."""
    found: dict[str, RefusedSink] = {}
    for part in parts:
        for one in part:
            found.setdefault(one.name, one)
    return tuple(found.values())


def without(exporter: Exporter, refused: tuple[RefusedSink, ...]) -> Exporter:
    """Return the policy with the sinks that are not refused."""
    names = {one.name for one in refused}
    sinks = tuple(sink for sink in exporter.sinks if sink.name not in names)
    return replace(exporter, sinks=sinks, refused=refused)


def _reason(faults: list[tuple[Place, Fault]]) -> RefusalReason:
    places = [place for place, _ in faults]
    if any("authentication" in place for place in places):
        return "InvalidAuthentication"
    if all(place[0] == "sources" for place in places):
        return "InvalidSources"
    return "InvalidConfiguration"


def _message(faults: list[tuple[Place, Fault]]) -> str:
    texts = [fault.text for _, fault in faults]
    more = len(texts) - _MESSAGES_MAX
    return "; ".join(texts[:_MESSAGES_MAX]) + (f"; and {more} more" if more > 0 else "")
