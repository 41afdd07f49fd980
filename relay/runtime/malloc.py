"""Tune the C library's malloc to keep the large buffers that each batch needs, while it is busy.

By default glibc maps every block above 128 KiB from the kernel and unmaps it at once, so point
buffers, request bodies and compressed bodies are page-faulted in anew each time.

* Configured once at start, and only where ``mallopt`` exists (glibc; not musl or macOS). What the
  start has freed is given back then: no batch has its size.
* All threads share one heap: ``malloc_trim`` shortens no other, and what a thread has made at once,
  such as the page of ``/metrics``, would stay.
* At most :data:`KEPT_BYTES` of unused memory is kept at the end of the heap.
* Once the process rests, all that is unused is given back (:class:`HeapTrimmer`), wherever it is in
  the heap: glibc itself gives back what is at its end alone. So are free arenas, some at each look.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Final

from relay.runtime.huge_pages import trim_arenas

_M_TRIM_THRESHOLD: Final = -1  # constants of malloc.h
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

LARGE_BYTES: Final = 8 * 1024 * 1024
"""Smallest block mapped directly from the kernel; bytes. A request of 10,000 points takes 4 MiB.
What is larger is rare, and a hole in the heap that nothing else fills: the page of ``/metrics`` of
10,000 sinks."""

KEPT_BYTES: Final = 64 * 1024 * 1024
"""Unused memory kept at the end of the heap; bytes."""

LOOK_S: Final = 1.0
"""Shortest time between two looks of :class:`HeapTrimmer`, s."""
BUSY_SHARE, RESTING_SHARE = 0.2, 0.05
"""Shares of a CPU: above the one a process is busy, below the other it rests."""
RESTING_LOOKS: Final = 2
"""Looks in a row at which the process rests before it gives memory back."""


def share_heap() -> bool:
    """Let all threads use one heap; return whether this C library supports it.

    Call it before the first thread: a heap that is there stays.
    """
    return _set((_M_ARENA_MAX, 1))


def configure_malloc() -> bool:
    """Keep large buffers from now on; return whether this C library supports it.

    Takes some milliseconds.
    """
    return trim_heap() and _set((_M_MMAP_THRESHOLD, LARGE_BYTES), (_M_TRIM_THRESHOLD, KEPT_BYTES))


def _set(*options: tuple[int, int]) -> bool:
    """Set options of malloc; return whether each was taken."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function, or no way to look it up
        return False
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt.restype = ctypes.c_int
    return all(bool(mallopt(option, value)) for option, value in options)


def trim_heap() -> bool:
    """Give unused memory back to the kernel; return whether this C library supports it.

    Takes 0.1 to 0.4 ms of CPU for each MiB that is given back.
    """
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # no such function, or no way to look it up
        return False
    malloc_trim.argtypes = (ctypes.c_size_t,)
    malloc_trim(0)
    return True


class HeapTrimmer:
    """Gives unused memory back once the process rests after it was busy.

    ``tick`` is a monotonic clock and ``cpu_s`` the CPU time of the process, s. ``trim`` is called
    once, ``trim_some`` at each look at which the process rests until it returns false.
    """

    def __init__(
        self,
        *,
        tick: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.process_time,
        trim: Callable[[], object] = trim_heap,
        trim_some: Callable[[], bool] = trim_arenas,
    ) -> None:
        self._tick = tick
        self._cpu_s = cpu_s
        self._trim = trim
        self._trim_some = trim_some
        self._has_more = False
        self._looked_at = tick()
        self._cpu_before_s = cpu_s()
        self._resting = 0
        self._was_busy = False

    def look(self) -> None:
        """Measure the CPU time since the last look, and act on it; to be called again and again."""
        passed_s = self._tick() - self._looked_at
        if passed_s < LOOK_S:
            return
        cpu_s = self._cpu_s()
        share = (cpu_s - self._cpu_before_s) / passed_s
        self._looked_at += passed_s
        self._cpu_before_s = cpu_s
        self._was_busy |= share > BUSY_SHARE
        self._resting = self._resting + 1 if share < RESTING_SHARE else 0
        if self._was_busy and self._resting == RESTING_LOOKS:
            self._was_busy = False
            self._has_more = True
            self._trim()
        if self._has_more and self._resting and not self._was_busy:
            self._has_more = self._trim_some()

    def __repr__(self) -> str:
        return f"<HeapTrimmer{', was busy' * self._was_busy}>"
