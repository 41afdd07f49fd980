"""A queue that takes memory only while it holds something.

An empty :class:`collections.deque` takes 760 bytes. Every sink has several queues, and of thousands
of sinks most hold nothing most of the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

_T = TypeVar("_T")


class LazyDeque(Generic[_T]):
    """Queue with what its users need of :class:`collections.deque`; its last item frees it."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: deque[_T] | None = None

    def append(self, item: _T) -> None:
        """Add at the end."""
        if self._items is None:
            self._items = deque()
        self._items.append(item)

    def popleft(self) -> _T:
        """Take the head out. Raise IndexError if there is none."""
        if self._items is None:
            raise IndexError("pop from an empty queue")
        item = self._items.popleft()
        if not self._items:
            self._items = None
        return item

    def remove(self, item: _T) -> None:
        """Remove the first equal item. Raise ValueError if there is none."""
        if self._items is None:
            raise ValueError("an empty queue has no such item")
        self._items.remove(item)
        if not self._items:
            self._items = None

    def __len__(self) -> int:
        return 0 if self._items is None else len(self._items)

    def __iter__(self) -> Iterator[_T]:
        return iter(() if self._items is None else self._items)

    def __getitem__(self, at: int) -> _T:
        if self._items is None:
            raise IndexError("an empty queue has no items")
        return self._items[at]

    def __repr__(self) -> str:
        return f"<LazyDeque {len(self)} items>"
