"""The journal as the rest of the relay sees it: a write-ahead log of accepted requests.

Rules for every implementation (``tests/contract/test_journal.py`` runs over all of them):

* The caller assigns positions; they grow from append to append and may have gaps.
* Records are read in the order of their positions. A record whose append returned True is read
  until it is trimmed, also after the process died without :meth:`Journal.close`.
* Trouble never raises from ``append``: it returns False, and ``trouble`` says why, until the
  journal recovers by itself. ``contains`` knows which positions are missing because of it.
* All methods are called on one event loop and never block it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

import msgspec

from relay.storage.journal.checkpoint import Checkpoint
from relay.storage.journal.record import Record
from relay.storage.journal.statistics import JournalStatistics


class LearnedState(msgspec.Struct, frozen=True):
    """Serialized metadata that requests carried; ``version`` changes whenever ``data`` does."""

    version: int
    data: bytes


class JournalCursor(msgspec.Struct, frozen=True):
    """Position of a reader in the log; the default is the oldest record.

    Others come from a :class:`Chunk`. ``first`` names a segment by its first position, ``offset``
    is in bytes.
    """

    first: int = -1
    offset: int = 0


class Chunk(msgspec.Struct, frozen=True):
    """Consecutive records; ``at_end`` is True when no record followed them at that moment."""

    records: tuple[Record, ...]
    cursor: JournalCursor
    at_end: bool


class LogRange(msgspec.Struct, frozen=True):
    """The extent of a log.

    ``spans`` has (first position, bytes) of each segment, oldest first; every record is below
    ``next_position``.
    """

    spans: tuple[tuple[int, int], ...] = ()
    next_position: int = 0

    @property
    def bytes(self) -> int:
        """Return the size of all segments."""
        return sum(size for _, size in self.spans)

    @property
    def first_position(self) -> int:
        """Return a position that no record is below."""
        return self.spans[0][0] if self.spans else self.next_position

    def position_after(self, size: int) -> int:
        """Return the position below which the oldest segments hold at least ``size`` bytes."""
        for first, held in self.spans:
            if size <= 0:
                return first
            size -= held
        return self.next_position

    def bytes_from(self, cursor: JournalCursor) -> int:
        """Return how many bytes follow a cursor."""
        read = sum(min(cursor.offset, size) for first, size in self.spans if first == cursor.first)
        return sum(size for first, size in self.spans if first >= cursor.first) - read


class Journal(Protocol):
    """A write-ahead log of requests, with a checkpoint and learned state beside it."""

    saved_version: int
    """Version of the learned state that was saved last; -1 when none is saved."""

    async def open(self) -> Checkpoint:
        """Recover what an earlier process left and return its last checkpoint.

        Call it once, before anything else. Raises FormatError, with nothing changed, for data of an
        unknown format.
        """
        ...

    async def advance(self, position: int) -> None:
        """Raise ``extent.next_position`` to at least ``position``."""
        ...

    @property
    def trouble(self) -> str:
        """Return why nothing can be appended at this moment, or ""."""
        ...

    @property
    def extent(self) -> LogRange:
        """Return what the journal holds."""
        ...

    @property
    def bytes_max(self) -> int:
        """Return the size at which the journal is full."""
        ...

    @property
    def pending_bytes(self) -> int:
        """Return the bytes of records that are being appended."""
        ...

    async def append(self, record: Record) -> bool:
        """Append a record and wait until it is durable; return False if it could not be.

        ``record.position`` must be at least ``extent.next_position`` and above that of every
        append before, awaited or not.
        """
        ...

    def wait_idle(self) -> Awaitable[None]:
        """Wait until every append has finished; the caller makes sure that none begins."""
        ...

    async def read(self, cursor: JournalCursor, *, start: int) -> Chunk:
        """Read the next records behind a cursor, skipping those below position ``start``."""
        ...

    def contains(self, first: int, last: int) -> bool:
        """Return False if an append between these positions failed and is not trimmed yet."""
        ...

    def save_checkpoint(
        self, checkpoint: Checkpoint, *, trim_below: int, learned: LearnedState | None = None
    ) -> bool:
        """Begin to save a checkpoint and learned state, then trim; return False while busy.

        Records below ``trim_below`` may be removed at any time from then on, others must not be.
        """
        ...

    async def load_learned_state(self) -> bytes | None:
        """Return the data that was saved last; None if there is none."""
        ...

    async def close(
        self,
        checkpoint: Checkpoint | None,
        *,
        trim_below: int,
        learned: LearnedState | None = None,
    ) -> None:
        """Finish pending appends, save the last checkpoint, release all resources.

        ``checkpoint`` None: keep the old one. Never raises for a failed disk.
        """
        ...

    def statistics(self) -> JournalStatistics:
        """Return a snapshot."""
        ...
