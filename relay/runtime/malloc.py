"""The C library's memory allocator, told to keep the large buffers that a batch needs.

glibc asks the kernel for anything above 128 KiB afresh and gives it back at once; so a batch's
arena, its encoded request and its compressed body, and each body that comes in, are made of new
pages every time. A new page costs its zeroing and a fault: 0.25 µs on a bare machine, 2.7 µs in a
virtual one (4 MiB copied: 0.15 ms into memory that is there, 2.7 ms into fresh pages). Rules:

* Once at start, and only where the C library has ``mallopt`` (glibc; not musl, not macOS).
* What is kept is bounded: at most :data:`KEPT_BYTES` at the heap's end stay unused.
"""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3

LARGE_BYTES: Final = 32 * 1024 * 1024
"""Only what is larger comes from the kernel and goes back to it: glibc's own upper bound for this.
A request of 10,000 points has 4 MiB, the largest body that is taken in 32."""

KEPT_BYTES: Final = 64 * 1024 * 1024
"""How much may lie unused at the end of the heap before it is given back."""


def configure_malloc() -> bool:
    """Keep large buffers from now on; say whether this C library can."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function; no way to look it up
        return False
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt.restype = ctypes.c_int
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES) and mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES))
