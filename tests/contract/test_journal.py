"""What the relay relies on in a journal, asked of every implementation."""

from __future__ import annotations

import asyncio
import copy
import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from relay.storage.journal.checkpoint import Checkpoint
from relay.storage.journal.interface import Journal, JournalCursor, LearnedState
from relay.storage.journal.journal import FileJournal
from relay.storage.journal.record import Record
from tests.contract.memory_journal import Medium, MemoryJournal
from tests.kit.ingest_server import eventually
from tests.kit.storage.faulty_disk import FaultyDisk
from tests.own_time import patience

DEADLINE_S = 20.0


class Host(Protocol):
    """What outlives the process that has a journal open."""

    def start(self, *, bytes_max: int = 1 << 20) -> Journal: ...

    def crash(self) -> Host:
        """What a process that starts now would find, had the present one died."""
        ...

    def fail(self) -> None: ...

    def mend(self) -> None: ...


class Directory:
    """A host of file journals."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.disk = FaultyDisk()
        self.crashes = 0
        (path / "journal").mkdir(parents=True, exist_ok=True)

    def start(self, *, bytes_max: int = 1 << 20) -> FileJournal:
        path = self.path
        return FileJournal(
            path / "journal",
            path / "checkpoint",
            bytes_max=bytes_max,
            disk=self.disk,
            retry_s=0.001,
        )

    def crash(self) -> Directory:
        self.crashes += 1
        beside = self.path.with_name(f"{self.path.name}-{self.crashes}")
        shutil.copytree(self.path, beside)
        return Directory(beside)

    def fail(self) -> None:
        self.disk.write_error = errno.EIO

    def mend(self) -> None:
        self.disk.write_error = 0


class Memory:
    """A host of journals in memory."""

    def __init__(self, medium: Medium) -> None:
        self.medium = medium

    def start(self, *, bytes_max: int = 1 << 20) -> MemoryJournal:
        return MemoryJournal(self.medium, bytes_max=bytes_max)

    def crash(self) -> Memory:
        return Memory(copy.deepcopy(self.medium))

    def fail(self) -> None:
        self.medium.failing = True

    def mend(self) -> None:
        self.medium.failing = False


HOSTS: dict[str, Callable[[Path], Host]] = {
    "files": lambda path: Directory(path / "data"),
    "memory": lambda _: Memory(Medium()),
}


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    return HOSTS[request.param](tmp_path)


def record(position: int, size: int = 20) -> Record:
    return Record(position, 1e9 + position, "zstd", (1, 2), bytes([position % 256]) * size)


async def started(host: Host, *, bytes_max: int = 1 << 20) -> Journal:
    journal = host.start(bytes_max=bytes_max)
    await journal.open()
    return journal


async def read_all(journal: Journal, *, start: int = 0) -> list[Record]:
    found: list[Record] = []
    cursor, at_end = JournalCursor(), False
    async with patience(DEADLINE_S):
        while not at_end:
            chunk = await journal.read(cursor, start=start)
            found += chunk.records
            cursor, at_end = chunk.cursor, chunk.at_end
    assert not found or journal.extent.bytes_from(cursor) == 0
    return found


def positions(records: list[Record]) -> list[int]:
    return [each.position for each in records]


async def stop(journal: Journal) -> None:
    await journal.close(None, trim_below=0)


async def test_a_new_journal_is_empty(host: Host) -> None:
    journal = host.start()
    assert await journal.open() == Checkpoint()
    assert (journal.extent.next_position, journal.extent.first_position) == (0, 0)
    assert await read_all(journal) == []
    assert await journal.load_learned_state() is None
    assert journal.saved_version == -1
    assert journal.trouble == ""
    await stop(journal)


async def test_records_come_back_as_they_were(host: Host) -> None:
    journal = await started(host)
    written = [
        record(0),
        Record(3, 1.25, "snappy", None, b"", "remote_write_v2"),
        Record(4, 2e9, "zstd", (0, 0), b"\0" * 1000, tenant_by_labels=True),
    ]
    for each in written:
        assert await journal.append(each)
    assert await read_all(journal) == written
    assert journal.extent.next_position == 5
    await stop(journal)


async def test_concurrent_appends_keep_the_order_of_their_calls(host: Host) -> None:
    journal = await started(host)
    appends = [asyncio.ensure_future(journal.append(record(n))) for n in range(40)]
    await asyncio.sleep(0)
    assert journal.pending_bytes > 0
    assert await asyncio.gather(*appends) == [True] * 40
    assert journal.pending_bytes == 0
    assert positions(await read_all(journal)) == list(range(40))
    await stop(journal)


async def test_waiting_for_idle_waits_for_every_append(host: Host) -> None:
    journal = await started(host)
    appends = [asyncio.ensure_future(journal.append(record(n))) for n in range(5)]
    await asyncio.sleep(0)
    await journal.wait_idle()
    assert journal.pending_bytes == 0
    assert positions(await read_all(journal)) == [0, 1, 2, 3, 4]
    assert await asyncio.gather(*appends) == [True] * 5
    await stop(journal)


async def test_what_was_appended_survives_the_death_of_the_process(host: Host) -> None:
    journal = await started(host)
    for n in range(5):
        assert await journal.append(record(n))
        after = host.crash()
        found = await started(after)
        assert positions(await read_all(found)) == list(range(n + 1))
        assert found.extent.next_position == n + 1
        await stop(found)
    await stop(journal)


async def test_a_later_process_continues_behind_what_is_there(host: Host) -> None:
    journal = await started(host)
    assert await journal.append(record(0))
    await stop(journal)
    again = await started(host)
    assert again.extent.next_position == 1
    await again.advance(7)
    await again.advance(5)
    assert again.extent.next_position == 7
    assert await again.append(record(9))
    assert positions(await read_all(again)) == [0, 9]
    await stop(again)


async def test_reading_starts_at_a_position_and_skips_gaps(host: Host) -> None:
    journal = await started(host, bytes_max=2000)
    for n in (0, 2, 3, 7, 8, 11):
        assert await journal.append(record(n))
    for start in range(13):
        expected = [n for n in (0, 2, 3, 7, 8, 11) if n >= start]
        assert positions(await read_all(journal, start=start)) == expected
    await stop(journal)


async def test_a_cursor_at_the_end_continues_with_what_comes_later(host: Host) -> None:
    journal = await started(host)
    cursor, seen = JournalCursor(), []
    for n in range(10):
        assert await journal.append(record(n))
        assert journal.extent.bytes_from(cursor) > 0
        chunk = await journal.read(cursor, start=0)
        assert chunk.at_end
        cursor = chunk.cursor
        seen += positions(list(chunk.records))
    assert seen == list(range(10))
    await stop(journal)


async def test_a_checkpoint_and_learned_state_are_found_again(host: Host) -> None:
    journal = await started(host)
    saved = Checkpoint(7, {("ns/x", "a"): (5, 7)}, 6)
    assert journal.save_checkpoint(saved, trim_below=0, learned=LearnedState(3, b"learned"))
    await eventually(lambda: journal.saved_version == 3)
    await stop(journal)  # and with it, what was begun
    again = host.start()
    assert await again.open() == saved
    assert again.extent.next_position == 7
    assert await again.load_learned_state() == b"learned"
    await again.close(Checkpoint(9), trim_below=9)
    third = host.start()
    assert await third.open() == Checkpoint(9)
    assert await third.load_learned_state() == b"learned", "none was given, so the old one stays"
    await stop(third)


async def test_trimming_never_takes_what_is_not_below(host: Host) -> None:
    journal = await started(host, bytes_max=2000)
    for n in range(15):
        assert await journal.append(record(n))
    before = journal.extent.bytes
    for low in range(0, 16, 5):
        checkpoint = Checkpoint(15, {("x", "y"): (low,)})
        await eventually(
            lambda checkpoint=checkpoint, low=low: journal.save_checkpoint(
                checkpoint, trim_below=low
            )
        )
        found = positions(await read_all(journal))
        assert found[-(15 - low) :] == list(range(low, 15)) or low == 15
        assert found == sorted(found)
    await journal.close(Checkpoint(15), trim_below=15)
    again = await started(host)
    assert await read_all(again) == []
    assert again.extent.bytes < before
    assert again.extent.next_position == 15
    await stop(again)


async def test_a_full_journal_refuses_until_it_is_trimmed(host: Host) -> None:
    journal = await started(host, bytes_max=2000)
    count = 0
    async with patience(DEADLINE_S):
        while await journal.append(record(count, 100)):
            count += 1
    assert "full" in journal.trouble
    assert journal.extent.bytes >= journal.bytes_max
    assert not journal.contains(0, count)
    assert journal.contains(0, count - 1)
    assert journal.save_checkpoint(Checkpoint(count), trim_below=count)
    await eventually(lambda: not journal.trouble)
    assert await journal.append(record(count + 1))
    assert positions(await read_all(journal, start=count)) == [count + 1]
    await stop(journal)


async def test_a_failing_medium_refuses_and_is_used_again(host: Host) -> None:
    journal = await started(host)
    assert await journal.append(record(0))
    host.fail()
    assert not await journal.append(record(1))
    assert journal.trouble
    assert not await journal.append(record(2))
    assert journal.contains(0, 0)
    assert not journal.contains(0, 1)
    assert not journal.contains(1, 1)
    assert not journal.contains(2, 9)
    host.mend()
    await eventually(lambda: not journal.trouble)
    assert await journal.append(record(5))
    assert journal.contains(5, 5)
    assert positions(await read_all(journal)) == [0, 5]
    statistics = journal.statistics()
    assert (statistics.records, statistics.unjournaled_requests) == (2, 2)
    assert statistics.trouble == ""
    await eventually(lambda: journal.save_checkpoint(Checkpoint(5), trim_below=3))
    assert journal.contains(0, 9), "trimmed positions are not missing"
    await stop(journal)


async def test_a_journal_on_a_failing_medium_opens_and_closes(host: Host) -> None:
    host.fail()
    journal = await started(host)
    assert journal.trouble
    assert not await journal.append(record(0))
    await journal.close(None, trim_below=0)


async def test_closing_finishes_what_was_begun(host: Host) -> None:
    journal = await started(host)
    appends = [asyncio.ensure_future(journal.append(record(n))) for n in range(3)]
    await asyncio.sleep(0)
    await journal.close(Checkpoint(3), trim_below=0)
    assert await asyncio.gather(*appends) == [True] * 3
    again = host.start()
    assert await again.open() == Checkpoint(3)
    assert positions(await read_all(again)) == [0, 1, 2]
    await stop(again)


async def test_statistics_agree_with_the_journal(host: Host) -> None:
    journal = await started(host)
    for n in range(3):
        assert await journal.append(record(n))
    statistics = journal.statistics()
    assert statistics.records == 3
    assert statistics.bytes == journal.extent.bytes > 0
    assert statistics.bytes_max == journal.bytes_max
    assert (statistics.pending_bytes, statistics.trouble) == (0, "")
    await stop(journal)
