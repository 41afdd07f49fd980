"""Measure and trim memory, save checkpoints and trim the journal, again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from relay.control.durability.admission import Admission
from relay.control.time_slicing import Turns
from relay.runtime.malloc import HeapTrimmer

if TYPE_CHECKING:
    from relay.control.durability.checkpointer import Checkpointer
    from relay.control.durability.open_storage import OpenStorage

INTERVAL_S_MIN = 0.1
INTERVAL_S_MAX = 1.0
"""Interval of checkpoints. What was delivered since the last one is delivered once more after a
crash."""

CPU_FRACTION = 0.02
"""Maximum share of the event loop's time, which grows with the number of sinks."""


class Upkeep:
    """Regular work beside the data. Lives on the event loop; ``tick`` is monotonic, s.

    ``storage`` and ``checkpointer`` are None where nothing is stored.
    """

    def __init__(
        self,
        admission: Admission,
        storage: OpenStorage | None,
        checkpointer: Checkpointer | None,
        turns: Turns,
        *,
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        self._admission = admission
        self._storage = storage
        self._checkpointer = checkpointer
        self._turns = turns
        self._tick = tick
        self._heap = HeapTrimmer(tick=tick)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Plan the first time."""
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_S_MIN, self._run)

    def close(self) -> None:
        """Do it no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _run(self) -> None:
        began = self._tick()
        try:
            self._admission.measure()
            self._heap.look()
            if self._storage is not None:
                self._storage.look_after(self._tick())
            if self._checkpointer is not None:
                self._turns.soon(partial(self._checkpointer.keep, began))
        finally:  # a bug costs one time; the event loop logs it
            interval_s = max(INTERVAL_S_MIN, (self._tick() - began) / CPU_FRACTION)
            self._timer = asyncio.get_running_loop().call_later(
                min(interval_s, INTERVAL_S_MAX), self._run
            )

    def __repr__(self) -> str:
        return f"<Upkeep of {self._admission!r}>"
