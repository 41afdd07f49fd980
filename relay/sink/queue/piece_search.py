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

Requests of OTLP are not cut in rounds: without a budget, all that is refused is rejected.
"""

from __future__ import annotations

from relay.sink.interface import Encoder, Encoders
from relay.sink.queue.encoding import split_in_rounds, split_in_two
from relay.sink.queue.payload import EncodedRequest, RoundPart
from relay.sink.retry.bisection import Bisector
from relay.sink.retry.verdict import Rejected

ROUNDS_MAX = 16


class PieceSearch:
    """The searches of one sink. Requests are cut by the encoder of their kind."""

    __slots__ = ("bisector",)

    def __init__(self) -> None:
        self.bisector = Bisector()

    def pieces(
        self, request: EncodedRequest, encoders: Encoders, why: Rejected, now: float
    ) -> list[EncodedRequest]:
        """Return the pieces of a refused request in the order of sending; [] to reject it.

        ``now`` is monotonic, s.
        """
        part, encoder = request.part, encoders.bodies[request.kind]
        if part is not None:
            _reject_earlier(part, why)
            return _later_first(request, encoder)
        search = self.bisector.search(request.bisection, request.points, now)
        if search is None:
            return _rounds(request, encoder)
        request.bisection = search
        return split_in_two(request, encoder)

    def prepare(
        self, request: EncodedRequest, encoders: Encoders
    ) -> Rejected | list[EncodedRequest]:
        """Return the pieces to send in a request's place, [] for it as it is.

        Or return why it is rejected without being sent.
        """
        part = request.part
        if part is None:
            return []
        if part.verdict is not None:
            _reject_earlier(part, part.verdict)
            return part.verdict
        encoder = encoders.bodies[request.kind]
        return _later_first(request, encoder) if part.is_suspect else []

    def __repr__(self) -> str:
        return f"<PieceSearch {self.bisector!r}>"


def _reject_earlier(part: RoundPart, why: Rejected) -> None:
    if part.earlier is not None and part.earlier.part is not None:
        part.earlier.part.verdict = why


def _rounds(request: EncodedRequest, encoder: Encoder) -> list[EncodedRequest]:
    if request.points < 2:
        return []
    rounds = split_in_rounds(request, encoder, ROUNDS_MAX)
    if len(rounds) == 1:
        return _later_first(request, encoder)
    for one in rounds:
        one.part = RoundPart()
    return rounds


def _later_first(request: EncodedRequest, encoder: Encoder) -> list[EncodedRequest]:
    halves = split_in_two(request, encoder)
    if not halves:
        return []
    earlier, later = halves
    earlier.part, later.part = RoundPart(is_suspect=True), RoundPart(earlier)
    return [later, earlier]
