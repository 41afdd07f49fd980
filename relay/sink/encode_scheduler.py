"""When batches are encoded and compressed: in order, for a few milliseconds in a turn of the loop.

Ten thousand sinks whose batches began together are due together, and one request may fill hundreds
of batches. Packing all of them at once would hold up senders for seconds. Rules:

* What is asked for is done at once while there is time left in this turn of the event loop and
  nobody waits, so that a single sink never does. Everything else stands in *line*, first come first
  served, and has :data:`SLICE_S` of every turn until it is done.
* Who finds :data:`LINE_MAX` in line does the first one's work as well: then work does not come in
  faster than it is done, and senders feel that.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator

from relay.codec.otlp.batch import SealedBatch
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.queue.payload import SharedBodyCache

SLICE_S = 0.005
"""Some twenty batches of 500 points."""

LINE_MAX = 10_000
"""As many as there are sinks; all of them together take some seconds."""


class EncodeScheduler:
    """One line for the whole process. ``tick`` is any monotonic clock, in s."""

    def __init__(self, tick: Callable[[], float] = time.perf_counter) -> None:
        self._tick = tick
        self._line: deque[Callable[[], None]] = deque()
        self._left_s = SLICE_S
        self._begins = False
        self.bodies = SharedBodyCache()
        """Of the last batch that was packed, while others may have the same."""

    def submit(self, job: Callable[[], None]) -> None:
        """Have ``job`` done, now or soon; it must not raise. Needs a running loop."""
        self._line.append(job)
        if (len(self._line) == 1 and self._left_s > 0) or len(self._line) > LINE_MAX:
            self._do_first()
        self._await_turn()

    @property
    def waiting(self) -> int:
        """How many jobs stand in line."""
        return len(self._line)

    def _do_first(self) -> None:
        began = self._tick()
        self._line.popleft()()
        self._left_s -= self._tick() - began

    def _await_turn(self) -> None:
        if not self._begins:
            self._begins = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._begins = False
        self._left_s = SLICE_S
        try:
            while self._line and self._left_s > 0:
                self._do_first()
        finally:
            if not self._line:
                self.bodies.forget()
            if self._line or self._left_s <= 0:
                self._await_turn()

    def __repr__(self) -> str:
        return f"<EncodeScheduler {len(self._line)} in line>"


class EncodeBacklog:
    """The batches of one sink that are to be packed, oldest first. ``pack`` is called with each,
    and its lane; ``memory`` counts what they take until then."""

    __slots__ = ("_batches", "_encode_scheduler", "_memory", "_pack")

    def __init__(
        self,
        encode_scheduler: EncodeScheduler,
        memory: BufferedBytes,
        pack: Callable[[SealedBatch, int], None],
    ) -> None:
        self._encode_scheduler = encode_scheduler
        self._memory = memory
        self._pack = pack
        self._batches: deque[tuple[SealedBatch, int]] = deque()

    def add(self, sealed: SealedBatch, shard: int) -> None:
        """Have one packed when its turn has come, which may be now."""
        self._memory.used += sealed.point_buffer.room()
        self._batches.append((sealed, shard))
        self._encode_scheduler.submit(self._pack_first)

    def pack_all(self) -> None:
        """Pack what is left, out of turn."""
        while self._batches:
            self._pack_first()

    def end(self) -> None:
        """Nothing more will come: no longer refer to who packs."""
        assert not self._batches
        self._pack = _pack_nothing

    def __bool__(self) -> bool:
        return bool(self._batches)

    def __iter__(self) -> Iterator[tuple[SealedBatch, int]]:
        """The batches and their lanes."""
        return iter(self._batches)

    def _pack_first(self) -> None:
        if self._batches:  # else it was packed out of turn
            sealed, shard = self._batches.popleft()
            self._memory.used -= sealed.point_buffer.room()
            self._pack(sealed, shard)

    def __repr__(self) -> str:
        return f"<EncodeBacklog {len(self._batches)} batches>"


def _pack_nothing(_sealed: SealedBatch, _shard: int) -> None:
    raise AssertionError("nothing is packed for a sink that is gone")
