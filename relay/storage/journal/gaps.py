"""Positions of accepted requests that the journal does not hold. Pure."""

from __future__ import annotations

from bisect import bisect_right


class MissingPositions:
    """Ranges of positions, ascending. Failures with no success between them are one range."""

    __slots__ = ("_broken", "_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._broken = True

    def add(self, first: int, last: int) -> None:
        """These are not in the journal."""
        if self._firsts and (not self._broken or first <= self._lasts[-1] + 1):
            self._firsts[-1] = min(first, self._firsts[-1])
            self._lasts[-1] = max(last, self._lasts[-1])
        else:
            self._firsts.append(first)
            self._lasts.append(last)
        self._broken = False

    def end_range(self) -> None:
        """Those that come now are in the journal again."""
        self._broken = True

    def trim(self, low: int) -> None:
        """Forget what is below a position: nobody needs it any more."""
        done = bisect_right(self._lasts, low - 1)
        del self._firsts[:done], self._lasts[:done]

    def overlaps(self, first: int, last: int) -> bool:
        """Whether any position from ``first`` to ``last`` is among them."""
        index = bisect_right(self._firsts, last) - 1
        return index >= 0 and self._lasts[index] >= first

    def __repr__(self) -> str:
        return f"<MissingPositions {len(self._firsts)} ranges>"
