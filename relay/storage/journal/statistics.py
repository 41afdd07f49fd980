"""Statistics of a journal."""

from __future__ import annotations

import msgspec


class JournalStatistics(msgspec.Struct, frozen=True):
    """A snapshot; counters since the start, except for the present sizes and ``trouble``.

    Present sizes: ``bytes``, ``bytes_max``, ``segments``, ``pending_bytes``. ``trouble``: why
    nothing can be appended, or "". ``records`` of ``record_bytes`` were written in ``groups`` and
    flushed by ``flushes``; ``unjournaled_requests`` were accepted without being written.
    ``torn_bytes`` were cut from the end after a crash; ``corrupt_bytes`` in ``corrupt_stretches``
    were damaged and skipped.
    """

    trouble: str = ""
    bytes: int = 0
    bytes_max: int = 0
    segments: int = 0
    pending_bytes: int = 0
    records: int = 0
    record_bytes: int = 0
    groups: int = 0
    flushes: int = 0
    errors: int = 0
    slow_writes: int = 0
    unjournaled_requests: int = 0
    torn_bytes: int = 0
    corrupt_stretches: int = 0
    corrupt_bytes: int = 0
    unreadable_segments: int = 0
