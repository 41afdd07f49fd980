"""Counts the series of the table that have a match set, and those of a project against its limits.

A series is counted when it enters the table, is resolved anew, or leaves: never per sample.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

SHARE_ALL: Final = 1 << 32
"""A ``share_max`` that takes every series. They are told apart by the CRC of their labels, so that
the same ones are taken after a restart, and by another relay."""


class ProjectTally:
    """Series of a project that any sink takes, and those that its limits refuse.

    The limits are ``series_max`` (None: no limit), and ``share_max``, below :data:`SHARE_ALL` where
    only a share of all series is taken. ``reserved`` are CRCs of series that were taken before a
    restart: places are kept for them.
    """

    __slots__ = ("is_limited", "refused", "reserved", "series_max", "share_max", "taken")

    def __init__(self) -> None:
        self.taken = 0
        self.refused = 0
        self.series_max: int | None = None
        self.share_max = SHARE_ALL
        self.reserved: set[int] = set()
        self.is_limited = False

    def limit(self, series_max: int | None, share_max: int) -> None:
        """Set the limits; what is taken already is left as it is."""
        self.series_max = series_max
        self.share_max = share_max
        self.is_limited = series_max is not None or share_max < SHARE_ALL

    def takes(self, key: bytes, *, known: bool) -> bool:
        """Return whether a series is within the limits; ``known``: it is taken already."""
        if self.share_max < SHARE_ALL and crc32(key) >= self.share_max:
            return False
        if known or self.series_max is None:
            return True
        reserved = self.reserved
        if reserved:
            crc = crc32(key)
            if crc not in reserved:
                return self.taken + len(reserved) < self.series_max
            reserved.discard(crc)
        return self.taken < self.series_max

    @property
    def has_room(self) -> bool:
        """True if a part of the limit worth asking refused series again is free."""
        limit = self.series_max
        taken = self.taken + len(self.reserved)
        return limit is not None and limit - taken > limit // READMIT_PARTS

    def __repr__(self) -> str:
        return f"<ProjectTally {self.taken} taken, {self.refused} refused>"


READMIT_PARTS: Final = 100
"""Refused series are asked again once this part of the limit is free."""


class SeriesTally:
    """The series of one match set."""

    __slots__ = ("_is_refused", "_is_taken", "project", "series")

    def __init__(self, project: ProjectTally, *, is_taken: bool, is_refused: bool = False) -> None:
        self.project = project
        self.series = 0
        self._is_taken = is_taken
        self._is_refused = is_refused

    def enter(self) -> None:
        """Count a series of the table that has the match set now."""
        self.series += 1
        if self._is_taken:
            self.project.taken += 1
        elif self._is_refused:
            self.project.refused += 1

    def leave(self) -> None:
        """Undo :meth:`enter`: the series has another one now, or is forgotten."""
        self.series -= 1
        if self._is_taken:
            self.project.taken -= 1
        elif self._is_refused:
            self.project.refused -= 1

    def __repr__(self) -> str:
        return f"<SeriesTally {self.series} of {self.project!r}>"
