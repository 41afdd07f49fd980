"""Divides the bound of a table among projects, so that nobody fills the room of others.

Rules:

* While a table has room, anybody takes it.
* Where it has none, who has an even share or more gives up its own for what it adds; for who has
  less, a project that has more than an even share gives up something.
* Projects that no exporter belongs to have one share together (:data:`UNCLAIMED`): anybody can make
  up a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar

UNCLAIMED: Final = "\x00"
"""The share of all projects without an exporter; no project is called so."""

K = TypeVar("K")
V = TypeVar("V")


class Shares:
    """Counts how much of a bound each project has; ``entries_max`` is the bound for all."""

    __slots__ = ("_over", "_used", "entries_max", "total")

    def __init__(self, entries_max: int) -> None:
        assert entries_max > 0
        self.entries_max = entries_max
        self.total = 0
        self._used: dict[str, int] = {}
        self._over: list[str] = []

    def add(self, share: str, count: int = 1) -> None:
        """Count what a project has more."""
        self._used[share] = self._used.get(share, 0) + count
        self.total += count

    def remove(self, share: str, count: int = 1) -> None:
        """Count what a project has less."""
        left = self._used[share] - count
        assert left >= 0, share
        if left:
            self._used[share] = left
        else:
            del self._used[share]
        self.total -= count

    def used(self, share: str) -> int:
        """How much a project has."""
        return self._used.get(share, 0)

    def gives_way(self, share: str) -> str | None:
        """Say whose entry goes for one more of ``share``, perhaps its own; None: there is room."""
        if self.total < self.entries_max:
            return None
        used = self._used
        own = used.get(share, 0)
        even = self.entries_max // (len(used) + (not own))
        if own and own >= even:
            return share
        over = self._over
        while True:
            while over:
                other = over[-1]
                if other != share and used.get(other, 0) > even:
                    return other
                over.pop()
            # Each finding serves for as many entries as they have too much.
            over += (name for name, count in used.items() if count > even and name != share)
            if not over:  # more projects than entries
                return share if own else next(iter(used))

    def __repr__(self) -> str:
        return f"<Shares {self.total} of {self.entries_max} among {len(self._used)}>"


class Epoch(Protocol):
    """Counts turns; hot loops bring a class of their own."""

    number: int


class Turns:
    """The usual :class:`Epoch`."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class Part(Generic[K, V]):
    """The entries of one project, in two generations: what was in use since the last turn, and
    what was not. ``epoch`` counts the turns: who remembers its number knows whether it was in use
    since the last one."""

    __slots__ = ("_going", "epoch", "old", "project", "share", "young")

    def __init__(self, project: str, share: str, epoch: Epoch | None = None) -> None:
        self.project: Final = project
        self.share = share
        self.epoch: Final[Epoch] = epoch or Turns()
        self.young: dict[K, V] = {}
        self.old: dict[K, V] = {}
        self._going: Iterator[K] = iter(())

    def find(self, key: K) -> V | None:
        """The entry of a key, or None."""
        found = self.young.get(key)
        return self.old.get(key) if found is None else found

    def replace(self, key: K, value: V) -> None:
        """Put another entry in the place of one that is there, as one that is in use."""
        self.old.pop(key, None)
        self.young[key] = value

    def touch(self, key: K) -> None:
        """Note that an entry, which is there, is in use."""
        value = self.old.pop(key, None)
        if value is not None:
            self.young[key] = value

    def take(self, key: K) -> V | None:
        """Take out an entry, or None where there is none. Not for what is counted in a table."""
        found = self.young.pop(key, None)
        return self.old.pop(key, None) if found is None else found

    def turn(self) -> dict[K, V]:
        """Begin a new generation; return the entries that were not in use since the last turn."""
        gone = self.old
        self.old = self.young
        self.young = {}
        self.epoch.number += 1
        self._going = iter(tuple(self.old))
        return gone

    def pop(self) -> tuple[K, V]:
        """Take out the entry that was not in use for longest; there is one."""
        while True:
            for key in self._going:
                value = self.old.pop(key, None)
                if value is not None:
                    return key, value
            assert self.young or self.old
            if self.old:  # put there by others than turn()
                self._going = iter(tuple(self.old))
            else:
                self.turn()

    def __len__(self) -> int:
        return len(self.young) + len(self.old)

    def __repr__(self) -> str:
        return f"<Part {self.project!r} {len(self.young)}+{len(self.old)}>"


