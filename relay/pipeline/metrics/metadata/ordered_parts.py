"""A mapping in order of insertion that never takes long to grow.

A dict of 170,000 entries takes 10 ms to grow by one, an OrderedDict 30 ms, and nothing can pause
it. This one is divided by the hash of the keys once it is large.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

SPLIT_AT: Final = 2_048
"""Entries from which on there are several parts; to divide them takes a millisecond."""
PARTS: Final = 32

V = TypeVar("V")


class OrderedParts(Generic[V]):
    """Values by name; ordered, because the first one is taken out over and over."""

    __slots__ = ("_added", "_mask", "_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[OrderedDict[str, tuple[int, V]]] = [OrderedDict()]
        self._mask = 0
        self._added = self._size = 0

    def get(self, name: str) -> V | None:
        """Return the value of a name, or None."""
        found = self._parts[hash(name) & self._mask].get(name)
        return None if found is None else found[1]

    def add(self, name: str, value: V) -> None:
        """Add a name as the last one, unless it is there."""
        part = self._parts[hash(name) & self._mask]
        if name in part:
            return
        part[name] = self._added, value
        self._added += 1
        self._size += 1
        if len(part) > SPLIT_AT and not self._mask:
            self._split()

    def pop(self, name: str) -> None:
        """Take a name out, if it is there."""
        if self._parts[hash(name) & self._mask].pop(name, None) is not None:
            self._size -= 1

    def first(self) -> str | None:
        """Return the name that was added first; None if there is none."""
        firsts = [next(iter(part.items())) for part in self._parts if part]
        return min(firsts, key=lambda item: item[1][0])[0] if firsts else None

    def items(self) -> list[tuple[str, V]]:
        """Return names and values in order; a copy."""
        found = [item for part in self._parts for item in part.items()]
        found.sort(key=lambda item: item[1][0])
        return [(name, value) for name, (_, value) in found]

    def __contains__(self, name: str) -> bool:
        return name in self._parts[hash(name) & self._mask]

    def __len__(self) -> int:
        return self._size

    def _split(self) -> None:
        whole = self._parts[0]
        self._mask = PARTS - 1
        self._parts = [OrderedDict() for _ in range(PARTS)]
        for name, entry in whole.items():
            self._parts[hash(name) & self._mask][name] = entry

    def __repr__(self) -> str:
        return f"<OrderedParts of {len(self)} names>"
