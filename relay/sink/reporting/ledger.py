"""Counts what became of every point that was offered to a sink. Pure.

Rule, asserted in every snapshot: ``offered = delivered + rejected + expired + dropped + queued``.
``rejected``: the endpoint refused the points; ``expired``: they exceeded the age limit;
``dropped``: the relay gave them up (queue full, attempts exhausted, shutdown, ...). ``queued``
includes what is in flight, but not the open batch, which the pipeline still owns.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class LedgerStatistics(msgspec.Struct, frozen=True):
    """A snapshot of a ledger, in points."""

    offered: int
    delivered: int
    rejected: Mapping[str, int]
    expired: int
    dropped: Mapping[str, int]
    queued: int

    @property
    def lost(self) -> int:
        """Points that were rejected, expired or dropped."""
        lost = self.expired
        if self.rejected or self.dropped:
            lost += sum(self.rejected.values()) + sum(self.dropped.values())
        return lost

    @property
    def balanced(self) -> bool:
        """True if every offered point is accounted for, exactly once."""
        return self.offered == self.delivered + self.lost + self.queued


_NONE: Mapping[str, int] = {}
"""Shared: most sinks lose nothing."""


def _with(counts: Mapping[str, int], reason: str, points: int) -> Mapping[str, int]:
    return {**counts, reason: counts.get(reason, 0) + points}


EMPTY_LEDGER = LedgerStatistics(0, 0, {}, 0, {}, 0)


class SinkLedger:
    """Counters of one sink. Reasons come from small closed sets: they are labels of metrics."""

    __slots__ = ("delivered", "dropped", "expired", "offered", "queued", "rejected")

    def __init__(self) -> None:
        self.offered = 0
        self.delivered = 0
        self.rejected: Mapping[str, int] = _NONE
        self.expired = 0
        self.dropped: Mapping[str, int] = _NONE
        self.queued = 0

    def offer(self, points: int) -> None:
        """Take points over from the pipeline."""
        assert points > 0
        self.offered += points
        self.queued += points

    def deliver(self, points: int) -> None:
        """Count points that the endpoint accepted."""
        self._leave(points)
        self.delivered += points

    def reject(self, points: int, reason: str) -> None:
        """Count points that the endpoint refused for good."""
        self._leave(points)
        self.rejected = _with(self.rejected, reason, points)

    def expire(self, points: int) -> None:
        """Count points that exceeded the queue's age limit."""
        self._leave(points)
        self.expired += points

    def drop(self, points: int, reason: str) -> None:
        """Count points that the relay gave up."""
        self._leave(points)
        self.dropped = _with(self.dropped, reason, points)

    def withdraw(self, points: int) -> None:
        """Take points out of the ledger: the queue on disk is an orphan now, counted on its own."""
        self._leave(points)
        self.offered -= points

    def _leave(self, points: int) -> None:
        assert 0 <= points <= self.queued, (points, self.queued)
        self.queued -= points

    def statistics(self) -> LedgerStatistics:
        """Return a snapshot; a ledger that does not balance is a bug."""
        snapshot = LedgerStatistics(
            self.offered,
            self.delivered,
            dict(self.rejected),
            self.expired,
            dict(self.dropped),
            self.queued,
        )
        assert snapshot.balanced, snapshot
        return snapshot

    def __repr__(self) -> str:
        return (
            f"<SinkLedger offered {self.offered}: delivered {self.delivered}, "
            f"rejected {sum(self.rejected.values())}, expired {self.expired}, "
            f"dropped {sum(self.dropped.values())}, queued {self.queued}>"
        )
