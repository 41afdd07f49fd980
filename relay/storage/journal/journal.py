"""The journal on local files: group commit on an I/O thread, recovery from disk trouble.

Rules:

* One thread does all I/O, one job at a time. Requests that arrive in one turn of the event loop,
  or during a write, are the next group: they share a write and a flush, because a hand-over to the
  thread costs as much as a write.
* ``append`` returns when the record is as durable as ``fsync`` promises: in the kernel
  (``interval``, ``never``: survives the death of this process) or on the disk (``always``).
* A failed write, a group that takes longer than ``slow_s`` and a full journal are trouble: until it
  ends, appends return False at once. A failed disk is retried every ``retry_s``, a slow one is used
  again when its write returns, a full journal when it is trimmed.
* At most one checkpoint is being saved at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from relay.storage.journal.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from relay.storage.journal.gaps import MissingPositions
from relay.storage.journal.interface import Chunk, JournalCursor, LearnedState, LogRange
from relay.storage.journal.record import Record, encode_record_head
from relay.storage.journal.segment_log import SegmentLog
from relay.storage.journal.statistics import JournalStatistics
from relay.storage.log.filesystem import Disk, reason
from relay.storage.log.io_thread import IoThread

_log = logging.getLogger("relay.storage")

Fsync = Literal["always", "interval", "never"]

SLOW_S = 5.0
"""The longest that a sender waits for a slow disk: vmagent times out after 60 s, Prometheus after
30 s, and both send over few connections."""

RETRY_S = 5.0
GROUP_BYTES_MAX = 16 * 1024 * 1024
"""More than the default of 64 concurrent requests usually hold together."""

CHUNK_BYTES = 1024 * 1024
"""Bytes of bodies per read of a replay: a few milliseconds of the thread that also writes."""

SEGMENT_BYTES_MAX = 64 * 1024 * 1024
SEGMENTS_MIN = 8
"""Bounds the size of segments in a small journal: trimming removes whole segments only."""

CHECKPOINT_BYTES_MAX = 256 * 1024 * 1024
LEARNED_BYTES_MAX = 1024 * 1024 * 1024

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Waiting:
    """A record that is being written; ``done`` resolves to whether it is durable."""

    record: Record
    done: asyncio.Future[bool]


class FileJournal:
    """Implement :class:`relay.storage.journal.interface.Journal` on an existing directory.

    ``bytes_max`` bounds all segments together; ``checkpoint`` is the path of the checkpoint file.
    """

    def __init__(
        self,
        directory: Path,
        checkpoint: Path,
        *,
        bytes_max: int,
        fsync: Fsync = "interval",
        fsync_interval_s: float = 1.0,
        disk: Disk | None = None,
        slow_s: float = SLOW_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._disk = disk or Disk()
        self._path = checkpoint
        self._learned_path = checkpoint.with_name("knowledge")
        self._fsync = fsync
        self._fsync_interval_s = fsync_interval_s
        self._slow_s = slow_s
        self._retry_s = retry_s
        self._bytes_max = bytes_max
        self._log = SegmentLog(
            directory,
            segment_bytes_max=min(SEGMENT_BYTES_MAX, max(1, bytes_max // SEGMENTS_MIN)),
            sync=fsync != "never",
            disk=self._disk,
        )
        self._thread = IoThread("journal")
        self._pending: list[_Waiting] = []
        self._pending_bytes = 0
        self._writing: list[_Waiting] = []
        self._slow_timer: asyncio.TimerHandle | None = None
        self._flush_timer: asyncio.TimerHandle | None = None
        self._retry_timer: asyncio.TimerHandle | None = None
        self._background: set[asyncio.Future[None]] = set()
        self._saving = False
        self._missing = MissingPositions()
        self._unsaved = False
        self._failure = ""
        self._slow = False
        self._logged_trouble = ""
        self._closed = False
        self._records = self._record_bytes = self._groups = self._flushes = 0
        self._errors = self._slow_writes = self._unjournaled = 0
        self.saved_version = -1
        self._extent = LogRange()
        """A copy made after each job: only the thread may touch the log itself."""

    async def open(self) -> Checkpoint:
        """Recover the log; return the last checkpoint. Raises FormatError."""
        checkpoint = await self._run(self._recover)
        await self._retry()
        return checkpoint

    async def advance(self, position: int) -> None:
        """Raise the next position to at least ``position``."""
        await self._run(lambda: self._log.advance(position))

    @property
    def trouble(self) -> str:
        """Return why nothing can be appended at this moment, or ""."""
        if self._failure:
            return self._failure
        if self._slow:
            return f"the disk has not answered for {self._slow_s:g} s"
        if self._extent.bytes + self._pending_bytes >= self._bytes_max:
            return f"it is full: {self._extent.bytes} of {self._bytes_max} bytes"
        return ""

    @property
    def extent(self) -> LogRange:
        """Return what is on disk."""
        return self._extent

    @property
    def bytes_max(self) -> int:
        """Return the size at which the journal is full."""
        return self._bytes_max

    @property
    def pending_bytes(self) -> int:
        """Return the bytes of records in memory that are not written yet."""
        return self._pending_bytes

    @property
    def idle(self) -> bool:
        """Return whether no append is under way."""
        return not self._pending and not self._writing

    async def wait_idle(self) -> None:
        """Wait until :attr:`idle`; the caller makes sure that no append begins."""
        while not self.idle:
            self._pump()
            await asyncio.wait(self._background)

    async def append(self, record: Record) -> bool:
        """Append a record and wait until it is durable; return False if it could not be."""
        assert not self._closed
        trouble = self.trouble
        if trouble:
            self._note(trouble)
            self._unjournaled += 1
            self._missing.add(record.position, record.position)
            return False
        loop = asyncio.get_running_loop()
        waiting = _Waiting(record, loop.create_future())
        if not self._pending and not self._writing:
            loop.call_soon(self._pump)
        self._pending.append(waiting)
        self._pending_bytes += record.frame_bytes
        return await waiting.done

    async def read(self, cursor: JournalCursor, *, start: int) -> Chunk:
        """Read the next records behind a cursor, skipping those below position ``start``."""
        return await self._run(lambda: self._log.read(cursor, start=start, bytes_max=CHUNK_BYTES))

    def save_checkpoint(
        self, checkpoint: Checkpoint, *, trim_below: int, learned: LearnedState | None = None
    ) -> bool:
        """Begin to save a checkpoint and learned state, then trim; return False while busy."""
        if self._saving or self._closed:
            return False
        self._saving = True
        self._missing.trim(trim_below)
        self._spawn(self._save(checkpoint, trim_below, learned))
        return True

    def contains(self, first: int, last: int) -> bool:
        """Return False if an append between these positions failed and is not trimmed yet."""
        return not self._missing.overlaps(first, last)

    async def load_learned_state(self) -> bytes | None:
        """Return the learned state that was saved last; None if there is none."""
        return await self._run(lambda: _read_file(self._learned_path, LEARNED_BYTES_MAX))

    async def close(
        self, checkpoint: Checkpoint | None, *, trim_below: int, learned: LearnedState | None = None
    ) -> None:
        """Finish pending appends, save a last checkpoint, close.

        Waits at most ``slow_s`` for the disk.
        """
        self._closed = True
        for timer in (self._flush_timer, self._retry_timer):
            if timer is not None:
                timer.cancel()
        try:
            async with asyncio.timeout(self._slow_s):
                self._pump()
                while self._background:
                    await asyncio.wait(self._background)
                await self._run(lambda: self._finish(checkpoint, trim_below, learned))
        except TimeoutError:
            _log.error("the journal's disk does not respond; closing without a last checkpoint")
        except OSError as error:
            self._errors += 1
            _log.error("the journal could not be closed: %s", reason(error))
        if self._slow_timer is not None:
            self._slow_timer.cancel()
        self._thread.stop()

    def statistics(self) -> JournalStatistics:
        """Return a snapshot."""
        damage = self._log.damage
        return JournalStatistics(
            trouble=self.trouble,
            bytes=self._extent.bytes,
            bytes_max=self._bytes_max,
            segments=len(self._extent.spans),
            pending_bytes=self._pending_bytes,
            records=self._records,
            record_bytes=self._record_bytes,
            groups=self._groups,
            flushes=self._flushes,
            errors=self._errors,
            slow_writes=self._slow_writes,
            unjournaled_requests=self._unjournaled,
            torn_bytes=damage.torn_bytes,
            corrupt_stretches=damage.records,
            corrupt_bytes=damage.bytes,
            unreadable_segments=damage.files,
        )

    # On the loop.

    def _pump(self) -> None:
        """Hand the next group to the thread, unless it is writing one."""
        if self._writing or not self._pending:
            return
        size = count = 0
        for waiting in self._pending:
            size += waiting.record.frame_bytes
            count += 1
            if size >= GROUP_BYTES_MAX:
                break
        self._writing, self._pending = self._pending[:count], self._pending[count:]
        loop = asyncio.get_running_loop()
        self._slow_timer = loop.call_later(self._slow_s, self._too_slow)
        first, last = self._writing[0].record.position, self._writing[-1].record.position
        # Encoded here and not in the thread: encoding takes microseconds, a hand-over of the
        # interpreter lock takes more.
        frames = [
            piece
            for waiting in self._writing
            for piece in (encode_record_head(waiting.record), waiting.record.body)
        ]
        written = self._run(lambda: self._write(frames, first, last))
        self._background.add(written)
        written.add_done_callback(lambda done: self._written(done, size))

    def _written(self, done: asyncio.Future[None], size: int) -> None:
        """Settle a written group. A callback, because a task per request costs too much."""
        self._background.discard(done)
        group, self._writing = self._writing, []
        assert self._slow_timer is not None
        self._slow_timer.cancel()
        self._pending_bytes -= size
        self._slow = False
        error = done.exception()
        if error is None:
            self._groups += 1
            self._missing.end_range()
            self._records += len(group)
            self._record_bytes += size
            self._flushes += self._fsync == "always"
        elif isinstance(error, OSError):
            self._fail(error)
        self._note(self.trouble)
        self._settle(group, safe=error is None)
        if error is not None and not isinstance(error, OSError):
            raise error  # a bug: report it, after the appends were answered
        if self._failure:
            self._give_up_pending()
        self._arm_flush()
        self._pump()

    def _settle(self, group: Sequence[_Waiting], *, safe: bool) -> None:
        for waiting in group:
            if not waiting.done.done():
                waiting.done.set_result(safe)
                if not safe:
                    self._unjournaled += 1
                    position = waiting.record.position
                    self._missing.add(position, position)

    def _give_up_pending(self) -> None:
        self._pending_bytes -= sum(waiting.record.frame_bytes for waiting in self._pending)
        pending, self._pending = self._pending, []
        self._settle(pending, safe=False)

    def _too_slow(self) -> None:
        self._slow = True
        self._slow_writes += 1
        self._note(self.trouble)
        self._settle(self._writing, safe=False)
        self._give_up_pending()

    def _arm_flush(self) -> None:
        if self._fsync == "interval" and self._flush_timer is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._flush_timer = loop.call_later(
                self._fsync_interval_s, lambda: self._spawn(self._flush())
            )

    async def _flush(self) -> None:
        self._flush_timer = None
        try:
            self._flushes += await self._run(self._log.flush)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._errors += 1
        self._failure = reason(error)
        self._note(self._failure)
        if self._retry_timer is None and not self._closed:
            self._retry_timer = asyncio.get_running_loop().call_later(
                self._retry_s, lambda: self._spawn(self._retry())
            )

    async def _retry(self) -> None:
        self._retry_timer = None
        try:
            await self._run(self._try_disk)
        except OSError as error:
            self._fail(error)
        else:
            self._failure = ""
            self._note(self.trouble)

    async def _save(
        self, checkpoint: Checkpoint, trim_below: int, learned: LearnedState | None
    ) -> None:
        try:
            if gone := await self._run(self._log.verify):
                await self._record_deleted(gone)
            await self._run(lambda: self._save_and_trim(checkpoint, trim_below, learned))
        except OSError as error:
            # An old checkpoint costs duplicates only, and the next append finds out about the disk.
            self._errors += 1
            if not self._unsaved:
                _log.warning("no checkpoint can be saved: %s", reason(error))
            self._unsaved = True
        else:
            self._unsaved = False
        finally:
            self._saving = False
            self._note(self.trouble)

    async def _record_deleted(self, gone: Sequence[tuple[int, int]]) -> None:
        """Record the positions of deleted segments as missing, and start a new segment."""
        for first, last in gone:
            self._missing.add(first, last)
        self._errors += 1
        self.saved_version = -1
        self._failure = "its files were deleted"
        self._note(self._failure)
        if self._retry_timer is None:
            await self._retry()

    def _note(self, trouble: str) -> None:
        """Log when trouble begins and when it ends, not in between."""
        if trouble and not self._logged_trouble:
            _log.error("the journal is not writable, new data is in memory only: %s", trouble)
        elif self._logged_trouble and not trouble:
            _log.info("the journal is writable again")
        self._logged_trouble = trouble

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _run(self, job: Callable[[], T]) -> asyncio.Future[T]:
        return self._thread.run(lambda: self._do(job))

    # In the thread.

    def _do(self, job: Callable[[], T]) -> T:
        try:
            return job()
        finally:
            self._extent = self._log.extent()

    def _recover(self) -> Checkpoint:
        checkpoint = self._load()
        self._log.recover()
        self._log.advance(checkpoint.next)
        return checkpoint

    def _load(self) -> Checkpoint:
        data = _read_file(self._path, CHECKPOINT_BYTES_MAX)
        if data is None:
            return Checkpoint()
        checkpoint = decode_checkpoint(data)
        if checkpoint is None:
            _log.error("%s is damaged: replaying the whole journal", self._path)
        return checkpoint or Checkpoint()

    def _write(self, frames: Sequence[bytes], first: int, last: int) -> None:
        self._log.append(frames, first=first, last=last)
        if self._fsync == "always":
            self._log.flush()

    def _try_disk(self) -> None:
        self._log.begin(self._log.next_position)
        self._log.probe()

    def _save_and_trim(
        self, checkpoint: Checkpoint, trim_below: int, learned: LearnedState | None
    ) -> None:
        try:
            if learned is not None:  # first: the checkpoint names what it contains
                self._disk.replace(self._learned_path, learned.data, sync=False)
                self.saved_version = learned.version
            self._disk.replace(self._path, encode_checkpoint(checkpoint), sync=False)
        finally:
            # Trim on a full disk too: an older checkpoint is valid for a shorter journal.
            self._log.trim(trim_below)

    def _finish(
        self, checkpoint: Checkpoint | None, trim_below: int, learned: LearnedState | None
    ) -> None:
        try:
            self._log.finish()
        finally:
            if checkpoint is not None:
                self._save_and_trim(checkpoint, trim_below, learned)

    def __repr__(self) -> str:
        return f"<FileJournal {self._log!r} {self.trouble or 'good'}>"


def _read_file(path: Path, bytes_max: int) -> bytes | None:
    """Read a file; return None if there is none or, after logging it, if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(bytes_max)
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.error("%s cannot be read: %s", path, reason(error))
        return None
