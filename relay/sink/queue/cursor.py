"""A shard's progress through its queue on disk. Pure."""

from __future__ import annotations

import msgspec


class QueueCursor(msgspec.Struct, frozen=True, array_like=True):
    """The oldest record that is not settled, and its state.

    ``attempts`` counts its failed requests, None: as many as the record says; ``resumes_at`` is the
    wall clock before which it must not be sent again, s; ``held`` lists each segment that holds
    records that are not settled, and their points. ``reshards``: wall clock of the changes of the
    number of shards that the sink's queue has records from before, s; the same in all its shards.
    """

    segment: int
    offset: int
    attempts: int | None = None
    resumes_at: float = 0.0
    held: tuple[tuple[int, int], ...] = ()
    reshards: tuple[float, ...] = ()
