"""Makes the routes of series whose samples waited for metadata, once for both.

Samples that waited and those that come later go the same way, so its parts are made when the first
one leaves, and kept beside the series: other samples of the family may still wait, and nothing may
overtake them. When the family has left, the series gets what is prepared.
"""

from __future__ import annotations

from typing import Protocol, cast

from relay.codec.otlp.groups import MetricGroup
from relay.codec.remote_write.label_parser import SeriesLabels
from relay.pipeline.batching.emitter import RouteHandler, SampleProcessor
from relay.pipeline.drop_counters import DropTable
from relay.pipeline.metrics.metadata.type_store import TypeStore
from relay.pipeline.metrics.metadata.waiting_family import FirstSamples
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.metrics.translate.target_info import Resource, TargetInfoStore
from relay.pipeline.routing.match_set import SinkCounter
from relay.pipeline.routing.router import Router


class RouteMaker(Protocol):
    """The resolver, as far as it is needed here."""

    router: Router
    drops: DropTable
    types: TypeStore
    resources: TargetInfoStore

    def is_fresh(self, series: Series) -> bool:
        """Return True if nothing changed that the routes of a series depend on."""
        ...

    def place(self, series: Series, labels: SeriesLabels, project: str, resource: Resource) -> None:
        """Make the typed routes and handlers of a series that matched."""
        ...


def prepare(resolver: RouteMaker, first: FirstSamples) -> tuple[SampleProcessor, ...]:
    """Return the handlers of all typed outputs of a series, and keep its routes.

    A series that was forgotten, or whose routes are out of date, has only the handlers.
    """
    series, labels, project = first.series, first.labels, first.family.key[0]
    made = first.made = Series(labels.key)
    made.name = first.name
    made.declared = first.declared
    first.prepared = (
        isinstance(series, Series) and first_samples(series) is first and resolver.is_fresh(series)
    )
    if isinstance(series, Series) and first.prepared:
        made.types = series.types
        made.match_set = series.match_set.base
        made.routes = series.routes  # of targets that take series as they came
        made.dependencies = series.dependencies[:-1]  # without the family
        resource = cast("Resource", made.dependencies[0])
    else:
        made.types = resolver.types.of(project)
        made.match_set, _ = resolver.router.match(labels, project)
        sinks = tuple([target.counter for target in made.match_set.typed])
        hand_over(resolver.drops, first, sinks)
        resource = resolver.resources.find(labels, project)
        made.dependencies = (resource,)
    match_set = made.match_set
    if not match_set.typed:
        return ()
    resolver.place(made, labels, project, resource)
    routes = []
    counters = []
    for batches, group, prefix in made.routes:
        if isinstance(group, MetricGroup):
            routes.append((batches, group, prefix))
            counters.append(match_set.counters_of(batches))
    if not routes:
        return made.handlers
    # As for the samples of a series that does not wait: handlers count exemplars, once for all.
    by_routes = RouteHandler(tuple(routes), tuple(counters), counts=not made.handlers)
    return (by_routes, *made.handlers)


def hand_over(drops: DropTable, first: FirstSamples, sinks: tuple[SinkCounter, ...]) -> None:
    """Let the samples of a series that wait count for these sinks, and for no others."""
    before = first.sinks
    first.sinks = sinks
    if first.waiting and before is not sinks and before != sinks:
        drops.hand_waiting_over(first.name, first.waiting, before, sinks)


def is_current(resolver: RouteMaker, first: FirstSamples) -> bool:
    """Return True if nothing changed that the handlers of a series were made from."""
    made = first.made
    return isinstance(made, Series) and made.declared is first.declared and resolver.is_fresh(made)


def give_routes(resolver: RouteMaker, first: FirstSamples) -> bool:
    """Give a series the routes that are prepared; return False if there are none for it."""
    series, made = first.series, first.made
    if not first.prepared or not isinstance(series, Series) or not isinstance(made, Series):
        return False
    if first_samples(series) is not first:
        return False
    if series.match_set.base is not made.match_set.base or series.declared is not made.declared:
        return False
    if not resolver.is_fresh(made):
        return False
    series.match_set = made.match_set
    series.routes = made.routes
    series.handlers = made.handlers
    series.metric_type = made.metric_type
    series.dependencies = made.dependencies
    series.resolved_version = made.resolved_version
    series.dependency_version = made.dependency_version
    series.native = None
    return True


def first_samples(series: Series) -> FirstSamples | None:
    """Return the handler of a series whose samples wait for metadata, or did so lately."""
    first = series.handlers[0] if series.handlers else None
    return first if isinstance(first, FirstSamples) else None
