"""Makes the route of a series' native histograms, once the first one comes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from relay.codec.otlp.metrics import Kind
from relay.pipeline.metrics.histograms.build_point import FamilyKey
from relay.pipeline.metrics.histograms.native import NativeRoute, Ways
from relay.pipeline.metrics.series.resolver import Resolver
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.routing.match_set import MatchedSource
from relay.selector.matchers import NAME


def native_route(
    resolver: Resolver, series: Series, labels: Mapping[str, str], project: str
) -> NativeRoute:
    """Return the route of a resolved series' native histograms."""
    base = series.match_set.base
    matched, targets = base.matched, base.typed
    match_set = base.variant(base.raw, targets) if targets else base
    pairs = sorted(labels.items())

    def ways(kind: Kind, without: frozenset[MatchedSource]) -> Ways:
        identity = series.types.histogram(series.name, kind, series.declared)
        refused = [target.counter for target in targets if kind in target.options.unsupported]
        wanted = [(t, s) for s in matched for t in s.typed if t.counter not in refused]
        alone = [target for target, source in wanted if source not in without]
        doubled = [target.counter for target, source in wanted if source in without]
        streams = resolver.streams(pairs, project, identity, alone)
        return Ways(streams, tuple(refused), tuple(doubled))

    if not targets:
        return NativeRoute(series.name, match_set, resolver.drops)
    others = tuple(pair for pair in pairs if pair[0] != NAME)
    family = FamilyKey(project, "histogram", series.name, others)
    twins = partial(resolver.assembly.sources_with, family)
    return NativeRoute(series.name, match_set, resolver.drops, ways, twins)
