"""The table that recognises series, bounded and safe against floods of new ones.

Rules:

* ``Series.generation`` equals ``SeriesTable.generation`` exactly while its routes may be used as
  they are. Whatever changes them moves the table's generation, and every series goes through
  :meth:`SeriesTable.find` at its next sample. So it also says when a series was seen last.
* A series that was seen once is a *newcomer*, and stays one until it is seen again: it is left a
  generation behind, so that its second sample comes through :meth:`find` too. Where room is needed,
  the oldest newcomer goes first, as in the algorithms 2Q and S3-FIFO (Yang et al., "FIFO queues are
  all you need for cache eviction", SOSP 2023): a sender of only new series evicts its own.
  Only where newcomers have less than a tenth of the room do known series go, the least recently
  seen of a few that are looked at.
* What has not been seen for ``idle_s`` is forgotten, a few at a time, in step with the clock.
* Nothing here takes long at once: one series goes for one that comes, and the dictionary is split,
  because Python copies a whole dictionary when it grows.
* A forgotten series may still be predicted by a live one. It is emptied, so that it keeps no other
  series and next to no memory alive, and its key becomes one that no message begins with.
* The same labels from two *origins* are two series. The bounds are for all origins together.
* The room is shared out among projects, as in :mod:`relay.runtime.project_shares`. While there is
  room, any project takes it. Then each evicts its own, newcomers first, but for a tenth of its even
  share of the table, which newcomers always have, and for what it has less than an even share: that
  comes from a project that has more. So no flood of one project, whether its series are sent once
  or often, turns out series of another one that has no more than an even share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
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
SHARES_MAX: Final = 64
"""Shares that one call of :meth:`SeriesTable.evict_idle` looks at."""

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


class _Share:
    """The series of one project, or of all that have one share together. ``hand`` is the place of
    the known series that is looked at next."""

    __slots__ = ("hand", "known", "name", "newcomers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.newcomers: deque[Series] = deque()
        self.known: list[Series] = []
        self.hand = 0

    def sort(self, looks_max: int) -> int:
        """Take those out of the oldest newcomers that were seen again; return how many."""
        newcomers, known = self.newcomers, self.known
        count = 0
        while count < looks_max and newcomers and newcomers[0].is_known:
            known.append(newcomers.popleft())
            count += 1
        return count

    def __len__(self) -> int:
        return len(self.newcomers) + len(self.known)

    def __repr__(self) -> str:
        return f"<_Share {self.name!r} {len(self.known)} known, {len(self.newcomers)} new>"


class SeriesTable:
    """Finds series by their bytes; bounded by ``series_max`` over all origins.

    ``idle_s`` is in the clock that :meth:`sweep` is given. :meth:`enter` chooses the origin that
    ``root``, :meth:`find` and :meth:`add` are about.
    """

    def __init__(self, *, series_max: int, idle_s: float = 3600.0) -> None:
        assert series_max > 0
        self.generation = 1
        self._series_max = series_max
        self._epoch_s = idle_s / EPOCHS
        self._scopes: dict[IngestPath, _Scope] = {}
        self._scope = self._scopes[ANYWHERE] = _Scope()
        self._shares: dict[str, _Share] = {}
        self._order: list[_Share] = []
        """The shares in the order in which the sweep comes to them."""
        self._over: list[_Share] = []
        """Shares that had more than an even part when this was looked for."""
        self._active = 0
        self._known = 0
        self._turn = 0
        """Whose newcomers the sweep looks at next, by its place in the order."""
        self._swept = 0
        """The same for known series."""
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

    def add(self, series: Series, share: str = "") -> None:
        """Keep a series that :meth:`find` did not know, in the share of a project; another one may
        be forgotten for it."""
        own = self._shares.get(share)
        if own is None:
            own = self._shares[share] = _Share(share)
            self._order.append(own)
        if self._active >= self._series_max:
            self._make_room(own)
        at = hash(series.key)
        shard = self._scope.shards[at % SHARDS]
        shard[series.key] = series
        series.shard = shard
        own.newcomers.append(series)
        series.generation = self.generation - 1
        self._created += 1
        self._active += 1

    def invalidate(self) -> None:
        """Make every series go through :meth:`find` before its routes are used again."""
        self.generation += 1

    def evict_idle(self, now: float) -> None:
        """Forget some of what has been idle for too long. To be called often; takes little."""
        if not self._epochs or now >= self._epochs[-1][0] + self._epoch_s:
            self.generation += 1
            self._epochs.append((now, self.generation))
            if len(self._epochs) > EPOCHS + 1:
                self._epochs.popleft()
        generation = self._epochs[0][1] if len(self._epochs) > EPOCHS else 0
        self._sweep_newcomers(generation)
        # Once around in an epoch, at a pace that depends on the clock and not on the traffic.
        known = self._known
        pace = max(0.0, now - self._swept_at) / self._epoch_s * known if self._swept_at else 0.0
        self._due = min(self._due + pace, float(known))
        self._swept_at = now
        if generation:
            self._sweep_known(generation)

    def statistics(self) -> SeriesTableStatistics:
        """A snapshot."""
        return SeriesTableStatistics(
            self._active,
            sum(len(share.newcomers) for share in self._order),
            self._created,
            self._forgotten_idle,
            self._forgotten_full,
        )

    def kept(self) -> Iterator[Series]:
        """Every series, for tests and those who ask: it takes long."""
        for share in self._order:
            yield from share.newcomers
            yield from share.known

    def _sweep_newcomers(self, generation: int) -> None:
        """Sort the newcomers of some shares; forget those last seen before ``generation``. Shares
        that are empty go."""
        looks = SWEEP_MAX
        order = self._order
        for _ in range(min(SHARES_MAX, len(order))):
            if self._turn >= len(order):
                self._turn = 0
            share = order[self._turn]
            sorted_now = share.sort(looks)
            self._known += sorted_now
            looks -= sorted_now
            newcomers = share.newcomers
            # Those behind one that is younger are younger.
            while looks and newcomers and not newcomers[0].is_known:
                if newcomers[0].generation >= generation:
                    break
                self._forget(newcomers.popleft())
                self._forgotten_idle += 1
                looks -= 1
            if not looks:
                break  # its turn goes on
            if newcomers or share.known:
                self._turn += 1
            else:
                del self._shares[share.name], order[self._turn]

    def _sweep_known(self, generation: int) -> None:
        """Forget known series last seen before ``generation``, looking at a bounded number."""
        looks = min(SWEEP_MAX, int(self._due))
        self._due -= looks
        order = self._order
        ends = SHARES_MAX
        while looks and ends and self._known:
            if self._swept >= len(order):
                self._swept = 0
            share = order[self._swept]
            if share.hand >= len(share.known):
                share.hand = 0
                self._swept += 1
                ends -= 1
                continue
            looks -= 1
            if share.known[share.hand].generation < generation:
                self._forget_known(share, share.hand)
                self._forgotten_idle += 1
            else:
                share.hand += 1
        self._due += looks  # where it did not come to them

    def _make_room(self, own: _Share) -> None:
        """Forget one series for one more of this share."""
        self._forgotten_full += 1
        even = self._series_max // len(self._order)
        newcomers_min = max(1, even // NEWCOMERS_SHARE)
        self._known += own.sort(SORT_MAX)
        giver = own
        if len(own.newcomers) < newcomers_min and len(own) < max(1, even):
            giver = self._giver(own, even)
            self._known += giver.sort(SORT_MAX)
        newcomers, known = giver.newcomers, giver.known
        if newcomers and (len(newcomers) >= newcomers_min or not known):
            series = newcomers.popleft()
            if not series.is_known:
                self._forget(series)
                return
            known.append(series)
            self._known += 1
        first = giver.hand % len(known)
        looks = range(first, min(first + LOOKS_MAX, len(known)))
        self._forget_known(giver, min(looks, key=lambda place: known[place].generation))
        giver.hand = first + 1

    def _giver(self, own: _Share, even: int) -> _Share:
        """A share that has more than an even part. One that was found serves for as many series as
        it has too much."""
        over = self._over
        while True:
            while over:
                if len(over[-1]) > even and over[-1] is not own:
                    return over[-1]
                over.pop()
            over += (share for share in self._order if len(share) > even and share is not own)
            if not over:  # more shares than places
                return next(share for share in self._order if len(share))

    def _forget_known(self, share: _Share, place: int) -> None:
        """Forget a known series; the last one takes its place."""
        known = share.known
        series = known[place]
        known[place] = known[-1]
        known.pop()
        self._known -= 1
        self._forget(series)

    def _forget(self, series: Series) -> None:
        assert series.shard is not None, "only what is kept can be forgotten"
        del series.shard[series.key]
        series.empty(_FORGOTTEN_KEY)
        self._active -= 1

    def __repr__(self) -> str:
        return f"<SeriesTable {self._known} known series, {self._active - self._known} new>"
