"""Positions of accepted requests that are missing from the journal. Pure."""

from __future__ import annotations

from bisect import bisect_right


class MissingPositions:
    """Ascending ranges of positions. Failures without a success between them are one range."""

    __slots__ = ("_ended", "_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._ended = True

    def add(self, first: int, last: int) -> None:
        """Add positions ``first`` to ``last``."""
        if self._firsts and (not self._ended or first <= self._lasts[-1] + 1):
            self._firsts[-1] = min(first, self._firsts[-1])
            self._lasts[-1] = max(last, self._lasts[-1])
        else:
            self._firsts.append(first)
            self._lasts.append(last)
        self._ended = False

    def end_range(self) -> None:
        """End the present range: the journal accepted a record."""
        self._ended = True

    def trim(self, low: int) -> None:
        """Forget positions below ``low``."""
        done = bisect_right(self._lasts, low - 1)
        del self._firsts[:done], self._lasts[:done]

    def overlaps(self, first: int, last: int) -> bool:
        """Return whether any position from ``first`` to ``last`` is missing."""
        index = bisect_right(self._firsts, last) - 1
        return index >= 0 and self._lasts[index] >= first

    def __repr__(self) -> str:
        return f"<MissingPositions {len(self._firsts)} ranges>"
