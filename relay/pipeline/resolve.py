"""What becomes of a series: its routes, its handlers, and how both are counted.

Asked once per series and once more when exporters or the metric's type changed. For every source
that matched and every sink that it feeds, one of three things happens:

1. The sink wants the samples as they are, numbers: a route, which costs a prefix and sixteen bytes
   a sample.
2. Samples must pass through something with a memory first (deltas; members of a histogram): a
   handler.
3. Native histograms come on series like any other and are told apart by their samples only: they
   have a route of their own (:mod:`relay.pipeline.native`), made when the first one comes.

Targets with equal options share everything that is made for them but their batches.
"""

from __future__ import annotations

from collections.abc import Iterable

from relay.pipeline.native import NativeRoute
from relay.pipeline.router import Router, SourceRoute, Target, TargetOptions
from relay.pipeline.series import Route, Series
from relay.pipeline.streams import Handler, NumberHandler, Outlet, Stream
from relay.pipeline.translate import Pairs, Translator
from relay.selector.ast import NAME
from relay.wire.otlp import Kind, MetricGroup, MetricIdentity, point_prefix
from relay.wire.otlp_points import encode_attributes
from relay.wire.remote_write import Labels


class Resolver:
    """Makes routes and handlers; owns no series and no points."""

    def __init__(self, router: Router, translator: Translator) -> None:
        self._router = router
        self._translator = translator

    def resolve(self, series: Series, labels: Labels) -> None:
        """Set everything of a series that depends on labels, exporters and metadata."""
        by_name = dict(labels)
        series.name = by_name[NAME]
        series.plan, matched = self._router.match(by_name)
        series.routes = ()
        series.handlers = ()
        series.identity = series.native = None
        if matched:
            series.identity = self._translator.types.identity(series.name)
            self._attach(series, labels, series.identity, matched)

    def native(self, series: Series, labels: Labels) -> NativeRoute:
        """Where the native histograms of a series go."""
        _, matched = self._router.match(dict(labels))
        targets = tuple(target for source in matched for target in source.targets)
        plan = self._router.plan(matched, (), targets) if matched else series.plan

        def streams(kind: Kind) -> tuple[Stream, ...]:
            identity = self._translator.types.histogram(series.name, kind)
            return self.streams(labels, identity, targets)

        return NativeRoute(plan, streams if targets else None)

    def streams(
        self, labels: Labels, identity: MetricIdentity, targets: Iterable[Target]
    ) -> tuple[Stream, ...]:
        """The streams of one identity, one for all targets with the same options."""
        by_options: dict[TargetOptions, list[Target]] = {}
        for target in targets:
            by_options.setdefault(target.options, []).append(target)
        streams = []
        for options, alike in by_options.items():
            group, attributes = self._place(labels, identity, options)
            encoded = encode_attributes(attributes, identity.kind)
            key = point_prefix(attributes)
            outlets = tuple(Outlet(target.lane(key), target.tally) for target in alike)
            streams.append(Stream(group, encoded, outlets))
        return tuple(streams)

    def _attach(
        self,
        series: Series,
        labels: Labels,
        identity: MetricIdentity,
        matched: tuple[SourceRoute, ...],
    ) -> None:
        routes: list[Route] = []
        handlers: list[Handler] = []
        direct: list[Target] = []
        handled: list[Target] = []
        places: dict[TargetOptions, tuple[MetricGroup, bytes]] = {}
        for source in matched:
            for target in source.targets:
                options = target.options
                if options.temporality == "delta" and identity.monotonic:
                    handled.append(target)
                    continue
                place = places.get(options)
                if place is None:
                    group, attributes = self._place(labels, identity, options)
                    place = places[options] = group, point_prefix(attributes)
                routes.append((target.lane(place[1]), *place))
                direct.append(target)
        if handled:
            handlers.append(NumberHandler(self.streams(labels, identity, handled)))
            series.plan = self._router.plan(matched, tuple(direct), tuple(handled))
        series.routes = tuple(routes)
        series.handlers = tuple(handlers)

    def _place(
        self, labels: Labels, identity: MetricIdentity, options: TargetOptions
    ) -> tuple[MetricGroup, Pairs]:
        """The metric that an identity belongs to under some options, and its point attributes."""
        translation = self._translator.translate(labels)
        return self._translator.group(translation.resource, identity), translation.attributes

    def __repr__(self) -> str:
        return f"<Resolver of {self._router!r}>"
