"""Tune the C library's malloc to keep the large buffers that each batch needs.

By default glibc maps every block above 128 KiB from the kernel and unmaps it at once, so point
buffers, request bodies and compressed bodies are page-faulted in anew each time.

* Configured once at start, and only where ``mallopt`` exists (glibc; not musl or macOS). What the
  start has freed is given back then: no batch has its size.
* At most :data:`KEPT_BYTES` of unused memory is kept at the end of the heap.
"""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # constants of malloc.h
_M_MMAP_THRESHOLD: Final = -3

LARGE_BYTES: Final = 32 * 1024 * 1024
"""Smallest block mapped directly from the kernel; bytes. glibc's own upper bound. A request of
10,000 points takes 4 MiB, the largest accepted body 32 MiB."""

KEPT_BYTES: Final = 64 * 1024 * 1024
"""Unused memory kept at the end of the heap; bytes."""


def configure_malloc() -> bool:
    """Keep large buffers from now on; return whether this C library supports it.

    Takes some milliseconds.
    """
    try:
        library = ctypes.CDLL(None)
        mallopt, malloc_trim = library.mallopt, library.malloc_trim
    except (AttributeError, OSError, TypeError):  # no such function, or no way to look it up
        return False
    malloc_trim.argtypes = (ctypes.c_size_t,)
    malloc_trim(0)
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt.restype = ctypes.c_int
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES) and mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES))
