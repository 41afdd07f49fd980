"""A sink's undelivered payloads: lanes in order, one budget of bytes, one limit of age.

Rules:

* Within a lane payloads leave in the order they came. A payload that has to be tried again goes
  back to the head of its lane.
* A payload being sent is *in flight*: outside its lane, inside the budget, never dropped.
* Unless ``overflow`` is ``block``, the bodies held never exceed ``bytes_max``. What gives way:

  - ``dropOldest``: the oldest waiting payloads of all lanes; the new one only where dropping all of
    them would not make room for it, and then it alone.
  - ``dropNewest``: the new payload.
  - ``block``: nothing. :attr:`SinkQueue.full` becomes true and the listener refuses further input;
    the overshoot is what open batches held at that moment.
* Nothing is counted here: what was given up is returned, for the caller to count and to release.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from relay.exporter.model import Queue
from relay.sink.payload import Payload


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """Everything but ``in_flight`` includes what is in flight; ``bytes`` are bodies as held."""

    payloads: int
    in_flight: int
    points: int
    bytes: int
    bytes_max: int


class SinkQueue:
    """See the module's rules. Lanes are numbered from 0."""

    def __init__(self, config: Queue, *, lanes: int) -> None:
        assert lanes > 0
        self._config = config
        self._lanes: tuple[deque[Payload], ...] = tuple(deque() for _ in range(lanes))
        self._in_flight: set[Payload] = set()
        self._payloads = 0
        self._points = 0
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether the sender must be held back: only ever true where overflow is ``block``."""
        return self._config.overflow == "block" and self._bytes >= self._config.bytes_max

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not self._payloads

    def waiting(self, lane: int) -> bool:
        """Whether the lane has a payload to take."""
        return bool(self._lanes[lane])

    def push(self, payload: Payload) -> list[Payload]:
        """Append to the payload's lane; return what had to give way, perhaps the payload itself."""
        dropped: list[Payload] = []
        excess = self._bytes + len(payload.body) - self._config.bytes_max
        if excess > 0 and self._config.overflow != "block":
            in_flight_bytes = sum(len(held.body) for held in self._in_flight)
            hopeless = len(payload.body) + in_flight_bytes > self._config.bytes_max
            if self._config.overflow == "dropNewest" or hopeless:
                return [payload]
            while excess > 0:
                oldest = self._oldest()
                assert oldest is not None, "more bytes counted than held"
                excess -= len(oldest.body)
                dropped.append(self._remove_head(oldest.lane))
        self._lanes[payload.lane].append(payload)
        self._add(payload)
        return dropped

    def take(self, lane: int) -> Payload | None:
        """Take the lane's head for sending; it stays in the budget until it is settled."""
        if not self._lanes[lane]:
            return None
        payload = self._lanes[lane].popleft()
        self._in_flight.add(payload)
        return payload

    def is_in_flight(self, payload: Payload) -> bool:
        """Whether the payload is taken and not settled yet."""
        return payload in self._in_flight

    def give_back(self, payload: Payload) -> None:
        """Return a payload in flight to the head of its lane."""
        self._in_flight.remove(payload)
        self._lanes[payload.lane].appendleft(payload)

    def finish(self, payload: Payload) -> None:
        """Forget a payload in flight: it is delivered, refused or given up."""
        self._in_flight.remove(payload)
        self._subtract(payload)

    def replace(self, payload: Payload, pieces: list[Payload]) -> None:
        """Put pieces of a payload in flight in its place, at the head of its lane.

        Pieces may take slightly more bytes than the whole: the budget is exceeded rather than data
        of the same payload dropped, and the next push makes up for it.
        """
        assert sum(piece.points for piece in pieces) == payload.points
        self.finish(payload)
        for piece in reversed(pieces):
            assert piece.lane == payload.lane
            self._lanes[piece.lane].appendleft(piece)
            self._add(piece)

    def expire(self, now: float) -> list[Payload]:
        """Remove every waiting payload that is ``age_max_s`` old; ``now`` is wall clock, s."""
        expired: list[Payload] = []
        for number, lane in enumerate(self._lanes):
            while lane and lane[0].created_at + self._config.age_max_s <= now:
                expired.append(self._remove_head(number))
        return expired

    def clear(self) -> list[Payload]:
        """Remove everything that waits; what is in flight stays."""
        removed: list[Payload] = []
        for number, lane in enumerate(self._lanes):
            while lane:
                removed.append(self._remove_head(number))
        return removed

    def expires_at(self, lane: int) -> float | None:
        """Wall clock at which the lane's head grows too old; None where nothing waits."""
        heads = self._lanes[lane]
        return heads[0].created_at + self._config.age_max_s if heads else None

    def oldest_created_at(self) -> float | None:
        """Wall clock of the oldest first point held, in flight or waiting; None where empty."""
        heads = [lane[0].created_at for lane in self._lanes if lane]
        heads += [payload.created_at for payload in self._in_flight]
        return min(heads, default=None)

    def _oldest(self) -> Payload | None:
        heads = (lane[0] for lane in self._lanes if lane)
        return min(heads, key=lambda payload: payload.created_at, default=None)

    def _remove_head(self, lane: int) -> Payload:
        payload = self._lanes[lane].popleft()
        self._subtract(payload)
        return payload

    def _add(self, payload: Payload) -> None:
        self._payloads += 1
        self._points += payload.points
        self._bytes += len(payload.body)

    def _subtract(self, payload: Payload) -> None:
        self._payloads -= 1
        self._points -= payload.points
        self._bytes -= len(payload.body)

    def statistics(self) -> QueueStatistics:
        """A snapshot."""
        return QueueStatistics(
            self._payloads,
            len(self._in_flight),
            self._points,
            self._bytes,
            self._config.bytes_max,
        )

    def __repr__(self) -> str:
        return (
            f"<SinkQueue {self._payloads} payloads, {len(self._in_flight)} in flight, "
            f"{self._bytes}/{self._config.bytes_max} bytes>"
        )
