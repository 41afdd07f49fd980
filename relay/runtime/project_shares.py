"""Divide the capacity of a table among projects, so that none can crowd out the others.

* While the table has room, any project may add entries.
* When it is full, a project with at least an even share evicts its own entries; a project with less
  evicts from one that has more than an even share.
* Projects without an exporter have one share together (:data:`UNCLAIMED`), because senders can
  invent project names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar

UNCLAIMED: Final = "\x00"
"""Share of all projects without an exporter; not a valid project name."""

K = TypeVar("K")
V = TypeVar("V")


class Shares:
    """Count the entries of each project against a common bound, ``entries_max``."""

    __slots__ = ("_over", "_used", "entries_max", "total")

    def __init__(self, entries_max: int) -> None:
        assert entries_max > 0
        self.entries_max = entries_max
        self.total = 0
        self._used: dict[str, int] = {}
        self._over: list[str] = []

    def add(self, share: str, count: int = 1) -> None:
        """Count entries added for a project."""
        self._used[share] = self._used.get(share, 0) + count
        self.total += count

    def remove(self, share: str, count: int = 1) -> None:
        """Count entries removed from a project."""
        left = self._used[share] - count
        assert left >= 0, share
        if left:
            self._used[share] = left
        else:
            del self._used[share]
        self.total -= count

    def used(self, share: str) -> int:
        """Return the number of entries of a project."""
        return self._used.get(share, 0)

    def must_evict(self, share: str) -> str | None:
        """Return the project that must evict an entry for ``share``; None if there is room.

        The result may be ``share`` itself.
        """
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
            # One scan of the projects serves as many evictions as they exceed the even share.
            over += (name for name, count in used.items() if count > even and name != share)
            if not over:  # more projects than entries
                return share if own else next(iter(used))

    def __repr__(self) -> str:
        return f"<Shares {self.total} of {self.entries_max} among {len(self._used)}>"


class ShareEpoch(Protocol):
    """Count the generations of a part; hot loops bring a class of their own."""

    number: int


class EvictionTurns:
    """Default implementation of :class:`ShareEpoch`."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class ProjectPart(Generic[K, V]):
    """Hold the entries of one project in two generations: used since the last turn, and not.

    ``epoch.number`` counts the turns: an entry that stores it knows whether it was used since.
    """

    __slots__ = ("_going", "epoch", "old", "project", "share", "young")

    def __init__(self, project: str, share: str, epoch: ShareEpoch | None = None) -> None:
        self.project: Final = project
        self.share = share
        self.epoch: Final[ShareEpoch] = epoch or EvictionTurns()
        self.young: dict[K, V] = {}
        self.old: dict[K, V] = {}
        self._going: Iterator[K] = iter(())

    def find(self, key: K) -> V | None:
        """Return the entry of a key, or None."""
        found = self.young.get(key)
        return self.old.get(key) if found is None else found

    def replace(self, key: K, value: V) -> None:
        """Replace an existing entry and mark it as used."""
        self.old.pop(key, None)
        self.young[key] = value

    def touch(self, key: K) -> None:
        """Mark an existing entry as used."""
        value = self.old.pop(key, None)
        if value is not None:
            self.young[key] = value

    def take(self, key: K) -> V | None:
        """Remove and return an entry, or return None. Only for parts that no table counts."""
        found = self.young.pop(key, None)
        return self.old.pop(key, None) if found is None else found

    def turn(self) -> dict[K, V]:
        """Begin a new generation; return the entries that were not used since the last turn."""
        gone = self.old
        self.old = self.young
        self.young = {}
        self.epoch.number += 1
        self._going = iter(tuple(self.old))
        return gone

    def pop(self) -> tuple[K, V]:
        """Remove and return the least recently used entry; the part must not be empty."""
        while True:
            for key in self._going:
                value = self.old.pop(key, None)
                if value is not None:
                    return key, value
            assert self.young or self.old
            if self.old:  # entries put into ``old`` by code other than turn()
                self._going = iter(tuple(self.old))
            else:
                self.turn()

    def __len__(self) -> int:
        return len(self.young) + len(self.old)

    def __repr__(self) -> str:
        return f"<Part {self.project!r} {len(self.young)}+{len(self.old)}>"


