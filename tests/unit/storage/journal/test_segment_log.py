"""The journal's files: appended to, read, trimmed, recovered after whatever happened to them."""

from __future__ import annotations

import errno
import struct
import zlib
from pathlib import Path

import pytest

from relay.storage.journal.interface import JournalCursor, LogRange
from relay.storage.journal.record import SEGMENT_KIND, Record, encode_record
from relay.storage.log.frame import (
    FILE_HEADER_BYTES,
    FORMAT,
    MAGIC,
    SEARCH_BYTES,
    FormatError,
    encode_file_header,
    encode_frame,
    find_magic,
)
from relay.storage.log.segment import PROBE_BYTES
from tests.kit.storage.faulty_disk import FaultyDisk
from tests.kit.storage.journals import append, offsets, record, records, segment_log


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    log = segment_log(tmp_path)
    written = [
        Record(3, 1e9, "snappy", None, b"one"),
        Record(4, 1e9 + 0.25, "zstd", (7, 0xFFFFFFFF), b"", "remote_write_v2"),
        Record(9, 2e9, "snappy", (0, 0), MAGIC * 3, tenant_by_labels=True),
    ]
    append(log, *written[:1])
    append(log, *written[1:])
    assert records(log) == written
    assert records(log, bytes_max=1) == written
    assert log.next_position == 10
    log.finish()
    assert records(segment_log(tmp_path)) == written


def test_reading_starts_where_it_is_told_and_follows_the_end(tmp_path: Path) -> None:
    log = segment_log(tmp_path, segment_bytes_max=200)
    append(log, *(record(n) for n in range(3)))
    first = log.read(JournalCursor(), start=1, bytes_max=1)
    assert [each.position for each in first.records] == [1]
    assert not first.at_end
    for n in range(3, 9):
        append(log, record(n))
    rest = log.read(first.cursor, start=1, bytes_max=1 << 20)
    assert [each.position for each in rest.records] == list(range(2, 9))
    assert rest.at_end
    assert log.extent().bytes_from(rest.cursor) == 0
    append(log, record(9))
    assert log.extent().bytes_from(rest.cursor) > 0
    again = log.read(rest.cursor, start=1, bytes_max=1 << 20)
    assert [each.position for each in again.records] == [9]


def test_only_segments_that_nobody_needs_are_removed(tmp_path: Path) -> None:
    log = segment_log(tmp_path, segment_bytes_max=1)
    for n in range(5):
        append(log, record(n))
    log.trim(2)
    assert offsets(log) == [2, 3, 4]
    assert log.extent().first_position == 2
    log.trim(100)
    assert offsets(log) == [4], "the open segment stays"
    log.finish()
    log.trim(5)
    assert list(tmp_path.iterdir()) == []
    append(log, record(7))
    assert offsets(log) == [7]


def test_an_extent_tells_sizes_and_positions() -> None:
    extent = LogRange(((0, 10), (5, 10), (8, 4)), 9)
    assert extent.bytes == 24
    assert [extent.position_after(size) for size in (0, 1, 10, 11, 20, 21, 99)] == [
        0,
        5,
        5,
        8,
        8,
        9,
        9,
    ]
    assert extent.bytes_from(JournalCursor()) == 24
    assert extent.bytes_from(JournalCursor(5, 4)) == 10
    assert LogRange((), 3).first_position == 3


def test_a_new_run_begins_a_new_segment_behind_what_is_there(tmp_path: Path) -> None:
    append(segment_log(tmp_path), record(0), record(1))
    log = segment_log(tmp_path)
    assert log.next_position == 2
    append(log, record(2))
    assert offsets(log) == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_torn_tail_is_cut_at_the_last_whole_record(tmp_path: Path) -> None:
    append(segment_log(tmp_path), record(0), record(1))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    log = segment_log(tmp_path)
    frame = len(encode_record(record(1)))
    assert log.damage.torn_bytes == frame - 1
    assert path.stat().st_size == len(whole) - frame
    assert offsets(log) == [0]
    assert log.damage.bytes == 0


