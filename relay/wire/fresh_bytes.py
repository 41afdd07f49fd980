"""Bytes that a decoder writes itself: to copy them out of a buffer costs half as much again.

This is the readable reference; ``fresh_bytes.pyx`` lets the decoder write into the object itself.
"""

from __future__ import annotations

from collections.abc import Callable


def fresh_bytes(size: int, write: Callable[[memoryview], int]) -> bytes:
    """Bytes of that size; ``write`` fills all of them and says how many it has filled.

    The view is no longer usable afterwards. Raises what ``write`` raises.
    """
    buffer = bytearray(size)
    with memoryview(buffer) as view:
        written = write(view)
    assert written == size, (written, size)
    return bytes(buffer)
