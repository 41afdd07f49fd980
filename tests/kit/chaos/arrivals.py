"""What arrived at one endpoint, and what arrived there again although a checkpoint knew it."""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass
class Deaths:
    """When the relay died, by the monotonic clock, and what each death left behind."""

    ended: list[float] = field(default_factory=list)
    """When nothing of a death's last requests can arrive any more."""
    checkpoints: list[float] = field(default_factory=list)
    """When the checkpoint was written that each death left behind."""
    resent: set[str] = field(default_factory=set)
    """Groups of requests of which one was sent again, because its answer was lost: what is in
    it may arrive once for each time that it was taken."""


@dataclass
class Arrived:
    """What one endpoint took."""

    counts: Counter[Hashable] = field(default_factory=Counter)
    first_at: dict[Hashable, float] = field(default_factory=dict)
    whole_at: dict[str, float] = field(default_factory=dict)
    """By group of requests: when the last of its points arrived for the first time."""
    again_after_s: list[float] = field(default_factory=list)
    """Of what arrived again: how long before the next death it had arrived."""
    again_despite_s: list[float] = field(default_factory=list)
    """Of what arrived again: how long before the death's checkpoint its group was whole."""

    @property
    def duplicates(self) -> int:
        """Arrivals beyond the first of each point."""
        return self.counts.total() - len(self.counts)

    def take(self, key: Hashable, group: str, now: float) -> bool:
        """Count one arrival; return whether it is the first."""
        self.counts[key] += 1
        if self.counts[key] > 1:
            return False
        self.first_at[key] = self.whole_at[group] = now
        return True

    def again(self, key: Hashable, group: str, deaths: Deaths) -> None:
        """Judge what a healthy endpoint got again. AssertionError where no death explains it."""
        if group in deaths.resent:
            return
        first_at = self.first_at[key]
        death = bisect(deaths.ended, first_at)
        assert death < len(deaths.ended), f"{key} again, and nobody died"
        self.again_after_s.append(deaths.ended[death] - first_at)
        self.again_despite_s.append(deaths.checkpoints[death] - self.whole_at[group])

    def figures(self) -> str:
        """Return how much arrived again, and how long before."""
        return (
            f"{self.duplicates} duplicates, first delivered at most "
            f"{max(self.again_after_s, default=0.0):.2f} s before a death and "
            f"{max(self.again_despite_s, default=0.0):.2f} s before its checkpoint"
        )
