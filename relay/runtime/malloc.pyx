"""Tune the C library's malloc to keep the large buffers that each batch needs, while it is busy.

By default glibc maps every block above 128 KiB from the kernel and unmaps it at once, so point
buffers, request bodies and compressed bodies are page-faulted in anew each time.

* Configured once at start, and only with glibc: musl and macOS have no ``mallopt``. What the start
  has freed is given back then: no batch has its size.
* All threads share one heap: ``malloc_trim`` shortens no other, and what a thread has made at once,
  such as the page of ``/metrics``, would stay.
* At most :data:`KEPT_BYTES` of unused memory is kept at the end of the heap.
* Once the process rests, all that is unused is given back (:class:`HeapTrimmer`), wherever it is in
  the heap: glibc itself gives back what is at its end alone. So are free arenas, some at each look.
"""

import time

from relay.runtime.huge_pages import trim_arenas


cdef extern from *:
    """
    #include <stdlib.h>
    #if defined(__GLIBC__)
    #include <malloc.h>
    #else
    enum { M_TRIM_THRESHOLD = -1, M_MMAP_THRESHOLD = -3, M_ARENA_MAX = -8 };
    static int mallopt(int option, int value) { (void)option; (void)value; return 0; }
    #endif

    /* Whether this C library can. */
    static int relay_trim(void) {
    #if defined(__GLIBC__)
        malloc_trim(0);
        return 1;
    #else
        return 0;
    #endif
    }
    """
    const int M_TRIM_THRESHOLD
    const int M_MMAP_THRESHOLD
    const int M_ARENA_MAX
    int mallopt(int option, int value) nogil
    int relay_trim() nogil


LARGE_BYTES = 8 * 1024 * 1024
"""Smallest block mapped directly from the kernel; bytes. A request of 10,000 points takes 4 MiB.
What is larger is rare, and a hole in the heap that nothing else fills: the page of ``/metrics`` of
10,000 sinks."""

KEPT_BYTES = 64 * 1024 * 1024
"""Unused memory kept at the end of the heap; bytes."""

LOOK_S = 1.0
"""Shortest time between two looks of :class:`HeapTrimmer`, s."""
BUSY_SHARE, RESTING_SHARE = 0.2, 0.05
"""Shares of a CPU: above the one a process is busy, below the other it rests."""
RESTING_LOOKS = 2
"""Looks in a row at which the process rests before it gives memory back."""


def share_heap():
    """Let all threads use one heap; return whether this C library supports it.

    Call it before the first thread: a heap that is there stays.
    """
    return mallopt(M_ARENA_MAX, 1) != 0


def configure_malloc():
    """Keep large buffers from now on; return whether this C library supports it.

    Takes some milliseconds.
    """
    return (
        trim_heap()
        and mallopt(M_MMAP_THRESHOLD, LARGE_BYTES) != 0
        and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES) != 0
    )


def trim_heap():
    """Give unused memory back to the kernel; return whether this C library supports it.

    Takes 0.1 to 0.4 ms of CPU for each MiB that is given back.
    """
    cdef bint is_done
    with nogil:
        is_done = relay_trim()
    return is_done


class HeapTrimmer:
    """Gives unused memory back once the process rests after it was busy.

    ``tick`` is a monotonic clock and ``cpu_s`` the CPU time of the process, s. ``trim`` is called
    once, ``trim_some`` at each look at which the process rests until it returns false.
    """

    def __init__(
        self,
        *,
        tick=time.monotonic,
        cpu_s=time.process_time,
        trim=trim_heap,
        trim_some=trim_arenas,
    ):
        self._tick = tick
        self._cpu_s = cpu_s
        self._trim = trim
        self._trim_some = trim_some
        self._has_more = False
        self._looked_at = tick()
        self._cpu_before_s = cpu_s()
        self._resting = 0
        self._was_busy = False

    def look(self):
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

    def __repr__(self):
        return f"<HeapTrimmer{', was busy' * self._was_busy}>"
