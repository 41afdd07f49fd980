"""Counts holds on ingest positions, strictly: a release without a hold fails the test."""

from __future__ import annotations

from collections import Counter


class Holds:
    """Pass :meth:`hold` and :meth:`release` to whatever holds positions."""

    def __init__(self) -> None:
        self.held: Counter[int] = Counter()

    def hold(self, position: int) -> None:
        """One holder more."""
        self.held[position] += 1

    def release(self, position: int) -> None:
        """One holder fewer."""
        assert self.held[position] > 0, f"position {position} is not held"
        self.held[position] -= 1

    @property
    def total(self) -> int:
        """Holders of all positions."""
        return self.held.total()
