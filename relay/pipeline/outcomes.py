"""What all families share and every sample touches: counts, and the turn of the clock by which
families are forgotten.
"""

from __future__ import annotations


class Outcomes:
    """What became of samples, by outcome; ``waiting`` ones, in ``sets``, have none yet. ``points``
    were made."""

    __slots__ = ("by_name", "points", "sets", "waiting")

    def __init__(self) -> None:
        self.by_name: dict[str, int] = {}
        self.points = 0
        self.sets = 0
        self.waiting = 0

    def count(self, outcome: str, samples: int) -> None:
        """Add to one of a few counters."""
        self.by_name[outcome] = self.by_name.get(outcome, 0) + samples


class Epoch:
    """Counts how often families that were not in use were forgotten."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0
