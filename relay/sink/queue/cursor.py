"""How far a lane of a sink's queue on disk has come. Pure."""

from __future__ import annotations

import msgspec


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """How far a lane has come: the first record that is not dealt with; how often it was tried,
    None for what it says itself; the wall clock before which it shall not be tried again, s; and
    each segment that still holds something with the points that wait in it."""

    segment: int
    offset: int
    attempts: int | None = None
    resumes_at: float = 0.0
    held: tuple[tuple[int, int], ...] = ()
