"""Counts the series of the table by exporter, source, sink and project."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from relay.pipeline.routing.match_set import MatchedSource, MatchSet


class SeriesCounts(NamedTuple):
    """Series that an exporter's sources match and its sinks take, by name.

    ``total`` counts each series that any sink takes once.
    """

    total: int
    sources: Mapping[str, int]
    sinks: Mapping[str, int]


class ProjectSeries(NamedTuple):
    """Series of a project that any sink takes, and those that its limits refuse."""

    taken: int
    refused: int


def count_series(
    routes: Iterable[MatchedSource], by_route: Mapping[MatchedSource, Mapping[MatchSet, None]]
) -> SeriesCounts:
    """Count the series of one exporter, by the match sets that hold its sources."""
    sources: dict[str, int] = {}
    sinks: dict[str, dict[MatchSet, None]] = {}
    for route in routes:
        matching = by_route.get(route, {})
        sources[route.counter.source] = _sum(matching)
        for target in route.targets:
            sinks.setdefault(target.counter.sink, {}).update(matching)
    total = {one: None for matching in sinks.values() for one in matching}
    return SeriesCounts(_sum(total), sources, {name: _sum(own) for name, own in sinks.items()})


def _sum(match_sets: Iterable[MatchSet]) -> int:
    return sum(one.tally.series for one in match_sets)


@dataclass(frozen=True, slots=True)
class RouterStatistics:
    """Sizes, and samples that matched nothing since the start.

    ``always_asked`` selectors are asked for every new series of their project, because nothing in
    them narrows it down.
    """

    exporters: int
    sources: int
    match_sets: int
    unmatched_samples: int
    projects: int = 0
    always_asked: int = 0
