"""The journal as the event loop sees it: append and wait, read, trim, remember how far sinks are.

Rules:

* One thread does all I/O, one job at a time. Requests that arrive in one turn of the event loop,
  or while it writes, are written together as the next group, and share its flush: handing work to
  a thread and back costs as much as writing.
* :meth:`Journal.append` returns when the record is as safe as ``fsync`` promises: in the kernel's
  hands (``interval``, ``never``: safe against the death of this process) or on the disk
  (``always``).
* Trouble never raises and never blocks for long. A failed write, a group that takes longer than
  ``slow_s``, a journal that is full: ``append`` returns False, at once from then on, and
  :attr:`Journal.trouble` says why. A failed disk is tried again every ``retry_s`` by itself, a slow
  one is used again as soon as it has answered, a full journal when it was trimmed.
* What is not in the journal is remembered by position (:meth:`Journal.keeps`), while it is needed.
* Trimming and checkpoints are work for idle moments: while one is being done another is not begun.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from relay.storage.journal.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from relay.storage.journal.gaps import UnkeptPositions
from relay.storage.journal.record import Record, encode_record_head
from relay.storage.journal.segment_log import Chunk, Cursor, LogRange, SegmentLog
from relay.storage.journal.statistics import JournalStatistics
from relay.storage.log.filesystem import Disk
from relay.storage.log.io_thread import IoThread

_log = logging.getLogger("relay.storage")

Fsync = Literal["always", "interval", "never"]

SLOW_S = 5.0
"""A sender waits this long for a slow disk, no longer: vmagent gives up after a minute, Prometheus
after 30 s, and both send with few connections."""

RETRY_S = 5.0
GROUP_BYTES_MAX = 16 * 1024 * 1024
"""More than the 64 concurrent requests of the default usually hold together."""

CHUNK_BYTES = 1024 * 1024
"""Of bodies read at once during replay; some milliseconds of the thread that also writes."""

SEGMENT_BYTES_MAX = 64 * 1024 * 1024
SEGMENTS_MIN = 8
"""A small journal has small segments, because only whole ones are removed."""

CHECKPOINT_BYTES_MAX = 256 * 1024 * 1024
KNOWLEDGE_BYTES_MAX = 1024 * 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LearnedState:
    """What requests have taught, as bytes; ``version`` tells one state of it from another."""

    version: int
    data: bytes


@dataclass(slots=True, eq=False)
class _Waiting:
    """A record on its way to the disk; the future's result is whether it is there."""

    position: int
    head: bytes
    body: bytes
    done: asyncio.Future[bool]

    @property
    def size(self) -> int:
        """Of its frame, in bytes."""
        return len(self.head) + len(self.body)


