"""Decides how far a refused request is halved, to find the points that are refused. Pure.

Rules:

* Both halves of a refused request are sent, in order, down to a single point, which is rejected.
  One such point of n costs 2 log2 n requests.
* A batch may cost :data:`REQUESTS_MAX` more requests. Of what is refused after that only the last
  refused point is looked for (:mod:`relay.sink.queue.piece_search`).
* After :data:`STREAK_MAX` batches in a row that were refused, a sink *rests* for :data:`REST_S`:
  batches have no budget then. Its endpoint must not get many times the requests because all that it
  is sent is bad. A batch of which more than half is delivered ends the row, and the rest: a sender
  whose every batch has a bad point would lose most of the good ones.
"""

from __future__ import annotations

from dataclasses import dataclass

REQUESTS_MAX = 64
STREAK_MAX = 10
REST_S = 60.0


@dataclass(slots=True, eq=False)
class Bisection:
    """The search in one batch, shared by its pieces; all but ``requests_left`` counts points."""

    points: int
    requests_left: int = REQUESTS_MAX
    delivered: int = 0
    rejected: int = 0


class Bisector:
    """The searches of one sink. ``now`` is monotonic, s."""

    __slots__ = ("_rest_until", "_streak", "batches", "unsearched")

    def __init__(self) -> None:
        self.batches = 0
        """Batches that were halved."""
        self.unsearched = 0
        """Refused requests without a budget: it was spent, or the sink rested."""
        self._streak = 0
        self._rest_until = 0.0

    def search(self, bisection: Bisection | None, points: int, now: float) -> Bisection | None:
        """Return the search in which a refused request is to be halved; None: there is none.

        ``bisection`` is the one that it is part of, ``points`` how many it has.
        """
        if points < 2:
            return None
        if bisection is None:
            if now < self._rest_until:
                self.unsearched += 1
                return None
            bisection = Bisection(points)
            self.batches += 1
            self._streak += 1
            if self._streak >= STREAK_MAX:
                self._streak = 0
                self._rest_until = now + REST_S
        if bisection.requests_left < 2:
            self.unsearched += 1
            return None
        bisection.requests_left -= 2
        return bisection

    def delivered(self, bisection: Bisection | None, points: int) -> bool:
        """Note accepted points; return whether others of the batch were rejected."""
        if bisection is None:
            self._streak = 0
            return False
        bisection.delivered += points
        if 2 * bisection.delivered > bisection.points:
            self._streak = 0
            self._rest_until = 0.0
        return bisection.rejected > 0

    def rejected(self, bisection: Bisection | None, points: int) -> bool:
        """Note rejected points; return whether others of the batch were accepted."""
        if bisection is None:
            return False
        bisection.rejected += points
        return bisection.delivered > 0

    def __repr__(self) -> str:
        return f"<Bisector {self.batches} batches, {self.unsearched} unsearched>"
