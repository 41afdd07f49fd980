"""Keeps exemplars that came without a sample until the next sample of their series.

Prometheus sends exemplars as series of their own, behind the sample that they belong to
(``storage/remote/queue_manager.go``). By then the sample's point is in its batches, so an exemplar
goes with the series' next point. Rules:

* A series that waits gets, in place of its typed routes, one handler that appends its next point
  with the exemplars and puts the routes back. Samples without exemplars cost nothing more than
  before. Raw routes stay: their exemplars do not wait (:mod:`relay.pipeline.metrics.raw.points`).
* Bounded: the newest :data:`PER_SERIES_MAX` of a series, ``exemplars_max`` in total, shared among
  projects (:mod:`relay.runtime.project_shares`); the series that has waited longest is evicted
  first. Exemplars without a point are counted as dropped.
* Exemplars are a sample of samples. They survive no restart, and re-resolving a series drops them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from relay.codec.otlp.data_points import Exemplar
from relay.pipeline.batching.emitter import Emitter, SampleProcessor, append_number
from relay.pipeline.batching.transaction import NO_EXTRAS, SampleExtras
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.routing.match_set import MatchSet
from relay.pipeline.routing.route import Route
from relay.runtime.project_shares import Shares

PER_SERIES_MAX = 8


@dataclass(frozen=True, slots=True)
class ExemplarBufferStatistics:
    """``received`` with all requests; ``sent`` with a point; ``dropped`` on the way; ``waiting``.

    Exemplars of unmatched series count as received only.
    """

    received: int
    sent: int
    dropped: int
    waiting: int


class ExemplarBuffer:
    """Holds exemplars until the next point of their series, in bounded memory."""

    def __init__(self, *, exemplars_max: int = 20_000) -> None:
        self._shares = Shares(exemplars_max)
        self._waiting: dict[str, OrderedDict[Series, _Waiting]] = {}
        """By project, those that have waited longest first."""
        self.received = 0
        self.sent = 0
        self.dropped = 0

    def add(self, series: Series, exemplars: tuple[Exemplar, ...]) -> None:
        """Keep exemplars for the next point of their series, which is resolved and good."""
        if series.native is not None and series.native.wanted:
            kept = (series.native.exemplars + exemplars)[-PER_SERIES_MAX:]
            self.dropped += len(series.native.exemplars) + len(exemplars) - len(kept)
            series.native.exemplars = kept
            return
        if len(series.routes) == len(series.match_set.raw_outputs) and not series.handlers:
            return
        project = series.types.project
        own = self._waiting.setdefault(project, OrderedDict())
        waiting = own.get(series)
        if waiting is None or waiting.match_set is not series.match_set:
            self._forget(project, series)
            waiting = own[series] = _Waiting(self, series)
        before = len(waiting.exemplars)
        kept = (waiting.exemplars + exemplars)[-PER_SERIES_MAX:]
        self.dropped += before + len(exemplars) - len(kept)
        more = len(kept) - before
        for added in range(more):
            share = self._shares.must_evict(project)
            if share is not None:
                self._forget(share, next(iter(self._waiting[share])))
                if own.get(series) is not waiting:  # there is room for fewer than these
                    if added:
                        self._shares.remove(project, added)
                    self.dropped += more
                    return
            self._shares.add(project)
        waiting.exemplars = kept

    def pop(self, series: Series, waiting: _Waiting) -> None:
        """Remove a waiter and return its exemplars: the series has its next point."""
        project = series.types.project
        own = self._waiting.get(project)
        if own is not None and own.get(series) is waiting:
            del own[series]
            self._shares.remove(project, len(waiting.exemplars))

    def statistics(self) -> ExemplarBufferStatistics:
        """Return a snapshot."""
        return ExemplarBufferStatistics(self.received, self.sent, self.dropped, self._shares.total)

    def _forget(self, project: str, series: Series) -> None:
        waiting = self._waiting[project].pop(series, None)
        if waiting is not None:
            self._shares.remove(project, len(waiting.exemplars))
            self.dropped += len(waiting.exemplars)
            waiting.exemplars = ()
            waiting.restore()

    def __repr__(self) -> str:
        series = sum(map(len, self._waiting.values()))
        return f"<ExemplarBuffer {self._shares.total} waiting of {series} series>"


class _Waiting:
    """Stands in for the typed routes and handlers of a series until its next sample."""

    __slots__ = (
        "_exemplar_buffer",
        "_handlers",
        "_original",
        "_raw",
        "_routes",
        "_series",
        "exemplars",
        "match_set",
    )

    def __init__(self, exemplar_buffer: ExemplarBuffer, series: Series) -> None:
        self._exemplar_buffer = exemplar_buffer
        self._series = series
        self._original: MatchSet = series.match_set
        raw = len(series.match_set.raw_outputs)
        self._raw: tuple[Route, ...] = series.routes[:raw]
        self._routes: tuple[Route, ...] = series.routes[raw:]
        self._handlers: tuple[SampleProcessor, ...] = series.handlers
        self.exemplars: tuple[Exemplar, ...] = ()
        self.match_set = series.match_set = series.match_set.with_processors()
        series.routes = self._raw
        series.handlers = (self,)

    def take(
        self, stamp: bytes, value: bytes, extra: SampleExtras | None, emitter: Emitter
    ) -> None:
        """Append the sample with all that waits; later ones of the same round go without."""
        self.restore()
        self._exemplar_buffer.pop(self._series, self)
        extra = extra or NO_EXTRAS
        extra = extra._replace(exemplars=extra.exemplars + self.exemplars)
        self.exemplars = ()
        for batches, group, prefix in self._routes:
            route = emitter.needed(batches), group, prefix
            append_number(route, stamp, value, extra, emitter.origin, emitter.transaction)
        if self._routes and not self._handlers:
            emitter.transaction.note_exemplars(len(extra.exemplars), is_sent=True)
        for handler in self._handlers:
            handler.take(stamp, value, extra, emitter)

    def restore(self) -> None:
        """Put the series' own routes and handlers back, unless it was resolved anew meanwhile."""
        if self._series.match_set is self.match_set:
            self._series.match_set = self._original
            self._series.routes = (*self._raw, *self._routes)
            self._series.handlers = self._handlers

    def __repr__(self) -> str:
        return f"<_Waiting {len(self.exemplars)} exemplars of {self._series!r}>"
