"""Learns how large a sink's requests may be from an endpoint that answers 413. Pure.

Rules:

* A refused size halves the limit; each success with a request of more than half the limit raises it
  by half, or halfway to the smallest size that was refused. Within an eighth of that it stays.
* Sizes from the smallest refused one on are tried again after :data:`PROBE_S`, and after twice as
  long each time that is refused, up to :data:`PROBE_S_MAX`: an endpoint's limit may be raised.
* No sensible limit is below :data:`FLOOR_BYTES`. Where so small a request is refused, most likely
  everything is: it is tried again with growing delays before it is cut, and only one single point
  is given up until a request is accepted again. If that one was not cut, size was not the reason,
  and the limit grows from there.
"""

from __future__ import annotations

from typing import Literal

from relay.config.exporter.types import Sink

FLOOR_BYTES = 16 * 1024
"""Before compression. The smallest limits in use are proxies' (nginx: 1 MiB)."""
FLOOR_TRIES = 5
"""Number of times a request below the floor is sent again before it is cut."""
PROBE_S = 60.0
PROBE_S_MAX = 3600.0

PROTOCOL_REQUEST_BYTES_MAX = 64 * 1024 * 1024
"""OTLP 1.11, "OTLP/HTTP Request": clients should stay below 64 MiB before compression."""
QUEUE_REQUESTS_MIN = 4
"""A full queue holds at least so many requests: they are cut smaller for a tiny queue."""

Step = Literal["cut", "wait", "give_up"]
"""Next step for a refused request: cut it in two, send it again later, or give it up."""


def configured_bytes_max(config: Sink) -> int:
    """Return how large a request of a sink may be, before compression, by its configuration."""
    return min(
        config.endpoint.request_bytes_max or PROTOCOL_REQUEST_BYTES_MAX,
        PROTOCOL_REQUEST_BYTES_MAX,
        # A request that fills the queue alone would leave no choice but to drop it.
        config.queue.bytes_max // QUEUE_REQUESTS_MIN,
    )


class RequestSize:
    """The size limit of one sink, in bytes before compression; ``now`` is monotonic, s."""

    __slots__ = (
        "_floor",
        "_gave_up",
        "_good",
        "_limit",
        "_probe_at",
        "_probe_s",
        "refusals",
        "refused_bytes",
    )

    def __init__(self) -> None:
        self.refused_bytes: int | None = None
        """The smallest size that was refused, None where none is known."""
        self.refusals = 0
        """Consecutive refusals, without any success between."""
        self._limit: int | None = None
        self._good = 0
        self._floor = FLOOR_BYTES
        self._gave_up = False
        self._probe_at = 0.0
        self._probe_s = PROBE_S

    def bytes_max(self, now: float) -> int | None:
        """Return how large a request may be; None: no limit is known."""
        if self._limit is None or self.refused_bytes is None:
            return self._limit
        if now >= self._probe_at:
            return self.refused_bytes + self.refused_bytes // 2
        return self._limit

    def accepted(self, size: int) -> None:
        """Note that a request of this size was accepted."""
        waited = self.refusals and size <= self._floor == FLOOR_BYTES
        self.refusals = 0
        self._gave_up = False
        if self._limit is None:
            return
        if waited or (self.refused_bytes is not None and size >= self.refused_bytes):
            self.refused_bytes = None
            self._probe_s = PROBE_S
        self._good = max(self._good, size)
        limit = max(self._limit, size)
        if size > limit // 2:
            grown = limit + limit // 2
            if self.refused_bytes is not None:
                grown = min(grown, (limit + self.refused_bytes) // 2)
                if self.refused_bytes - limit <= limit // 8:
                    grown = limit
            limit = grown
        self._limit = limit

    def refused(self, size: int, now: float, *, points: int) -> Step:
        """Note that a request was refused for its size; return what to do with it."""
        self.refusals += 1
        step = self._step(size, points)
        if step == "wait":
            return step
        if self.refused_bytes is not None and size >= self.refused_bytes:
            self._probe_s = min(2 * self._probe_s, PROBE_S_MAX)
        self.refused_bytes = min(size, self.refused_bytes or size)
        self._probe_at = now + self._probe_s
        if size <= self._good:
            self._good = 0  # it was taken before: things have changed
        half = max(size // 2, self._good, min(self._floor, size - 1))
        self._limit = min(half, self._limit or half)
        return step

    def cut_into(self, size: int) -> None:
        """Note that a refused request was cut into pieces of at most this size."""
        if self._limit is not None:
            self._limit = max(self._limit, size)

    def forget(self) -> None:
        """Forget the limit: size was not the reason, or the endpoint is another one."""
        self._limit = self.refused_bytes = None
        self._good = 0
        self._floor = FLOOR_BYTES
        self._probe_s = PROBE_S

    def _step(self, size: int, points: int) -> Step:
        if size > self._floor:
            return "cut" if points > 1 else "give_up"
        if self.refusals <= FLOOR_TRIES:
            return "wait"
        if points > 1:
            self._floor = size // 2
            return "cut"
        if self._gave_up:
            return "wait"
        self._gave_up = True
        return "give_up"

    def __repr__(self) -> str:
        return f"<RequestSize at most {self._limit}, {self.refused_bytes} was refused>"
