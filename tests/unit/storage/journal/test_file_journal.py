"""The journal as the event loop sees it: groups, flushes, trouble and the way out of it."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.storage.journal.checkpoint import Checkpoint
from relay.storage.journal.interface import JournalCursor
from relay.storage.journal.journal import FileJournal
from relay.storage.journal.record import Record, encode_record
from tests.kit.ingest_server import eventually
from tests.kit.storage.faulty_disk import FaultyDisk
from tests.kit.storage.journals import record

FOREVER_S = 1e6


@asynccontextmanager
async def journal(
    directory: Path, *, disk: FaultyDisk | None = None, bytes_max: int = 1 << 30, **options: Any
) -> AsyncIterator[FileJournal]:
    """A journal that is open for as long as the block lasts."""
    options = {"slow_s": FOREVER_S, "retry_s": FOREVER_S, "fsync": "never", **options}
    (directory / "journal").mkdir(exist_ok=True)
    made = FileJournal(
        directory / "journal",
        directory / "checkpoint",
        bytes_max=bytes_max,
        disk=disk,
        **options,
    )
    await made.open()
    try:
        yield made
    finally:
        await made.close(None, trim_below=0)


async def read_all(journal: FileJournal) -> list[int]:
    found: list[Record] = []
    cursor = JournalCursor()
    at_end = False
    while not at_end:
        chunk = await journal.read(cursor, start=0)
        found += chunk.records
        cursor, at_end = chunk.cursor, chunk.at_end
    return [each.position for each in found]


async def test_concurrent_requests_share_one_write_and_one_flush(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with journal(tmp_path, disk=disk, fsync="always") as made:
        before = disk.syncs
        disk.freeze()
        appends = [asyncio.ensure_future(made.append(record(n))) for n in range(5)]
        await asyncio.sleep(0)
        assert not made.idle
        await asyncio.sleep(0)  # the thread has them now
        appends += [asyncio.ensure_future(made.append(record(n))) for n in range(5, 20)]
        await asyncio.sleep(0)
        assert made.pending_bytes == 20 * len(encode_record(record(0)))
        assert not made.idle
        disk.thaw()
        assert await asyncio.gather(*appends) == [True] * 20
        assert await read_all(made) == list(range(20))
        statistics = made.statistics()
        assert statistics.groups == 2, "those of one turn, and those that came meanwhile"
        assert disk.syncs - before == statistics.flushes == 2
        assert statistics.records == 20
        assert made.idle
        assert made.pending_bytes == 0


async def test_an_answer_waits_for_the_flush_only_where_it_should(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with journal(tmp_path, disk=disk, fsync="interval", fsync_interval_s=FOREVER_S) as made:
        before = disk.syncs
        assert await made.append(record(0))
        assert disk.syncs == before


async def test_the_interval_flushes_by_itself(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with journal(tmp_path, disk=disk, fsync="interval", fsync_interval_s=0.001) as made:
        before = disk.syncs
        assert await made.append(record(0))
        await eventually(lambda: disk.syncs == before + 1)
        await eventually(lambda: made.statistics().flushes == 1)


async def test_a_failing_disk_is_left_for_memory_and_taken_up_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FaultyDisk()
    async with journal(tmp_path, disk=disk, retry_s=0.001) as made:
        assert await made.append(record(0))
        disk.room_bytes = 20
        assert not await made.append(record(1))
        assert made.trouble == "No space left on device"
        assert not await made.append(record(2)), "at once, without asking the disk"
        assert made.statistics().unjournaled_requests == 2
        disk.room_bytes = None
        await eventually(lambda: not made.trouble)
        assert await made.append(record(3))
        assert await read_all(made) == [0, 3]
    messages = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert messages == [
        "the journal is not writable, new data is in memory only: No space left on device"
    ]


async def test_a_failed_flush_is_trouble_too(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with journal(tmp_path, disk=disk, fsync="interval", fsync_interval_s=0.001) as made:
        disk.sync_error = errno.EIO
        assert await made.append(record(0))
        await eventually(lambda: bool(made.trouble))
        assert made.trouble == "Input/output error"
        disk.sync_error = 0


async def test_appends_that_wait_fail_when_a_write_fails(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with journal(tmp_path, disk=disk) as made:
        disk.freeze()
        appends = [asyncio.ensure_future(made.append(record(n))) for n in range(3)]
        await asyncio.sleep(0)
        disk.write_error = errno.EROFS
        disk.thaw()
        assert await asyncio.gather(*appends) == [False] * 3
        assert made.trouble == "Read-only file system"
        assert made.pending_bytes == 0
        disk.write_error = 0


async def test_a_disk_that_hangs_holds_nobody_up_for_long(tmp_path: Path) -> None:
    disk = FaultyDisk()
    # Long enough for the real disk, which answers the last append.
    async with journal(tmp_path, disk=disk, slow_s=0.5) as made:
        disk.freeze()
        appends = [asyncio.ensure_future(made.append(record(n))) for n in range(3)]
        assert await asyncio.gather(*appends) == [False] * 3
        assert "has not answered" in made.trouble
        assert not await made.append(record(3))
        assert made.statistics().slow_writes == 1
        disk.thaw()
        await eventually(lambda: not made.trouble)
        assert await made.append(record(4))
        assert await read_all(made) == [0, 1, 2, 4], "what was being written is there all the same"


async def test_a_full_journal_keeps_nothing_until_it_is_trimmed(tmp_path: Path) -> None:
    async with journal(tmp_path, bytes_max=2000) as made:
        kept = 0
        while await made.append(record(kept, bytes(100))):
            kept += 1
        assert "full" in made.trouble
        assert made.statistics().bytes < 2200
        made.save_checkpoint(Checkpoint(kept), trim_below=kept)
        await eventually(lambda: not made.trouble)
        assert await made.append(record(kept + 1))


async def test_a_checkpoint_is_found_again(tmp_path: Path) -> None:
    saved = Checkpoint(7, {("ns/x", "a"): (5, 7)})
    async with journal(tmp_path) as made:
        assert made.save_checkpoint(saved, trim_below=0)
        assert not made.save_checkpoint(Checkpoint(1), trim_below=0), "still busy"
        await eventually((tmp_path / "checkpoint").exists)
    again = FileJournal(tmp_path / "journal", tmp_path / "checkpoint", bytes_max=1 << 20)
    assert await again.open() == saved
    assert again.extent.next_position == 7
    await again.close(Checkpoint(9), trim_below=9)
    third = FileJournal(tmp_path / "journal", tmp_path / "checkpoint", bytes_max=1 << 20)
    assert await third.open() == Checkpoint(9)
    await third.close(None, trim_below=0)


async def test_a_damaged_checkpoint_counts_as_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "checkpoint").write_bytes(b"relay-checkpoint 1 00000000\n{}")
    made = FileJournal(tmp_path / "journal", tmp_path / "checkpoint", bytes_max=1 << 20)
    assert await made.open() == Checkpoint()
    assert "replaying the whole journal" in caplog.text
    await made.close(None, trim_below=0)


async def test_a_checkpoint_that_cannot_be_saved_does_not_stop_the_trimming(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FaultyDisk()
    async with journal(tmp_path, disk=disk, bytes_max=800) as made:
        assert await made.append(record(0, bytes(100)))
        assert await made.append(record(1, bytes(100)))
        assert len(made.extent.spans) == 2
        disk.room_bytes = 0
        made.save_checkpoint(Checkpoint(2), trim_below=1)
        await eventually(lambda: made.statistics().errors == 1)
        assert len(made.extent.spans) == 1
        assert not made.trouble, "only writing records tells"
        assert made.save_checkpoint(Checkpoint(3), trim_below=1)
        await eventually(lambda: made.statistics().errors == 2)
        assert caplog.text.count("no checkpoint can be saved") == 1
        disk.room_bytes = None


async def test_positions_can_be_known_from_elsewhere(tmp_path: Path) -> None:
    async with journal(tmp_path) as made:
        await made.advance(40)
        assert made.extent.next_position == 40
        await made.advance(3)
        assert made.extent.next_position == 40


async def test_closing_does_not_wait_for_a_dead_disk(tmp_path: Path) -> None:
    disk = FaultyDisk()
    (tmp_path / "journal").mkdir()
    made = FileJournal(
        tmp_path / "journal", tmp_path / "checkpoint", bytes_max=1 << 20, disk=disk, slow_s=0.01
    )
    await made.open()
    disk.freeze()
    assert not await made.append(record(0))
    await made.close(Checkpoint(), trim_below=0)
    disk.thaw()


async def test_a_disk_that_is_read_only_from_the_start_is_trouble_not_an_error(
    tmp_path: Path,
) -> None:
    disk = FaultyDisk()
    disk.write_error = errno.EROFS
    async with journal(tmp_path, disk=disk, retry_s=0.001) as made:
        assert made.trouble == "Read-only file system"
        assert repr(made) == "<FileJournal <SegmentLog 0 segments, next 0> Read-only file system>"
        disk.write_error = 0
        await eventually(lambda: not made.trouble)


async def test_what_is_not_in_the_journal_is_known_by_position(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with journal(tmp_path, disk=disk, retry_s=FOREVER_S) as made:
        assert await made.append(record(1))
        assert made.contains(0, 100)
        disk.write_error = errno.ENOSPC
        assert not await made.append(record(5))
        assert not await made.append(record(9))
        assert made.contains(0, 4)
        assert not made.contains(0, 5)
        assert not made.contains(6, 7), "nothing was kept in between"
        disk.write_error = 0
        await made._retry()
        assert await made.append(record(12))
        assert made.contains(10, 100)
        assert made.save_checkpoint(Checkpoint(12), trim_below=12)
        assert made.contains(0, 100), "nobody needs those any more"
