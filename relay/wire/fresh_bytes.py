"""Bytes that a decoder writes itself: to copy them out of a buffer costs half as much again.

This is the readable reference; ``fresh_bytes.pyx`` does without the zeros that are written over.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO


def fresh_bytes(size: int, write: Callable[[memoryview], int]) -> bytes:
    """Bytes of that size; ``write`` fills all of them and says how many it has filled.

    The view is no longer usable afterwards. Raises what ``write`` raises.
    """
    # A BytesIO writes into the bytes that it was given, as long as nobody else has them, and hands
    # them out as they are.
    owner = BytesIO(bytes(size))
    with owner.getbuffer() as view:
        written = write(view)
    assert written == size, (written, size)
    return owner.getvalue()
