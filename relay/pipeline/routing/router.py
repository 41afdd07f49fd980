"""Decides which sinks a series goes to.

Rules:

* Selectors are asked through one index per project, so that no expression, however written, is ever
  even compared with another project's series (:mod:`relay.pipeline.routing.tenancy` tells whose).
* Every project has its own version, which changes when a source is added, or when objects change
  that its selectors depend on. A source that is removed, or gets other sinks, invalidates the match
  sets that contain it, and so only the routes of the series that it matched.
* Answers of the index are cached by the labels that the project's selectors depend on, which many
  series share. An answer is valid exactly as long as its match set.
* A short log has the version of each change: a resolved series asks only what changed since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Final, TypeAlias

from relay.codec.remote_write.label_parser import SeriesLabels
from relay.pipeline.limits import no_limit
from relay.pipeline.routing.match_set import (
    MatchedSource,
    MatchSet,
    ProjectEpoch,
    SinkOutputSpec,
    SourceCounter,
)
from relay.pipeline.routing.routed_source import RoutedSource
from relay.pipeline.routing.series_counts import (
    ProjectSeries,
    RouterStatistics,
    SeriesCounts,
    count_series,
)
from relay.pipeline.routing.series_tally import SHARE_ALL
from relay.pipeline.routing.tenancy import Tenancy
from relay.selector.index.regex_set import no_pause
from relay.selector.index.selector_index import SelectorIndex
from relay.selector.inventory.store import Inventory
from relay.selector.named_views import NamedViews, takers
from relay.selector.resources.compiler import Compiled, Compiler, uses_inventory
from relay.selector.resources.label_selector import Selection

Sources: TypeAlias = Sequence[tuple[str, Selection, Sequence[SinkOutputSpec]]]
"""For every source of an exporter: name, selection, and the sinks that it feeds."""

MATCH_SETS_MAX: Final = 50_000
"""Match sets of one project: overlapping selectors could make any number."""

CHANGES_MAX: Final = 1_000
"""Changed sources in a project's log; series that missed more use the whole index."""

ANSWERS_MAX: Final = 16_384
"""Cached answers of all projects; at the limit the cache is cleared."""
ANSWER_CHARS_MAX: Final = 256
"""Answers for longer values are not cached."""

READMIT_S: Final = 10.0
"""Interval at which refused series are taken where there is room for them again, s."""
ASK_MAX: Final = 32
"""Changed sources that a series checks one by one; beyond that the index is faster."""

_Values: TypeAlias = tuple[str | None, ...]
_Answer: TypeAlias = tuple[MatchSet, tuple[MatchSet, tuple[MatchedSource, ...]], int]
"""The answer of :meth:`Router.match`, and the version of its project's epoch then."""

_by_sequence = attrgetter("sequence")


class _Project(ProjectEpoch):
    """The sources of one project, its match sets, and its log of changes."""

    __slots__ = (
        "by_route",
        "changes",
        "dependents",
        "exporters",
        "index",
        "labels_read",
        "latest_answer",
        "latest_values",
        "match_sets",
        "sources",
        "unmatched",
    )

    def __init__(self, project: str) -> None:
        super().__init__(project)
        self.exporters = 0  # some have no sources
        self.index: SelectorIndex[MatchedSource] = SelectorIndex()
        self.labels_read = self.index.labels_read  # copied after each change: C reads it
        self.sources: dict[MatchedSource, Compiled] = {}
        self.dependents: dict[MatchedSource, None] = {}
        """Sources that depend on objects of the inventory."""
        self.match_sets: dict[tuple[MatchedSource, ...], MatchSet] = {}
        self.by_route: dict[MatchedSource, dict[MatchSet, None]] = {}
        self.changes: list[tuple[int, MatchedSource]] = []  # at most CHANGES_MAX
        self.unmatched = MatchSet(self)
        self.latest_values: _Values = ()
        self.latest_answer: _Answer | None = None  # for these values

    def note(self, routes: Sequence[MatchedSource]) -> None:
        """Make every resolved series check these sources."""
        self.version += 1
        self.changes += [(self.version, route) for route in routes]
        del self.changes[:-CHANGES_MAX]

    def changed_since(self, version: int) -> dict[MatchedSource, None] | None:
        """Return the sources changed since a version; None if the log begins later."""
        changes = self.changes
        if len(changes) == CHANGES_MAX and version < changes[0][0]:
            return None
        found: dict[MatchedSource, None] = {}
        for at, route in reversed(changes):
            if at <= version:
                break
            found[route] = None
        return found


