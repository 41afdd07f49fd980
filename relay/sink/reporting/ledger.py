"""Where every point given to a sink went.

Rule, asserted whenever it is read: ``offered = delivered + rejected + expired + dropped + queued``.
``rejected`` means that the endpoint refused the points, ``expired`` that they grew too old,
``dropped`` that we gave them up (queue full, attempts exhausted, shutdown …). ``queued`` includes
what is in flight, but not the open batch, which the pipeline still owns.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class LedgerStatistics(msgspec.Struct, frozen=True):
    """One moment of a ledger, in points."""

    offered: int
    delivered: int
    rejected: Mapping[str, int]
    expired: int
    dropped: Mapping[str, int]
    queued: int

    @property
    def balanced(self) -> bool:
        """Whether every offered point is accounted for, exactly once."""
        finished = self.delivered + self.expired + self.queued
        if self.rejected or self.dropped:
            finished += sum(self.rejected.values()) + sum(self.dropped.values())
        return self.offered == finished


EMPTY_LEDGER = LedgerStatistics(0, 0, {}, 0, {}, 0)


class SinkLedger:
    """Plain counters. Reasons come from small closed sets, so the dictionaries stay small."""

    __slots__ = ("delivered", "dropped", "expired", "offered", "queued", "rejected")

    def __init__(self) -> None:
        self.offered = 0
        self.delivered = 0
        self.rejected: dict[str, int] = {}
        self.expired = 0
        self.dropped: dict[str, int] = {}
        self.queued = 0

    def offer(self, points: int) -> None:
        """Take points over from the pipeline."""
        assert points > 0
        self.offered += points
        self.queued += points

    def deliver(self, points: int) -> None:
        """The endpoint took them."""
        self._leave(points)
        self.delivered += points

    def reject(self, points: int, reason: str) -> None:
        """The endpoint refused them for good."""
        self._leave(points)
        self.rejected[reason] = self.rejected.get(reason, 0) + points

    def expire(self, points: int) -> None:
        """They grew older than the queue keeps them."""
        self._leave(points)
        self.expired += points

    def drop(self, points: int, reason: str) -> None:
        """We gave them up."""
        self._leave(points)
        self.dropped[reason] = self.dropped.get(reason, 0) + points

    def withdraw(self, points: int) -> None:
        """They are no longer this sink's: its queue on disk is an orphan, with a ledger of its
        own."""
        self._leave(points)
        self.offered -= points

    def _leave(self, points: int) -> None:
        assert 0 <= points <= self.queued, (points, self.queued)
        self.queued -= points

    def statistics(self) -> LedgerStatistics:
        """A snapshot; a ledger that does not balance is a bug."""
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
