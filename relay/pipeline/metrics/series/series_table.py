"""The table that recognises series, bounded and safe against floods of new ones.

Rules:

* ``Series.generation`` equals ``SeriesTable.generation`` exactly while its routes are valid. Any
  change of routes increases the table's, and every series passes :meth:`SeriesTable.find` at its
  next sample; so it also tells when a series was seen last.
* A series that was seen once is *probationary*: it is kept a generation behind, so that its second
  sample passes :meth:`find` too. The oldest of these is evicted first, as in 2Q and S3-FIFO (Yang
  et al., SOSP 2023): a sender of only new series evicts its own. If probationary series have less
  than a tenth of the table, the least recently seen of a few known series is evicted.
* Series not seen for ``idle_s`` are forgotten, a few at a time, in step with the clock.
* No call takes long: a new series evicts one, and the index of series grows a shard at a time
  (:mod:`relay.pipeline.metrics.series.hash_index`).
* A forgotten series may still be predicted by a live one. It is emptied, so that it keeps no other
  series alive, and its key becomes one that no message begins with.
* The same labels from two *origins* are two series. The bounds are for all origins together.
* A full table is shared among projects (:mod:`relay.runtime.project_shares`): each evicts its own,
  probationary ones first down to a tenth of its even share, but one below its even share evicts
  from one above. So no project evicts series of one that has no more than an even share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from relay.pipeline.metrics.series.hash_index import PARTS, SeriesHashIndex, hash_of
from relay.pipeline.metrics.series.series import Series, SeriesQueue
from relay.pipeline.routing.tenancy import ANYWHERE, IngestPath

PROBATIONARY_SHARE: Final = 10
"""One place in ten is reserved for probationary series."""
SORT_MAX: Final = 10_000
"""Probationary series that one eviction moves to the known ones: below a millisecond."""
LOOKS_MAX: Final = 8
"""Known series that are compared to find one to evict."""
EPOCHS: Final = 8
"""Number of steps in which ``idle_s`` is measured; each makes every series pass :meth:`find`."""
SWEEP_MAX: Final = 1_000
"""Series that one call of :meth:`SeriesTable.evict_idle` checks: well below a millisecond."""
SHARES_MAX: Final = 64
"""Shares that one call of :meth:`SeriesTable.evict_idle` checks."""

_FORGOTTEN_KEY: Final = b"\x07"
"""Field 0 with wire type 7: no message begins with that, and one that does is refused."""


@dataclass(frozen=True, slots=True)
class SeriesTableStatistics:
    """A snapshot.

    ``active`` series known now, of these ``probationary`` ones seen only once; since the start:
    ``created`` and forgotten ones, because idle or because the table was full.
    """

    active: int
    probationary: int
    created: int
    forgotten_idle: int
    forgotten_full: int

    @property
    def forgotten(self) -> int:
        """Number of series forgotten for any reason."""
        return self.forgotten_idle + self.forgotten_full


class _Scope:
    """The series of one origin, by ``number``; see :attr:`SeriesTable.first_in_request`."""

    __slots__ = ("first_in_request", "index", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.first_in_request = Series(b"")
        self.first_in_request.generation = 0
        self.index = SeriesHashIndex()


class _Share:
    """The series of one project, or of all projects that have one share together.

    ``hand`` is the index of the next known series to check.
    """

    __slots__ = ("hand", "known", "name", "probationary")

    def __init__(self, name: str) -> None:
        self.name = name
        self.probationary = SeriesQueue()
        self.known: list[Series] = []
        self.hand = 0

    def sort(self, looks_max: int) -> int:
        """Move the oldest series of ``probationary`` that are known by now; return how many."""
        probationary, known = self.probationary, self.known
        count = 0
        while count < looks_max:
            first = probationary.first()
            if first is None or not first.is_known:
                break
            known.append(probationary.popleft())
            count += 1
        return count

    def __len__(self) -> int:
        return len(self.probationary) + len(self.known)

    def __repr__(self) -> str:
        return f"<_Share {self.name!r} {len(self.known)} known, {len(self.probationary)} new>"


class SeriesTable:
    """Finds series by their bytes; bounded by ``series_max`` over all origins.

    ``idle_s`` is on the clock that :meth:`evict_idle` gets. :meth:`select_scope` chooses the origin
    that :meth:`first_in_request`, :meth:`find` and :meth:`add` refer to.
    """

    def __init__(self, *, series_max: int, idle_s: float = 3600.0) -> None:
        assert series_max > 0
        self.generation = 1
        self._series_max = series_max
        self._epoch_s = idle_s / EPOCHS
        self._scopes: dict[IngestPath, _Scope] = {}
        self._scope = self._scopes[ANYWHERE] = _Scope(0)
        self.index = self._scope.index
        """Of the series of the origin that was selected."""
        self._numbered: list[_Scope] = [self._scope]
        self._shares: dict[str, _Share] = {}
        self._order: list[_Share] = []
        """The shares in the order of the sweep."""
        self._latest: _Share | None = None
        """The share of the series that was added last, unless it is gone."""
        self._over: list[_Share] = []
        """Shares that had more than an even part at the last check."""
        self._active = 0
        self._known = 0
        self._turn = 0
        """Index of the share whose probationary series the sweep checks next."""
        self._swept = 0
        """Index of the share whose known series the sweep checks next."""
        self._due = 0.0
        """Series that the sweep should have checked by now; a fraction is carried over."""
        self._swept_at = 0.0
        self._epochs: deque[tuple[float, int]] = deque()
        self._created = 0
        self._forgotten_idle = 0
        self._forgotten_full = 0

    @property
    def first_in_request(self) -> Series:
        """Not a series; its successor is the one that began the origin's last request."""
        return self._scope.first_in_request

    @property
    def active(self) -> int:
        """Number of series known now."""
        return self._active

    def select_scope(self, origin: IngestPath) -> None:
        """Select the series of an origin; the settings name the origins, so they are few."""
        scope = self._scopes.get(origin)
        if scope is None:
            scope = self._scopes[origin] = _Scope(len(self._numbered))
            self._numbered.append(scope)
        self._scope = scope
        self.index = scope.index

    def find(self, key: bytes) -> Series | None:
        """Return the series with these bytes, marking it as seen again, or None."""
        series = self.index.of_key(key)
        if series is not None:
            series.is_known = True
        return series

    def look(self, origin: IngestPath, key: bytes) -> Series | None:
        """Return the series of an origin with these bytes, or None, without marking it as seen."""
        scope = self._scopes.get(origin)
        if scope is None:
            return None
        return scope.index.of_key(key)

    def add(self, series: Series, share: str = "") -> None:
        """Add a series that is not in the table to a project's share; may evict another one."""
        self.add_marked(series, share, hash_of(series.key))

    def add_marked(self, series: Series, share: str, mark: int) -> None:
        """Add a series as :meth:`add` does; ``mark``: the hash of its key."""
        own = self._latest
        if own is None or own.name is not share:
            own = self._latest = self._share_of(share)
        if self._active >= self._series_max:
            self._make_room(own)
        self.index.add(mark, series)
        series.scope = self._scope.number
        match_set = series.match_set
        tally = match_set.tally
        tally.enter()
        own.probationary.append(series)
        series.generation = self.generation - 1
        self._created += 1
        self._active += 1

    def _share_of(self, share: str) -> _Share:
        own = self._shares.get(share)
        if own is None:
            own = self._shares[share] = _Share(share)
            self._order.append(own)
        return own

    def invalidate(self) -> None:
        """Make every series go through :meth:`find` before its routes are used again."""
        self.generation += 1

    def outdate(self, found: Iterable[Series]) -> None:
        """Make some series go through :meth:`find` before their routes are used again."""
        for series in found:
            if series.generation == self.generation:
                series.generation -= 1

    def evict_idle(self, now: float) -> None:
        """Evict a few series that have been idle for too long; to be called often."""
        if not self._epochs or now >= self._epochs[-1][0] + self._epoch_s:
            self.generation += 1
            self._epochs.append((now, self.generation))
            if len(self._epochs) > EPOCHS + 1:
                self._epochs.popleft()
        generation = self._epochs[0][1] if len(self._epochs) > EPOCHS else 0
        self._sweep_probationary(generation)
        # One round per epoch; the pace depends on the clock, not on the traffic.
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
            sum(len(share.probationary) for share in self._order),
            self._created,
            self._forgotten_idle,
            self._forgotten_full,
        )

    def parts(self) -> list[tuple[IngestPath, Callable[[], list[Series]]]]:
        """Return the parts of all series, each with its origin: what lists those in it now.

        A series stays in one part for as long as it is known.
        """
        return [
            (origin, partial(scope.index.part, number))
            for origin, scope in self._scopes.items()
            for number in range(PARTS)
        ]

    def of_share(self, share: str) -> list[Series]:
        """Return the series of one project's share; those that are forgotten later are emptied."""
        own = self._shares.get(share)
        return [*own.probationary, *own.known] if own is not None else []

    def forget_share(self, share: str, most: int) -> int:
        """Forget up to so many series of a project that is gone; return how many."""
        own = self._shares.get(share)
        count = 0
        while own is not None and count < most and len(own):
            if own.probationary:
                self._forget(own.probationary.popleft())
            else:
                self._forget_known(own, len(own.known) - 1)
            count += 1
        self._forgotten_idle += count
        return count

    def kept(self) -> Iterator[Series]:
        """Yield every series, for tests and diagnostics: slow."""
        for share in self._order:
            yield from share.probationary
            yield from share.known

    def _sweep_probationary(self, generation: int) -> None:
        """Sort probationary series of some shares; forget those last seen before ``generation``.

        Empty shares are removed.
        """
        looks = SWEEP_MAX
        order = self._order
        for _ in range(min(SHARES_MAX, len(order))):
            if self._turn >= len(order):
                self._turn = 0
            share = order[self._turn]
            sorted_now = share.sort(looks)
            self._known += sorted_now
            looks -= sorted_now
            probationary = share.probationary
            # Probationary series behind a younger one are younger still.
            while looks:
                first = probationary.first()
                if first is None or first.is_known or first.generation >= generation:
                    break
                self._forget(probationary.popleft())
                self._forgotten_idle += 1
                looks -= 1
            if not looks:
                break  # its turn goes on
            if probationary or share.known:
                self._turn += 1
            else:
                del self._shares[share.name], order[self._turn]
                self._latest = None

    def _sweep_known(self, generation: int) -> None:
        """Forget known series last seen before ``generation``; checks a bounded number."""
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
        """Evict one series to make room for one of this share."""
        self._forgotten_full += 1
        even = self._series_max // len(self._order)
        probationary_min = max(1, even // PROBATIONARY_SHARE)
        self._known += own.sort(SORT_MAX)
        giver = own
        if len(own.probationary) < probationary_min and len(own) < max(1, even):
            giver = self._giver(own, even)
            self._known += giver.sort(SORT_MAX)
        probationary, known = giver.probationary, giver.known
        if probationary and (len(probationary) >= probationary_min or not known):
            series = probationary.popleft()
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
        """Return a share that has more than an even part.

        One that was found is used for as many series as it has above that part.
        """
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
        """Evict a known series; the last one takes its index."""
        known = share.known
        series = known[place]
        known[place] = known[-1]
        known.pop()
        self._known -= 1
        self._forget(series)

    def _forget(self, series: Series) -> None:
        scope = self._numbered[series.scope]
        scope.index.remove(hash_of(series.key), series)
        tally = series.match_set.tally
        tally.leave()
        series.empty(_FORGOTTEN_KEY)
        self._active -= 1

    def __repr__(self) -> str:
        return f"<SeriesTable {self._known} known series, {self._active - self._known} new>"