class Router:
    """Finds the sources that match a new series."""

    def __init__(
        self,
        *,
        tenancy: Tenancy | None = None,
        compiler: Compiler | None = None,
        inventory: Inventory | None = None,
    ) -> None:
        self.series_max: Callable[[str], int | None] = no_limit
        """Returns the most series of a project that its sinks take; None: no limit."""
        self._readmit_at = 0.0
        self.tenancy = tenancy or Tenancy()
        self._compiler = compiler or Compiler()
        self.inventory = inventory or Inventory()
        self._projects: dict[str, _Project] = {}
        self._latest: _Project | None = None  # of these, the one that was asked for last
        self._exporters: dict[str, tuple[str, dict[str, RoutedSource]]] = {}
        self._source_counters: dict[str, dict[str, SourceCounter]] = {}
        self._without_exporters = _Project("")
        """For series whose project has no exporters; one for all, as senders can invent names."""
        self._retired: list[MatchSet] = []
        self._answers: dict[tuple[_Project, _Values], _Answer] = {}
        self._sequence = 0
        self._unsettled = False
        self.pause: Callable[[], None] = no_pause  # called between a series' patterns
        self.held = False  # True while a request is applied in part: its counts are still to come

    def add(self, exporter: str, project: str, sources: Sources) -> None:
        """Route the sources of an exporter that is not routed yet."""
        assert exporter not in self._exporters, exporter
        assert bool(project) == self.tenancy.enabled, f"project {project!r} of {exporter}"
        at = self._projects.get(project)
        if at is None:
            at = self._projects[project] = _Project(project)
            at.tally.limit(self.series_max(project), SHARE_ALL)
            self._without_exporters.version += 1
        routed: dict[str, RoutedSource] = {}
        self._exporters[exporter] = (project, routed)
        at.exporters += 1
        at.note([self._add_source(at, exporter, routed, *source) for source in sources])

    def replace(self, exporter: str, sources: Sources) -> None:
        """Replace an exporter's sources; those with an equal selection keep their place."""
        project, routed = self._exporters[exporter]
        at = self._projects[project]
        wanted = {name: (selection, targets) for name, selection, targets in sources}
        for name, source in list(routed.items()):
            if name not in wanted or wanted[name][0] != source.selection:
                self._remove_source(at, routed.pop(name))
        added = []
        for name, (selection, targets) in wanted.items():
            known = routed.get(name)
            if known is None:
                added.append(self._add_source(at, exporter, routed, name, selection, targets))
            elif not known.route.feeds(targets):
                self._end_match_sets(at, known.route)
                known.route.feed(targets)
        if added:
            at.note(added)

    def remove(self, exporter: str) -> None:
        """Stop routing an exporter; its series are resolved anew.

        The counts of its sources stay, so that an exporter that is changed continues them.
        """
        project, routed = self._exporters.pop(exporter)
        at = self._projects[project]
        for source in routed.values():
            self._remove_source(at, source)
        at.exporters -= 1
        if not at.exporters:
            del self._projects[project]
            self._latest = None
            at.unmatched.invalidate()
            self._retired.append(at.unmatched)
            self._forget(at)

    def match(
        self, labels: Mapping[str, str], project: str
    ) -> tuple[MatchSet, tuple[MatchedSource, ...]]:
        """Return the sources that match a project's series, in order of creation."""
        at = self._latest
        if at is None or at.project is not project:
            at = self._latest = self._projects.get(project)
        if at is None:
            return self._without_exporters.unmatched, ()
        if at.labels_read is None or not isinstance(labels, SeriesLabels):
            return self._match_set(at, tuple(at.index.match(labels, self.pause)))
        own = labels
        values = own.values_of(at.labels_read)
        if values is not at.latest_values:  # as those of the series before mostly are
            at.latest_values, at.latest_answer = values, self._answers.get((at, values))
        answer = at.latest_answer
        if answer is not None:
            match_set, version = answer[0], answer[2]
            if version == match_set.project_epoch.version:
                return answer[1]
        found = self._match_set(at, tuple(at.index.match(labels, self.pause)))
        self._remember(at, values, (found[0], found, found[0].project_epoch.version))
        return found

    def match_views(
        self, views: NamedViews, project: str
    ) -> tuple[MatchSet, tuple[MatchedSource, ...]]:
        """Return the sources that take a project's series with several names."""
        at = self._projects.get(project)
        if at is None:
            return self._without_exporters.unmatched, ()
        matched = takers(at.index, at.sources, views, self.pause)
        return self._match_set(at, tuple(sorted(matched, key=_by_sequence)))

    def subscribers(self, views: NamedViews, project: str) -> list[SourceCounter]:
        """Return the counters of the sources that take a series, without caching."""
        at = self._projects.get(project)
        found = takers(at.index, at.sources, views, no_pause) if at is not None else []
        return [route.counter for route in found]

    def routes(self, exporter: str) -> bool:
        """Return True if an exporter is routed."""
        return exporter in self._exporters

    def selections(self, exporter: str) -> tuple[str, dict[str, Compiled]]:
        """Return the project of a routed exporter, and the selection of each of its sources."""
        project, routed = self._exporters[exporter]
        return project, {name: source.compiled for name, source in routed.items()}

    def match_changed_only(
        self,
        match_set: MatchSet,
        since: int,
        view: Callable[[], tuple[Mapping[str, str], str]],
    ) -> tuple[MatchSet, tuple[MatchedSource, ...]]:
        """Match a series against the sources that changed since it was resolved.

        Equal to :meth:`match` for a series that got ``match_set`` at version ``since`` of its
        project. ``view``, its labels and project, is called only if needed.
        """
        at = self._projects.get(match_set.home.project)
        changed = at.changed_since(since) if at is not None and at is match_set.home else None
        if at is None or changed is None:
            return self.match(*view())
        ask = [route for route in changed if route.alive]
        if len(ask) > ASK_MAX:
            return self.match(*view())
        matched = [route for route in match_set.matched if route.alive and route not in changed]
        if ask:
            labels, _ = view()
            matched += [route for route in ask if at.sources[route].matches(labels)]
            matched.sort(key=_by_sequence)
        return self._match_set(at, tuple(matched))

    def series_of(self, exporter: str) -> SeriesCounts | None:
        """Return how many series an exporter takes; None if it is not routed."""
        if exporter not in self._exporters:
            return None
        project, routed = self._exporters[exporter]
        routes = [source.route for source in routed.values()]
        return count_series(routes, self._projects[project].by_route)

    def project_series(self) -> dict[str, ProjectSeries]:
        """Return the series of every project that has exporters."""
        return {
            name: ProjectSeries(at.tally.taken, at.tally.refused)
            for name, at in self._projects.items()
        }

    def has_project(self, project: str) -> bool:
        """Return True if a project has exporters."""
        return project in self._projects

    def reserve(self, project: str, crcs: set[int]) -> None:
        """Keep places for series of a project by the CRC of their labels; none: keep no more."""
        at = self._projects.get(project)
        if at is not None and at.tally.series_max is not None:
            at.tally.reserved = crcs

    def set_share(self, project: str, share_max: int) -> bool:
        """Take only a share of a project's series; return whether series need new routes."""
        at = self._projects.get(project)
        if at is None or at.tally.share_max == share_max:
            return False
        if share_max < at.tally.share_max:
            for match_set in list(at.match_sets.values()):
                self._end(at, match_set)
            self._answers.clear()
        else:
            self._end_refusals(at)
        at.tally.limit(at.tally.series_max, share_max)
        return True

    def readmit(self, tick: float) -> bool:
        """Let refused series be asked again where there is room; return whether any are.

        ``tick`` is the monotonic clock, s; cheap where it is called for every request.
        """
        if tick < self._readmit_at:
            return False
        self._readmit_at = tick + READMIT_S
        found = False
        for at in self._projects.values():
            if at.tally.refused and at.tally.has_room:
                self._end_refusals(at)
                found = True
        return found

    def _end_refusals(self, at: _Project) -> None:
        for match_set in at.match_sets.values():
            self._retired += match_set.end_refusals()

    def renew_raw(self) -> None:
        """Let series with raw targets have their routes made anew."""
        for at in self._projects.values():
            for match_set in list(at.match_sets.values()):
                if match_set.raw:
                    self._end(at, match_set)
        self._answers.clear()
        self._unsettled = True

    def apply_inventory_changes(self) -> bool:
        """Apply a request's inventory changes; return whether series need new routes.

        To be called once its samples are counted.
        """
        if self._retired:
            self._fold_retired()
        for project in self.inventory.take_changed():
            at = self._projects.get(project)
            if at is not None and at.dependents:
                at.note(list(at.dependents))
                self._unsettled = True
        unsettled, self._unsettled = self._unsettled, False
        return unsettled

    def forget_counters(self, exporter: str) -> None:
        """Drop the counts of an exporter that was removed for good."""
        assert exporter not in self._exporters, exporter
        self._source_counters.pop(exporter, None)

    def flush_counters(self) -> None:
        """Bring the counters of sources and sinks up to date."""
        for at in self._projects.values():
            for match_set in at.match_sets.values():
                match_set.flush_counters()
        self._fold_retired()

    def counters_of(self, exporter: str) -> Mapping[str, SourceCounter]:
        """Return the counters of an exporter's sources by name; fold them before."""
        return self._source_counters.get(exporter, {})

    def fold_exporter(self, exporter: str) -> None:
        """Bring the counters of one exporter up to date, if it is known."""
        project, routed = self._exporters.get(exporter, ("", {}))
        for source in routed.values():
            for match_set in self._projects[project].by_route.get(source.route, ()):
                match_set.flush_counters()
        self._fold_retired()

    def source_counters(self) -> Iterator[SourceCounter]:
        """Yield the counters of all sources; call :meth:`flush_counters` before."""
        for counters in self._source_counters.values():
            yield from counters.values()

    def statistics(self) -> RouterStatistics:
        """Return a snapshot."""
        projects = self._projects.values()
        unmatched = [one for one in self._retired if not one.matched and one.refuses is None]
        unmatched += [at.unmatched for at in (self._without_exporters, *projects)]
        return RouterStatistics(
            exporters=len(self._exporters),
            sources=sum(len(at.sources) for at in projects),
            match_sets=sum(len(at.match_sets) for at in projects),
            unmatched_samples=sum(match_set.samples for match_set in unmatched),
            projects=len(projects),
            always_asked=sum(at.index.always for at in projects),
        )

    def __repr__(self) -> str:
        return f"<Router {len(self._exporters)} exporters of {len(self._projects)} projects>"

    def _add_source(
        self,
        at: _Project,
        exporter: str,
        routed: dict[str, RoutedSource],
        name: str,
        selection: Selection,
        targets: Sequence[SinkOutputSpec],
    ) -> MatchedSource:
        assert name not in routed, f"{exporter} {name}"
        counters = self._source_counters.setdefault(exporter, {})
        counter = counters.setdefault(name, SourceCounter(exporter, name))
        self._sequence += 1
        route = MatchedSource(counter, targets, self._sequence)
        compiled = self._compiler.compile(selection, self.inventory.for_project(at.project))
        routed[name] = RoutedSource(selection, compiled, route)
        at.sources[route] = compiled
        at.index.add(route, compiled)
        at.labels_read = at.index.labels_read
        if uses_inventory(selection):
            at.dependents[route] = None
        return route

    def _remove_source(self, at: _Project, source: RoutedSource) -> None:
        route = source.route
        route.alive = False
        self._end_match_sets(at, route)
        route.feed(())  # the log of changes remembers the route: not its sinks as well
        at.index.remove(route)
        at.labels_read = at.index.labels_read
        del at.sources[route]
        at.dependents.pop(route, None)

    def _fold_retired(self) -> None:
        """Add the counts of match sets that ended during the request."""
        if self.held:
            return
        for match_set in self._retired:
            if not match_set.matched and match_set.refuses is None:
                self._without_exporters.unmatched.samples += match_set.samples
                match_set.samples = 0
            match_set.flush_counters()
            match_set.forget_variants()
        self._retired.clear()

    def _forget(self, at: _Project) -> None:
        """Leave nothing of a project to the cyclic GC, which does not look at frozen objects.

        Series that are not seen again keep its match set of nothing, and through that the project.
        """
        self._answers.clear()
        at.changes.clear()
        at.latest_answer, at.unmatched = None, self._without_exporters.unmatched

    def _remember(self, at: _Project, values: _Values, answer: _Answer) -> None:
        at.latest_values, at.latest_answer = values, answer
        if sum(map(len, filter(None, values))) > ANSWER_CHARS_MAX:
            return
        if len(self._answers) >= ANSWERS_MAX:
            self._answers.clear()
        self._answers[at, values] = answer

    def _match_set(
        self, at: _Project, matched: tuple[MatchedSource, ...]
    ) -> tuple[MatchSet, tuple[MatchedSource, ...]]:
        """Return the match set of the series that matched these sources."""
        if not matched:
            return at.unmatched, ()
        match_set = at.match_sets.get(matched)
        if match_set is None:
            if len(at.match_sets) >= MATCH_SETS_MAX:
                for old in list(at.match_sets.values()):
                    self._end(at, old)
                self._unsettled = True
            match_set = MatchSet(at, matched)
            at.match_sets[matched] = match_set
            for route in matched:
                at.by_route.setdefault(route, {})[match_set] = None
        return match_set, matched

    def _end_match_sets(self, at: _Project, route: MatchedSource) -> None:
        """Invalidate every match set that this source is part of."""
        # Cached answers reference match sets, and through them the sinks of removed exporters.
        self._answers.clear()
        for match_set in list(at.by_route.get(route, ())):
            self._end(at, match_set)

    def _end(self, at: _Project, match_set: MatchSet) -> None:
        at.latest_answer = None
        match_set.invalidate()
        self._retired.append(match_set)
        del at.match_sets[match_set.matched]
        for route in match_set.matched:
            match_sets = at.by_route[route]
            del match_sets[match_set]
            if not match_sets:
                del at.by_route[route]