class Journal:
    """One journal. Made, opened and used on one event loop; ``directory`` exists.

    ``bytes_max`` bounds what all segments take; ``checkpoint`` is the file of :meth:`save`.
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
        self._knowledge_path = checkpoint.with_name("knowledge")
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
        self._tidying = False
        self._unkept = UnkeptPositions()
        self._unsaved = False
        self._failure = ""
        self._slow = False
        self._was_in_trouble = ""
        self._closed = False
        self._records = self._record_bytes = self._groups = self._flushes = 0
        self._errors = self._slow_writes = self._unjournaled = 0
        self.saved_version = -1
        """Version of what was last saved by :meth:`tidy` as taught; -1 where nothing was."""
        self._extent = LogRange()
        """As it was after the thread's last job: the log itself is the thread's alone."""

    async def open(self) -> Checkpoint:
        """Take stock of the directory; return how far the sinks were when it was left.

        Raises FormatError, with nothing touched, for files of another format.
        """
        checkpoint = await self._run(self._recover)
        await self._retry()
        return checkpoint

    async def advance(self, position: int) -> None:
        """Let no record have a position below this one, which others know of already."""
        await self._run(lambda: self._log.advance(position))

    @property
    def trouble(self) -> str:
        """Why nothing is kept at this moment, or ""."""
        if self._failure:
            return self._failure
        if self._slow:
            return f"the disk has not answered for {self._slow_s:g} s"
        if self._extent.bytes + self._pending_bytes >= self._bytes_max:
            return f"it is full: {self._extent.bytes} of {self._bytes_max} bytes"
        return ""

    @property
    def extent(self) -> LogRange:
        """What is on disk."""
        return self._extent

    @property
    def bytes_max(self) -> int:
        """How much it may take on disk."""
        return self._bytes_max

    @property
    def pending_bytes(self) -> int:
        """Bodies that wait to be written, in memory."""
        return self._pending_bytes

    @property
    def idle(self) -> bool:
        """Whether everything that was appended is written or given up."""
        return not self._pending and not self._writing

    async def settled(self) -> None:
        """Wait until :attr:`idle`, while nobody appends."""
        while not self.idle:
            self._pump()
            await asyncio.wait(self._background)

    async def append(self, record: Record) -> bool:
        """Write a record and wait until it is safe; False where it could not be kept.

        Positions only grow from call to call.
        """
        assert not self._closed
        trouble = self.trouble
        if trouble:
            self._note(trouble)
            self._unjournaled += 1
            self._unkept.add(record.position, record.position)
            return False
        # Encoded here and not in the thread: that takes microseconds, handing the interpreter from
        # thread to thread takes more.
        head = encode_record_head(record)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(record.position, head, record.body, loop.create_future())
        if not self._pending and not self._writing:
            loop.call_soon(self._pump)
        self._pending.append(waiting)
        self._pending_bytes += waiting.size
        return await waiting.done

    async def read(self, cursor: Cursor, *, start: int) -> Chunk:
        """The next records behind a cursor, from position ``start`` on."""
        return await self._run(lambda: self._log.read(cursor, start=start, bytes_max=CHUNK_BYTES))

    def tidy(
        self, checkpoint: Checkpoint, *, low: int, knowledge: LearnedState | None = None
    ) -> bool:
        """Begin to save a checkpoint and, where given, what requests have taught, and to forget
        what is older than ``low``; False while still busy with the one before."""
        if self._tidying or self._closed:
            return False
        self._tidying = True
        self._unkept.trim(low)
        self._spawn(self._tidy(checkpoint, low, knowledge))
        return True

    def keeps(self, first: int, last: int) -> bool:
        """Whether every wanted request from position ``first`` to ``last`` is in the journal."""
        return not self._unkept.touches(first, last)

    async def load_knowledge(self) -> bytes | None:
        """What :meth:`tidy` saved last; None where there is none."""
        return await self._run(self._read_knowledge)

    async def close(
        self, checkpoint: Checkpoint | None, *, low: int, knowledge: LearnedState | None = None
    ) -> None:
        """Write what is pending, save the last checkpoint (None: there is none), let go of the
        files. Takes no longer than ``slow_s`` beyond what is being done already."""
        self._closed = True
        for timer in (self._flush_timer, self._retry_timer):
            if timer is not None:
                timer.cancel()
        try:
            async with asyncio.timeout(self._slow_s):
                self._pump()
                while self._background:
                    await asyncio.wait(self._background)
                await self._run(lambda: self._finish(checkpoint, low, knowledge))
        except TimeoutError:
            _log.error("the journal's disk does not answer; left as it is")
        except OSError as error:
            self._errors += 1
            _log.error("the journal could not be closed: %s", error.strerror)
        if self._slow_timer is not None:
            self._slow_timer.cancel()
        self._thread.stop()

    def statistics(self) -> JournalStatistics:
        """A snapshot."""
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
            corrupt_stretches=damage.corrupt_stretches,
            corrupt_bytes=damage.corrupt_bytes,
            unreadable_segments=damage.unreadable_segments,
        )

    # On the loop.

    def _pump(self) -> None:
        """Give the thread the next group, unless it has one."""
        if self._writing or not self._pending:
            return
        size = count = 0
        for waiting in self._pending:
            size += waiting.size
            count += 1
            if size >= GROUP_BYTES_MAX:
                break
        self._writing, self._pending = self._pending[:count], self._pending[count:]
        loop = asyncio.get_running_loop()
        self._slow_timer = loop.call_later(self._slow_s, self._too_slow)
        group = self._writing
        written = self._run(lambda: self._write(group))
        self._background.add(written)
        written.add_done_callback(lambda done: self._written(done, size))

    def _written(self, done: asyncio.Future[None], size: int) -> None:
        """The thread is done with its group. A callback and no task: this is once a request."""
        self._background.discard(done)
        group, self._writing = self._writing, []
        assert self._slow_timer is not None
        self._slow_timer.cancel()
        self._pending_bytes -= size
        self._slow = False
        error = done.exception()
        if error is None:
            self._groups += 1
            self._unkept.kept()
            self._records += len(group)
            self._record_bytes += size
            self._flushes += self._fsync == "always"
        elif isinstance(error, OSError):
            self._fail(error)
        self._note(self.trouble)
        self._settle(group, safe=error is None)
        if error is not None and not isinstance(error, OSError):
            raise error  # a bug: seen, and nobody waits for ever
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
                    self._unkept.add(waiting.position, waiting.position)

    def _give_up_pending(self) -> None:
        self._pending_bytes -= sum(waiting.size for waiting in self._pending)
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
        self._failure = error.strerror or type(error).__name__
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

    async def _tidy(self, checkpoint: Checkpoint, low: int, knowledge: LearnedState | None) -> None:
        try:
            if gone := await self._run(self._log.verify):
                await self._go_on_without(gone)
            await self._run(lambda: self._save_and_trim(checkpoint, low, knowledge))
        except OSError as error:
            # An old checkpoint costs duplicates only; the next write tells how the disk is.
            self._errors += 1
            if not self._unsaved:
                _log.warning("no checkpoint can be saved: %s", error.strerror)
            self._unsaved = True
        else:
            self._unsaved = False
        finally:
            self._tidying = False
            self._note(self.trouble)

    async def _go_on_without(self, gone: Sequence[tuple[int, int]]) -> None:
        """Somebody took segments away: what was in them is in memory only, or lost."""
        for first, last in gone:
            self._unkept.add(first, last)
        self._errors += 1
        self.saved_version = -1
        self._failure = "its files were taken away"
        self._note(self._failure)
        if self._retry_timer is None:
            await self._retry()

    def _note(self, trouble: str) -> None:
        """Log where trouble begins and ends, never in between."""
        if trouble and not self._was_in_trouble:
            _log.error("the journal keeps nothing, data is in memory only: %s", trouble)
        elif self._was_in_trouble and not trouble:
            _log.info("the journal works again")
        self._was_in_trouble = trouble

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
        try:
            with self._path.open("rb") as file:
                data = file.read(CHECKPOINT_BYTES_MAX)
        except FileNotFoundError:
            return Checkpoint()
        except OSError as error:
            _log.error("%s cannot be read: %s", self._path, error.strerror)
            return Checkpoint()
        checkpoint = decode_checkpoint(data)
        if checkpoint is None:
            _log.error("%s is damaged: everything in the journal is sent again", self._path)
        return checkpoint or Checkpoint()

    def _write(self, group: Sequence[_Waiting]) -> None:
        pieces = [piece for waiting in group for piece in (waiting.head, waiting.body)]
        self._log.append(pieces, first=group[0].position, last=group[-1].position)
        if self._fsync == "always":
            self._log.flush()

    def _try_disk(self) -> None:
        self._log.begin(self._log.next_position)
        self._log.probe()

    def _read_knowledge(self) -> bytes | None:
        try:
            with self._knowledge_path.open("rb") as file:
                return file.read(KNOWLEDGE_BYTES_MAX)
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.error("%s cannot be read: %s", self._knowledge_path, error.strerror)
            return None

    def _save_and_trim(
        self, checkpoint: Checkpoint, low: int, knowledge: LearnedState | None
    ) -> None:
        try:
            if knowledge is not None:  # first, as the checkpoint says what is in there
                self._disk.replace(self._knowledge_path, knowledge.data, sync=False)
                self.saved_version = knowledge.version
            self._disk.replace(self._path, encode_checkpoint(checkpoint), sync=False)
        finally:
            # Also on a full disk, of all disks; an older checkpoint goes with a shorter journal.
            self._log.trim(low)

    def _finish(
        self, checkpoint: Checkpoint | None, low: int, knowledge: LearnedState | None
    ) -> None:
        try:
            self._log.finish()
        finally:
            if checkpoint is not None:
                self._save_and_trim(checkpoint, low, knowledge)

    def __repr__(self) -> str:
        return f"<Journal {self._log!r} {self.trouble or 'good'}>"