class SharedTable(Generic[K, V]):
    """Bounded table whose capacity is divided among projects; least recently used entries go first.

    ``forgets`` is called with each entry that is evicted or aged out; ``make_epoch`` makes the turn
    counter of a project.
    """

    def __init__(
        self,
        entries_max: int,
        *,
        forgets: Callable[[V], object] | None = None,
        make_epoch: Callable[[], ShareEpoch] = EvictionTurns,
    ) -> None:
        self._make_epoch = make_epoch
        self.entries_max: Final = entries_max
        self._shares = Shares(entries_max)
        self._forgets = forgets
        self._parts: dict[str, ProjectPart[K, V]] = {}
        self._unclaimed: dict[str, ProjectPart[K, V]] = {}
        self.forgotten = 0

    def part(self, project: str, *, claimed: bool = True) -> ProjectPart[K, V]:
        """Return the part of a project, making it if needed; ``claimed`` if exporters belong to it.

        A caller must not keep a part to which it adds nothing: empty unclaimed parts are dropped.
        """
        part = self._parts.get(project)
        if part is None:
            part = self._parts[project] = ProjectPart(
                project, project if claimed else UNCLAIMED, self._make_epoch()
            )
            if not claimed:
                self._unclaimed[project] = part
        elif claimed and part.share == UNCLAIMED:
            self._claim(part)
        return part

    def find(self, project: str, key: K) -> V | None:
        """Return the entry of a project's key, or None."""
        part = self._parts.get(project)
        return part.find(key) if part is not None else None

    def add(self, part: ProjectPart[K, V], key: K, value: V) -> None:
        """Add an entry under a new key; evict another one if the table is full."""
        share = self._shares.must_evict(part.share)
        if share is not None:
            # A share that must give way has at least one entry.
            victim = self._parts[share] if share != UNCLAIMED else self._first_unclaimed()
            _, gone = victim.pop()
            self._forget(victim, gone)
            if victim is not part:
                self._drop_empty(victim)
        part.young[key] = value
        self._shares.add(part.share)

    def age(self) -> None:
        """Evict every entry that was not used since the last call."""
        for part in list(self._parts.values()):
            for gone in part.turn().values():
                self._forget(part, gone)
            self._drop_empty(part)

    def forget(self, project: str, most: int) -> int:
        """Evict up to so many entries of a project; return how many there were."""
        part = self._parts.get(project)
        count = 0
        while part is not None and count < most and len(part):
            _, gone = part.pop()
            self._forget(part, gone)
            count += 1
        if part is not None:
            self._drop_empty(part)
        return count

    def parts(self) -> Iterator[ProjectPart[K, V]]:
        """Iterate over the parts of all projects."""
        return iter(self._parts.values())

    def values(self) -> Iterator[V]:
        """Iterate over all entries; within a project, least recently used first."""
        for part in self._parts.values():
            yield from part.old.values()
            yield from part.young.values()

    def _claim(self, part: ProjectPart[K, V]) -> None:
        del self._unclaimed[part.project]
        if len(part):
            self._shares.remove(UNCLAIMED, len(part))
            self._shares.add(part.project, len(part))
        part.share = part.project

    def _first_unclaimed(self) -> ProjectPart[K, V]:
        return next(part for part in self._unclaimed.values() if len(part))

    def _forget(self, part: ProjectPart[K, V], value: V) -> None:
        self._shares.remove(part.share)
        self.forgotten += 1
        if self._forgets is not None:
            self._forgets(value)

    def _drop_empty(self, part: ProjectPart[K, V]) -> None:
        """Drop an empty part of an unclaimed project; claimed parts may be referenced."""
        if part.share == UNCLAIMED and not len(part):
            del self._unclaimed[part.project]
            del self._parts[part.project]

    def __len__(self) -> int:
        return self._shares.total

    def __repr__(self) -> str:
        return f"<SharedTable {self._shares!r}>"