def test_segments_without_a_record_disappear(tmp_path: Path) -> None:
    log = segment_log(tmp_path)
    append(log, record(0))
    log.finish()
    log.begin(1)
    (tmp_path / f"{9:020d}.seg").write_bytes(b"RELAY")
    (tmp_path / "notes.txt").write_text("not ours")
    log = segment_log(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{0:020d}.seg", "notes.txt"]
    assert offsets(log) == [0]
    assert log.next_position == 9, "positions that may have been given out are not given again"


def test_a_damaged_record_costs_itself_alone(tmp_path: Path) -> None:
    append(segment_log(tmp_path), *(record(n, b"payload %d" % n) for n in range(5)))
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    at = data.index(b"payload 2")
    data[at] ^= 1
    path.write_bytes(data)
    log = segment_log(tmp_path)
    assert offsets(log) == [0, 1, 3, 4]
    assert log.damage.records == 1
    assert log.damage.bytes == len(encode_record(record(2, b"payload 2")))


def test_a_damaged_segment_header_costs_nothing(tmp_path: Path) -> None:
    append(segment_log(tmp_path), *(record(n) for n in range(3)))
    (path,) = tmp_path.iterdir()
    path.write_bytes(bytes(FILE_HEADER_BYTES) + path.read_bytes()[FILE_HEADER_BYTES:])
    log = segment_log(tmp_path)
    assert offsets(log) == [0, 1, 2]
    assert log.damage.records == 1


def test_another_format_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    append(segment_log(tmp_path), record(0), record(1))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    head = bytearray(encode_file_header(SEGMENT_KIND, 2))
    head[8] = FORMAT + 1
    head[28:] = struct.pack("<I", zlib.crc32(head[:28]))
    (tmp_path / f"{2:020d}.seg").write_bytes(head)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(FormatError, match="format 4; this build reads formats 1 to 3"):
        segment_log(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_record_that_is_older_than_its_predecessor_is_damage(tmp_path: Path) -> None:
    head = encode_file_header(SEGMENT_KIND, 5)
    frames = [encode_record(record(n)) for n in (5, 4, 6)]
    (tmp_path / f"{5:020d}.seg").write_bytes(head + b"".join(frames))
    log = segment_log(tmp_path)
    assert offsets(log) == [5, 6]
    assert log.damage.bytes == len(frames[1])


def test_a_frame_that_is_no_record_is_damage(tmp_path: Path) -> None:
    head = encode_file_header(SEGMENT_KIND, 0)
    alien = encode_frame(b"short", b"x")
    (tmp_path / f"{0:020d}.seg").write_bytes(head + alien + encode_record(record(1)))
    log = segment_log(tmp_path)
    assert offsets(log) == [1]
    assert log.damage.bytes == len(alien)


def test_a_magic_is_found_across_the_bounds_of_what_is_read_at_once() -> None:
    for at in range(SEARCH_BYTES - 5, SEARCH_BYTES + 2):
        data = bytes(at) + MAGIC + bytes(10)
        assert find_magic(lambda o, n, d=data: d[o : o + n], 0, len(data)) == at
    assert find_magic(lambda _, __: b"", 0, 10) == 10


@pytest.mark.parametrize("room_bytes", range(0, 90, 7))
def test_a_full_disk_leaves_no_half_group(tmp_path: Path, room_bytes: int) -> None:
    disk = FaultyDisk()
    log = segment_log(tmp_path, disk=disk)
    append(log, record(0))
    disk.room_bytes = room_bytes
    with pytest.raises(OSError, match="No space left"):
        append(log, record(1, bytes(50)), record(2, bytes(50)))
    disk.room_bytes = None
    append(log, record(3))
    assert offsets(log) == [0, 3]
    assert log.damage.bytes == 0
    assert offsets(segment_log(tmp_path)) == [0, 3]


def test_what_cannot_be_cut_off_is_skipped_later(tmp_path: Path) -> None:
    disk = FaultyDisk()
    log = segment_log(tmp_path, disk=disk)
    append(log, record(0))
    disk.room_bytes, disk.cut_error = 40, errno.EIO
    with pytest.raises(OSError, match="No space left"):
        append(log, record(1, bytes(500)))
    disk.room_bytes = None
    disk.cut_error = 0
    append(log, record(2))
    assert offsets(log) == [0, 2]
    assert offsets(segment_log(tmp_path)) == [0, 2]


def test_after_a_failed_flush_the_file_is_left_alone(tmp_path: Path) -> None:
    disk = FaultyDisk()
    log = segment_log(tmp_path, disk=disk)
    append(log, record(0))
    disk.sync_error = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        log.flush()
    disk.sync_error = 0
    assert not log.flush(), "nothing is open"
    append(log, record(1))
    assert log.flush()
    assert not log.flush(), "nothing new was written"
    assert len(list(tmp_path.iterdir())) == 2
    assert offsets(log) == [0, 1]


def test_a_probe_leaves_nothing(tmp_path: Path) -> None:
    disk = FaultyDisk()
    log = segment_log(tmp_path, disk=disk)
    log.begin(0)
    log.probe()
    append(log, record(0))
    disk.room_bytes = PROBE_BYTES - 1
    with pytest.raises(OSError, match="No space left"):
        log.probe()
    disk.room_bytes = None
    append(log, record(1))
    assert offsets(log) == [0, 1]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == log.extent().bytes


def test_an_unreadable_segment_is_skipped_and_counted(tmp_path: Path) -> None:
    log = segment_log(tmp_path, segment_bytes_max=1)
    for n in range(3):
        append(log, record(n))
    middle = tmp_path / f"{1:020d}.seg"
    middle.unlink()
    middle.mkdir()  # reading a directory fails, for root too
    assert offsets(log) == [0, 2]
    assert log.damage.files == 1


def test_what_people_see(tmp_path: Path) -> None:
    log = segment_log(tmp_path)
    append(log, record(0))
    assert repr(log) == "<SegmentLog 1 segments, next 1>"
    assert repr(FaultyDisk()) == "<FaultyDisk>"
