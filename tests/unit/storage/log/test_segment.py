"""Segments: groups are whole or cut off, and a failed segment is never appended to again."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from relay.storage.log.filesystem import PIECES_MAX, Disk
from relay.storage.log.frame import FILE_HEADER_BYTES, Damage, decode_file_header, encode_frame
from relay.storage.log.segment import (
    PROBE_BYTES,
    DamageCounters,
    SegmentWriter,
    Volume,
    reading,
    try_remove,
)
from tests.kit.storage.faulty_disk import FaultyDisk

KIND = b"RELAYTST"
FRAME = encode_frame(b"meta", b"body")


def create(path: Path, disk: Disk | None = None) -> SegmentWriter:
    return SegmentWriter.create(disk or Disk(), path, KIND, 7, sync=True)


def is_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError as error:
        return error.errno == errno.EBADF
    return False


def test_a_segment_has_a_header_and_then_what_was_appended(tmp_path: Path) -> None:
    writer = create(tmp_path / "a")
    assert writer.is_empty
    assert not writer.flush(), "a header alone is not flushed"
    writer.append([FRAME[:3], FRAME[3:]])
    assert not writer.is_empty
    assert writer.flush()
    assert not writer.flush()
    writer.close()
    again = SegmentWriter.extend(Disk(), tmp_path / "a", writer.size)
    again.append([FRAME])
    again.close()
    with reading(Disk(), tmp_path / "a") as (read, size):
        assert decode_file_header(read(0, FILE_HEADER_BYTES), KIND) == 7
        assert read(FILE_HEADER_BYTES, size) == FRAME * 2
    assert size == again.size


def test_a_group_of_more_pieces_than_one_call_takes_is_written_whole(tmp_path: Path) -> None:
    writer = create(tmp_path / "a")
    writer.append([b"x"] * (PIECES_MAX + 1))
    writer.close()
    assert (tmp_path / "a").stat().st_size == FILE_HEADER_BYTES + PIECES_MAX + 1


@pytest.mark.parametrize("room_bytes", [0, 1, len(FRAME) - 1])
def test_a_group_that_does_not_fit_is_cut_off(tmp_path: Path, room_bytes: int) -> None:
    disk = FaultyDisk()
    writer = create(tmp_path / "a", disk)
    writer.append([FRAME])
    disk.room_bytes = room_bytes
    with pytest.raises(OSError, match="No space left"):
        writer.append([FRAME])
    assert is_closed(writer._descriptor)
    assert (tmp_path / "a").stat().st_size == writer.size == FILE_HEADER_BYTES + len(FRAME)


def test_a_segment_without_a_group_is_removed_after_an_error(tmp_path: Path) -> None:
    disk = FaultyDisk()
    writer = create(tmp_path / "a", disk)
    disk.room_bytes = 5
    with pytest.raises(OSError, match="No space left"):
        writer.append([FRAME])
    with pytest.raises(OSError, match="No space left"):
        create(tmp_path / "b", disk)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_flush_closes_the_segment_and_keeps_its_bytes(tmp_path: Path) -> None:
    disk = FaultyDisk()
    writer = create(tmp_path / "a", disk)
    writer.append([FRAME])
    disk.sync_error = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        writer.flush()
    assert is_closed(writer._descriptor)
    assert (tmp_path / "a").stat().st_size == FILE_HEADER_BYTES + len(FRAME)


def test_what_cannot_be_cut_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = FaultyDisk()
    writer = create(tmp_path / "a", disk)
    writer.append([FRAME])
    disk.room_bytes, disk.cut_error = 5, errno.EROFS
    with pytest.raises(OSError, match="No space left"):
        writer.append([FRAME])
    assert "torn bytes cannot be cut: Read-only file system" in caplog.text


def test_a_probe_leaves_nothing_and_finds_a_full_disk(tmp_path: Path) -> None:
    disk = FaultyDisk()
    writer = create(tmp_path / "a", disk)
    writer.append([FRAME])
    writer.probe()
    assert (tmp_path / "a").stat().st_size == writer.size
    disk.room_bytes = PROBE_BYTES - 1
    with pytest.raises(OSError, match="No space left"):
        writer.probe()
    assert (tmp_path / "a").stat().st_size == writer.size
    assert is_closed(writer._descriptor)


def test_a_deleted_or_replaced_segment_is_noticed(tmp_path: Path) -> None:
    writer = create(tmp_path / "a")
    assert writer.is_linked()
    (tmp_path / "a").rename(tmp_path / "b")
    assert not writer.is_linked()
    (tmp_path / "a").write_bytes(b"")
    assert not writer.is_linked()
    writer.close()
    writer.release()  # closed already: logged, not raised


def test_removing_never_raises(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a").mkdir()
    try_remove(Disk(), tmp_path / "a")
    assert "cannot be removed" in caplog.text
    try_remove(Disk(), tmp_path / "none")


def test_a_volume_is_mounted_until_another_one_is(tmp_path: Path) -> None:
    volume = Volume(tmp_path / "data")
    assert volume.is_mounted, "nothing is remembered yet"
    (tmp_path / "data").mkdir()
    volume.remember()
    volume.check()
    volume._device = -1
    assert not volume.is_mounted
    with pytest.raises(OSError, match=r"the volume of .* is gone"):
        volume.check()
    volume.remember()
    (tmp_path / "data").rmdir()
    assert not volume.is_mounted


def test_damage_is_counted_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "relay.storage")
    damage = DamageCounters()
    damage.count(tmp_path, Damage(10, 25, tail=False))
    damage.count_torn(tmp_path, 4)
    damage.count_unreadable(tmp_path, OSError(errno.EIO, "Input/output error"))
    assert damage == DamageCounters(records=1, bytes=15, torn_bytes=4, files=1)
    assert [each.getMessage() for each in caplog.records] == [
        f"{tmp_path}: skipped damaged bytes 10 to 25",
        f"{tmp_path}: dropped 4 torn bytes at the end",
        f"{tmp_path} cannot be read and is skipped: Input/output error",
    ]
