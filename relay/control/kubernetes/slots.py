"""Share the few connections of one control plane between requests and watches.

A connection of HTTP/1.1 that carries a watch carries nothing else, and a control plane may get only
a few of them (a relay watches hundreds of control planes).

* Requests come first. *Main* watches keep their connections; they get all but one of them, and a
  main watch beyond those is a spare one.
* *Spare* watches share the connections that are left. A spare watch is preempted at once if a
  request or a main watch waits for a connection, and after :data:`TURN_S` if another spare watch
  does; later it goes on from its resource version, so nothing is lost.
* A preempted watch costs a connection, and with TLS a handshake. So a connection that a request
  gave back is kept for the next request for :data:`LINGER_S`, and for a series of requests for at
  most :data:`HOLD_S`; then a spare watch gets it, and keeps it for :data:`UNDISTURBED_S` even if
  requests wait.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from enum import IntEnum

TURN_S = 10.0
"""Time for which a spare watch keeps its connection while another one waits; s."""
LINGER_S = 0.25
"""Time for which a connection that a request gave back waits for another request; s."""
HOLD_S = 1.0
"""Longest time for which requests keep a connection that spare watches wait for; s."""
UNDISTURBED_S = 0.1
"""Time for which a spare watch keeps its connection after it has waited for that long; s."""


class Use(IntEnum):
    """Purpose of a connection, most urgent first."""

    REQUEST = 0
    MAIN_WATCH = 1
    SPARE_WATCH = 2


class ConnectionSlot:
    """The right to use one connection, until :meth:`release`."""

    __slots__ = ("_slots", "give_way", "given_way", "since_s", "undisturbed_s", "use")

    def __init__(self, slots: ConnectionSlots, use: Use, since_s: float) -> None:
        self._slots = slots
        self.use = use
        self.since_s = since_s
        self.undisturbed_s = since_s
        """Time until which no request preempts it."""
        self.given_way = False
        """True once it is preempted: its connection is needed for another use."""
        self.give_way: Callable[[], None] | None = None
        """Ends the use at once; called at most once."""

    def release(self) -> None:
        """Give the connection back; not twice."""
        self._slots.put_back(self)

    def preempt(self) -> None:
        """Ask the use to end."""
        if not self.given_way:
            self.given_way = True
            if self.give_way is not None:
                self.give_way()


class ConnectionSlots:
    """Connections of one control plane, at most ``connections_max`` in use at a time."""

    def __init__(
        self, connections_max: int, *, turn_s: float = TURN_S, linger_s: float = LINGER_S
    ) -> None:
        assert connections_max >= 2, "one for requests, one for a watch"
        self.connections_max = connections_max
        self.turn_s = turn_s
        self._linger_s = linger_s
        self._held: dict[ConnectionSlot, None] = {}
        self._waiting: list[tuple[Use, int, asyncio.Future[ConnectionSlot]]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._kept_until_s = float("-inf")
        """Time until which one connection is for requests only."""
        self._waiting_since_s: float | None = None
        """Time since which spare watches wait for what requests keep; None: none does."""

    async def acquire(self, use: Use) -> ConnectionSlot:
        """Wait for a connection."""
        if use is Use.MAIN_WATCH and self._mains() >= self.connections_max - 1:
            use = Use.SPARE_WATCH  # it would wait for ever, or leave nothing to requests
        future: asyncio.Future[ConnectionSlot] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (use, next(self._order), future))
        self._serve()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                future.result().release()  # it was given while we were cancelled
            self._serve()
            raise

    def put_back(self, slot: ConnectionSlot) -> None:
        """Take a connection back and give it to the most urgent use that waits."""
        del self._held[slot]
        if slot.use is Use.REQUEST:
            now = asyncio.get_running_loop().time()
            since_s = now if self._waiting_since_s is None else self._waiting_since_s
            self._kept_until_s = min(now + self._linger_s, since_s + HOLD_S)
        self._serve()

    @property
    def in_use(self) -> int:
        """Number of connections in use."""
        return len(self._held)

    def _serve(self) -> None:
        now = asyncio.get_running_loop().time()
        left: list[tuple[Use, int, asyncio.Future[ConnectionSlot]]] = []
        while self._waiting:
            entry = heapq.heappop(self._waiting)
            use, _, future = entry
            if future.done():
                continue  # cancelled
            is_kept = use is Use.SPARE_WATCH and now < self._kept_until_s  # one, not all
            if len(self._held) < self.connections_max - is_kept:
                slot = ConnectionSlot(self, use, now)
                self._held[slot] = None
                future.set_result(slot)
                if use is Use.SPARE_WATCH:
                    since_s, self._waiting_since_s = self._waiting_since_s, None
                    if since_s is not None and now >= since_s + HOLD_S:
                        slot.undisturbed_s = now + UNDISTURBED_S
            else:
                left.append(entry)
        if self._waiting_since_s is None and any(use is Use.SPARE_WATCH for use, _, _ in left):
            self._waiting_since_s = now
        self._waiting = left
        heapq.heapify(self._waiting)
        self._make_way(now)

    def _mains(self) -> int:
        """Count the main watches that have a connection or wait for one."""
        held = sum(slot.use is Use.MAIN_WATCH for slot in self._held)
        return held + sum(use is Use.MAIN_WATCH for use, _, one in self._waiting if not one.done())

    def _make_way(self, now: float) -> None:
        """Preempt one spare watch for each urgent use that waits, and the longest for its like."""
        spare = [slot for slot in self._held if slot.use is Use.SPARE_WATCH]
        going = sum(slot.given_way for slot in spare)
        staying = [slot for slot in spare if not slot.given_way]  # the longest held first
        urgent = sum(use is not Use.SPARE_WATCH for use, _, _ in self._waiting)
        while urgent > going and staying and now >= staying[0].undisturbed_s:
            staying.pop(0).preempt()
            going += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waits = any(use is Use.SPARE_WATCH for use, _, _ in self._waiting)
        times: list[float] = []
        if urgent > going and staying:
            times.append(staying[0].undisturbed_s)
        if waits and staying and not going:
            times.append(max(staying[0].since_s + self.turn_s, staying[0].undisturbed_s))
            if now >= times[-1]:
                staying[0].preempt()
                return
        if waits and len(self._held) < self.connections_max:
            times.append(self._kept_until_s)
        if times:
            wait_s = max(0.0, min(times) - now)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._look_again)

    def _look_again(self) -> None:
        """Give out again: a turn is over, or what requests kept is free."""
        self._timer = None
        self._serve()

    def __repr__(self) -> str:
        return f"<ConnectionSlots {self.in_use}/{self.connections_max}>"
