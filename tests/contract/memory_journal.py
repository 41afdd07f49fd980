"""A journal in memory, the second implementation behind the Protocol."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from relay.storage.journal.checkpoint import Checkpoint
from relay.storage.journal.interface import Chunk, JournalCursor, LearnedState, LogRange
from relay.storage.journal.record import Record, encode_record
from relay.storage.journal.statistics import JournalStatistics

CHUNK_RECORDS = 3


@dataclass
class Medium:
    """What outlives a process. While ``failing``, it refuses appends."""

    records: list[Record] = field(default_factory=list)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    learned: bytes | None = None
    failing: bool = False


class MemoryJournal:
    """Each record is a segment of its own, so trimming is exact."""

    def __init__(self, medium: Medium, *, bytes_max: int) -> None:
        self._medium = medium
        self._next = 0
        self._missing: list[int] = []
        self._appended = 0
        self._refused = 0
        self._appending = 0
        self._bytes_max = bytes_max
        self.saved_version = -1

    async def open(self) -> Checkpoint:
        self._next = max([0, *(each.position + 1 for each in self._medium.records)])
        await self.advance(self._medium.checkpoint.next)
        return self._medium.checkpoint

    async def advance(self, position: int) -> None:
        self._next = max(self._next, position)

    @property
    def trouble(self) -> str:
        if self._medium.failing:
            return "the medium fails"
        return f"it is full: {self.extent.bytes}" if self.extent.bytes >= self._bytes_max else ""

    @property
    def extent(self) -> LogRange:
        spans = ((each.position, len(encode_record(each))) for each in self._medium.records)
        return LogRange(tuple(spans), self._next)

    @property
    def bytes_max(self) -> int:
        return self._bytes_max

    @property
    def pending_bytes(self) -> int:
        return self._appending

    async def append(self, record: Record) -> bool:
        if self.trouble:
            self._missing.append(record.position)
            self._refused += 1
            return False
        assert record.position >= self._next
        self._medium.records.append(record)
        self._next = record.position + 1
        self._appended += 1
        size = len(encode_record(record))
        self._appending += size
        await asyncio.sleep(0)
        self._appending -= size
        return True

    async def wait_idle(self) -> None:
        while self._appending:  # noqa: ASYNC110 - appends end in the next turn
            await asyncio.sleep(0)

    async def read(self, cursor: JournalCursor, *, start: int) -> Chunk:
        found = [
            each
            for each in self._medium.records
            if each.position > cursor.first and each.position >= start
        ]
        records = found[:CHUNK_RECORDS]
        if records:
            cursor = JournalCursor(records[-1].position, len(encode_record(records[-1])))
        return Chunk(tuple(records), cursor, at_end=len(found) == len(records))

    def contains(self, first: int, last: int) -> bool:
        return not any(first <= position <= last for position in self._missing)

    def save_checkpoint(
        self, checkpoint: Checkpoint, *, trim_below: int, learned: LearnedState | None = None
    ) -> bool:
        self._medium.checkpoint = checkpoint
        if learned is not None:
            self._medium.learned, self.saved_version = learned.data, learned.version
        self._missing = [each for each in self._missing if each >= trim_below]
        self._medium.records = [r for r in self._medium.records if r.position >= trim_below]
        return True

    async def load_learned_state(self) -> bytes | None:
        return self._medium.learned

    async def close(
        self,
        checkpoint: Checkpoint | None,
        *,
        trim_below: int,
        learned: LearnedState | None = None,
    ) -> None:
        await self.wait_idle()
        if checkpoint is not None:
            self.save_checkpoint(checkpoint, trim_below=trim_below, learned=learned)

    def statistics(self) -> JournalStatistics:
        return JournalStatistics(
            trouble=self.trouble,
            bytes=self.extent.bytes,
            bytes_max=self._bytes_max,
            segments=len(self._medium.records),
            records=self._appended,
            unjournaled_requests=self._refused,
        )