class SharedTable(Generic[K, V]):
    """A bounded table whose room is shared out among projects; what is not in use goes first.

    ``forgets`` is told of an entry that goes for another one or with :meth:`age`; ``make_epoch``
    makes what counts the turns of a project.
    """

    def __init__(
        self,
        entries_max: int,
        *,
        forgets: Callable[[V], object] | None = None,
        make_epoch: Callable[[], Epoch] = Turns,
    ) -> None:
        self._make_epoch = make_epoch
        self.entries_max: Final = entries_max
        self._shares = Shares(entries_max)
        self._forgets = forgets
        self._parts: dict[str, Part[K, V]] = {}
        self._unclaimed: dict[str, Part[K, V]] = {}
        self.forgotten = 0

    def part(self, project: str, *, claimed: bool = True) -> Part[K, V]:
        """The entries of a project; ``claimed``: exporters belong to it. Not to be kept by who
        adds nothing to it."""
        part = self._parts.get(project)
        if part is None:
            part = self._parts[project] = Part(
                project, project if claimed else UNCLAIMED, self._make_epoch()
            )
            if not claimed:
                self._unclaimed[project] = part
        elif claimed and part.share == UNCLAIMED:
            self._claim(part)
        return part

    def find(self, project: str, key: K) -> V | None:
        """The entry of a project's key, or None."""
        part = self._parts.get(project)
        return part.find(key) if part is not None else None

    def add(self, part: Part[K, V], key: K, value: V) -> None:
        """Keep an entry whose key is new; another one may go for it."""
        share = self._shares.gives_way(part.share)
        if share is not None:
            # It has counted one, so that there is one.
            victim = self._parts[share] if share != UNCLAIMED else self._first_unclaimed()
            _, gone = victim.pop()
            self._forget(victim, gone)
            if victim is not part:
                self._drop_empty(victim)
        part.young[key] = value
        self._shares.add(part.share)

    def age(self) -> None:
        """Forget what was not in use since this was called last."""
        for part in list(self._parts.values()):
            for gone in part.turn().values():
                self._forget(part, gone)
            self._drop_empty(part)

    def parts(self) -> Iterator[Part[K, V]]:
        """Those of all projects."""
        return iter(self._parts.values())

    def values(self) -> Iterator[V]:
        """All entries, of each project the least recently used first."""
        for part in self._parts.values():
            yield from part.old.values()
            yield from part.young.values()

    def _claim(self, part: Part[K, V]) -> None:
        del self._unclaimed[part.project]
        if len(part):
            self._shares.remove(UNCLAIMED, len(part))
            self._shares.add(part.project, len(part))
        part.share = part.project

    def _first_unclaimed(self) -> Part[K, V]:
        return next(part for part in self._unclaimed.values() if len(part))

    def _forget(self, part: Part[K, V], value: V) -> None:
        self._shares.remove(part.share)
        self.forgotten += 1
        if self._forgets is not None:
            self._forgets(value)

    def _drop_empty(self, part: Part[K, V]) -> None:
        """Keep no part for a made-up name; those of claimed projects may be held by entries."""
        if part.share == UNCLAIMED and not len(part):
            del self._unclaimed[part.project]
            del self._parts[part.project]

    def __len__(self) -> int:
        return self._shares.total

    def __repr__(self) -> str:
        return f"<SharedTable {self._shares!r}>"
