"""The table that recognises series, bounded and safe against floods of new ones.

Rules:

* ``Series.generation`` equals ``SeriesTable.generation`` exactly while its routes may be used as
  they are. Whatever changes them moves the table's generation, and every series goes through
  :meth:`SeriesTable.find` at its next sample. So it also says when a series was seen last.
* A series that was seen once is a *newcomer*, and stays one until it is seen again: it is left a
  generation behind, so that its second sample comes through :meth:`find` too. Where room is needed,
  the oldest newcomer goes first, as in the algorithms 2Q and S3-FIFO (Yang et al., "FIFO queues are
  all you need for cache eviction", SOSP 2023): whoever sends only new series turns out their own.
  Only where newcomers have less than a tenth of the table do known series go, the least recently
  seen of a few that are looked at.
* What has not been seen for ``idle_s`` is forgotten, a few at a time, in step with the clock.
* Nothing here takes long at once: one series goes for one that comes, and the dictionary is split,
  because Python copies a whole dictionary when it grows.
* A forgotten series may still be some live one's guess. It is emptied, so that it keeps no other
  series and next to no memory alive, and its key becomes one that no message begins with.
* The same labels from two *origins* are two series. The bounds are for all origins together.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from relay.pipeline.metrics.series.series import Series
from relay.pipeline.routing.tenancy import ANYWHERE, IngestPath

SHARDS: Final = 64
"""Dictionaries per origin: with a million series the largest copy takes a millisecond."""
NEWCOMERS_SHARE: Final = 10
"""One in so many places of the table is for newcomers, also where known series would fill it."""
SORT_MAX: Final = 10_000
"""Newcomers that were seen again and are put aside to find one that was not: below a millisecond,
and each only once."""
LOOKS_MAX: Final = 8
"""Known series that are compared to find one to forget."""
EPOCHS: Final = 8
"""In how many steps ``idle_s`` is measured; each makes every series pass :meth:`find` once."""
SWEEP_MAX: Final = 1_000
"""Series that one call of :meth:`SeriesTable.evict_idle` looks at: well below a millisecond."""

_FORGOTTEN_KEY: Final = b"\x07"
"""Field 0 with wire type 7: no message begins with that, and one that does is refused."""


@dataclass(frozen=True, slots=True)
class SeriesTableStatistics:
    """``active`` series known now, ``newcomers`` among them seen once only; the rest since the
    start: ``created``, and forgotten because idle or because the table was full."""

    active: int
    newcomers: int
    created: int
    forgotten_idle: int
    forgotten_full: int

    @property
    def forgotten(self) -> int:
        """All that were forgotten."""
        return self.forgotten_idle + self.forgotten_full


class _Scope:
    """The series of one origin. ``root`` is no series: its successor began the last request."""

    __slots__ = ("first_in_request", "shards")

    def __init__(self) -> None:
        self.first_in_request = Series(b"")
        self.first_in_request.generation = 0
        self.shards: tuple[dict[bytes, Series], ...] = tuple({} for _ in range(SHARDS))


class SeriesTable:
    """Finds series by their bytes; bounded by ``series_max`` over all origins.

    ``idle_s`` is in the clock that :meth:`sweep` is given. :meth:`enter` chooses the origin that
    ``root``, :meth:`find` and :meth:`add` are about.
    """

    def __init__(self, *, series_max: int, idle_s: float = 3600.0) -> None:
        assert series_max > 0
        self.generation = 1
        self._series_max = series_max
        self._newcomers_min = max(1, series_max // NEWCOMERS_SHARE)
        self._epoch_s = idle_s / EPOCHS
        self._scopes: dict[IngestPath, _Scope] = {}
        self._scope = self._scopes[ANYWHERE] = _Scope()
        self._newcomers: deque[Series] = deque()
        self._known: list[Series] = []
        self._hand = 0
        self._due = 0.0
        """Series that the sweep should have looked at by now; a fraction is carried on."""
        self._swept_at = 0.0
        self._epochs: deque[tuple[float, int]] = deque()
        self._created = 0
        self._forgotten_idle = 0
        self._forgotten_full = 0

    @property
    def first_in_request(self) -> Series:
        """Not a series; its successor is the one that began the origin's last request."""
        return self._scope.first_in_request

    def select_scope(self, origin: IngestPath) -> None:
        """Turn to the series of an origin. Origins are few: the operator's settings name them."""
        scope = self._scopes.get(origin)
        if scope is None:
            scope = self._scopes[origin] = _Scope()
        self._scope = scope

    def find(self, key: bytes) -> Series | None:
        """Return the series with these bytes, marking it as seen again, or None."""
        at = hash(key)
        series: Series | None = self._scope.shards[at % SHARDS].get(key)
        if series is not None:
            series.is_known = True
        return series

    def look(self, origin: IngestPath, key: bytes) -> Series | None:
        """The series of an origin with these bytes, or None; it does not count as seen."""
        scope = self._scopes.get(origin)
        if scope is None:
            return None
        at = hash(key)
        return scope.shards[at % SHARDS].get(key)

    def add(self, series: Series) -> None:
        """Keep a series that :meth:`find` did not know; another one may be forgotten for it."""
        if len(self._newcomers) + len(self._known) >= self._series_max:
            self._make_room()
        at = hash(series.key)
        shard = self._scope.shards[at % SHARDS]
        shard[series.key] = series
        series.shard = shard
        self._newcomers.append(series)
        series.generation = self.generation - 1
        self._created += 1

    def invalidate(self) -> None:
        """Make every series go through :meth:`find` before its routes are used again."""
        self.generation += 1

    def evict_idle(self, now: float) -> None:
        """Forget some of what has been idle for too long. To be called often; takes little."""
        self._sort_newcomers(SWEEP_MAX)
        if not self._epochs or now >= self._epochs[-1][0] + self._epoch_s:
            self.generation += 1
            self._epochs.append((now, self.generation))
            if len(self._epochs) > EPOCHS + 1:
                self._epochs.popleft()
        # Once around in an epoch, at a pace that depends on the clock and not on the traffic.
        known = len(self._known)
        pace = max(0.0, now - self._swept_at) / self._epoch_s * known if self._swept_at else 0.0
        self._due = min(self._due + pace, float(known))
        self._swept_at = now
        if len(self._epochs) > EPOCHS:
            self._forget_idle(self._epochs[0][1])

    def statistics(self) -> SeriesTableStatistics:
        """A snapshot."""
        return SeriesTableStatistics(
            len(self._newcomers) + len(self._known),
            len(self._newcomers),
            self._created,
            self._forgotten_idle,
            self._forgotten_full,
        )

    def _sort_newcomers(self, looks_max: int) -> None:
        """Take those out of the oldest newcomers that were seen again."""
        newcomers = self._newcomers
        for _ in range(looks_max):
            if not newcomers or not newcomers[0].is_known:
                break
            self._known.append(newcomers.popleft())

    def _forget_idle(self, generation: int) -> None:
        """Forget series last seen before ``generation``, looking at a bounded number of them."""
        newcomers = self._newcomers
        for _ in range(min(SWEEP_MAX, len(newcomers))):
            if newcomers[0].is_known or newcomers[0].generation >= generation:
                break  # those behind it are younger
            self._forget(newcomers.popleft())
            self._forgotten_idle += 1
        looks = min(SWEEP_MAX, int(self._due))
        self._due -= looks
        for _ in range(looks):
            if self._hand >= len(self._known):
                self._hand = 0
                if not self._known:
                    break
            if self._known[self._hand].generation < generation:
                self._forget_known(self._hand)
                self._forgotten_idle += 1
            else:
                self._hand += 1

    def _make_room(self) -> None:
        """Forget one series."""
        self._forgotten_full += 1
        self._sort_newcomers(SORT_MAX)
        newcomers = self._newcomers
        known = self._known
        if newcomers and (len(newcomers) >= self._newcomers_min or not known):
            if not newcomers[0].is_known:
                self._forget(newcomers.popleft())
                return
            known.append(newcomers.popleft())
        first = self._hand % len(known)
        looks = range(first, min(first + LOOKS_MAX, len(known)))
        self._forget_known(min(looks, key=lambda place: known[place].generation))
        self._hand = first + 1

    def _forget_known(self, place: int) -> None:
        """Forget a known series; the last one takes its place."""
        series = self._known[place]
        self._known[place] = self._known[-1]
        self._known.pop()
        self._forget(series)

    def _forget(self, series: Series) -> None:
        assert series.shard is not None, "only what is kept can be forgotten"
        del series.shard[series.key]
        series.empty(_FORGOTTEN_KEY)

    def __repr__(self) -> str:
        return f"<SeriesTable {len(self._known)} known series, {len(self._newcomers)} new>"
