"""Decides in what pieces a request is sent again that was refused for some of its points. Pure.

First by halves, in order, as :mod:`relay.sink.retry.bisection` permits. An endpoint that stores a
request whole or not at all also refuses what it has, wherever it has newer points of the series:
after a crash that is the beginning of what is sent once more, in the order of arrival, perhaps
thousands of points, and behind them are others that it lacks. So, where the budget for halves is
spent:

* The request is cut into *rounds*, in each of which a series has one point, so that order within a
  round does not matter.
* In a refused round the later half goes first. If it is accepted, a refused point is in the earlier
  half, which is halved in turn; if not, the earlier half is rejected without being sent.
* What lies behind the last refused point of a round is delivered, at log2 n requests a round. With
  more than :data:`ROUNDS_MAX` points of one series, rounds are joined.
"""

from __future__ import annotations

from relay.sink.interface import Encoders
from relay.sink.queue.encoding import split_in_rounds, split_in_two
from relay.sink.queue.payload import EncodedRequest, RoundPart
from relay.sink.retry.bisection import Bisector
from relay.sink.retry.verdict import Rejected

ROUNDS_MAX = 16


class PieceSearch:
    """The searches of one sink, whose ``encoders`` cut its requests."""

    __slots__ = ("bisector", "encoders")

    def __init__(self, encoders: Encoders) -> None:
        self.encoders = encoders
        self.bisector = Bisector()

    def pieces(self, request: EncodedRequest, why: Rejected, now: float) -> list[EncodedRequest]:
        """Return the pieces of a refused request in the order of sending; [] to reject it.

        ``now`` is monotonic, s.
        """
        part = request.part
        if part is not None:
            self._reject_earlier(part, why)
            return self._later_first(request)
        search = self.bisector.search(request.bisection, request.points, now)
        if search is None:
            return self._rounds(request)
        request.bisection = search
        return self._halves(request)

    def prepare(self, request: EncodedRequest) -> Rejected | list[EncodedRequest]:
        """Return the pieces to send in a request's place, [] for it as it is.

        Or return why it is rejected without being sent.
        """
        part = request.part
        if part is None:
            return []
        if part.verdict is not None:
            self._reject_earlier(part, part.verdict)
            return part.verdict
        return self._later_first(request) if part.is_suspect else []

    @staticmethod
    def _reject_earlier(part: RoundPart, why: Rejected) -> None:
        if part.earlier is not None and part.earlier.part is not None:
            part.earlier.part.verdict = why

    def _halves(self, request: EncodedRequest) -> list[EncodedRequest]:
        return split_in_two(request, self.encoders.bodies[request.kind])

    def _rounds(self, request: EncodedRequest) -> list[EncodedRequest]:
        if request.points < 2:
            return []
        encoder = self.encoders.bodies[request.kind]
        rounds = split_in_rounds(request, encoder, ROUNDS_MAX)
        if len(rounds) == 1:
            return self._later_first(request)
        for one in rounds:
            one.part = RoundPart()
        return rounds

    def _later_first(self, request: EncodedRequest) -> list[EncodedRequest]:
        halves = self._halves(request)
        if not halves:
            return []
        earlier, later = halves
        earlier.part, later.part = RoundPart(is_suspect=True), RoundPart(earlier)
        return [later, earlier]

    def __repr__(self) -> str:
        return f"<PieceSearch {self.bisector!r}>"
