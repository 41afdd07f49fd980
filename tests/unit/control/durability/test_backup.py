"""Backups of data directories of every format, restored; what is refused leaves nothing behind."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec
import pytest

from relay.control.durability import backup as backup_module
from relay.control.durability.backup import back_up
from relay.control.durability.backup_archive import BackupWriter, Head, is_name, writing
from relay.control.durability.restore import restore
from relay.runtime.errors import BackupError, ConfigError
from relay.sink.queue.cursor import QueueCursor
from relay.storage.log.data_directory import UNFINISHED, DataDirectory, write_format
from relay.storage.log.frame import encode_frame, frame_version
from tests.kit.paths import DATA

STORED = sorted(
    path / "data" for path in (DATA / "data_directories").glob("format-*/*") if path.is_dir()
)
NOW = 1_800_000_000.0


def name_of(path: Path) -> str:
    return f"{path.parent.parent.name}-{path.parent.name}"


def tree(directory: Path) -> dict[str, bytes]:
    """The files below a directory, by name."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def archive(data: Path) -> bytes:
    """The backup of a directory as an archive."""
    stream = io.BytesIO()
    back_up(data, stream, now=NOW)
    return stream.getvalue()


def restored(data: bytes, into: Path, *, moved: bool = True) -> dict[str, bytes]:
    """The files of a restored archive."""
    restore(io.BytesIO(data), into, moved=moved)
    return tree(into)


def as_directory(data: Path, tmp_path: Path) -> Path:
    back_up(data, tmp_path / "backup", now=NOW)
    return tmp_path / "backup"


def as_file(data: Path, tmp_path: Path) -> Path:
    back_up(data, tmp_path / "backup.tar", now=NOW)
    return tmp_path / "backup.tar"


def as_stream(data: Path, _: Path) -> BinaryIO:
    return io.BytesIO(archive(data))


def as_gzip(data: Path, _: Path) -> BinaryIO:
    return io.BytesIO(gzip.compress(archive(data)))


@pytest.mark.parametrize("form", [as_directory, as_file, as_stream, as_gzip])
@pytest.mark.parametrize("data", STORED, ids=name_of)
def test_a_restored_directory_is_the_one_backed_up(
    data: Path, tmp_path: Path, form: Callable[[Path, Path], Path | BinaryIO]
) -> None:
    source = form(data, tmp_path)
    report = restore(source, tmp_path / "data", moved=True)
    assert tree(tmp_path / "data") == tree(data)
    assert report.files == len(tree(data)) - 1, "the format is not counted"
    assert report.head.created_at == NOW
    for path in (tmp_path / "data").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    DataDirectory(tmp_path / "data").close()


def test_delta_streams_go_on_only_where_no_relay_ran_since(tmp_path: Path) -> None:
    data = DATA / "data_directories/format-3/stopped/data"
    assert (data / "deltas").exists()
    report = restore(io.BytesIO(archive(data)), tmp_path / "later", moved=False)
    assert report.deltas_left_out
    assert tree(data).keys() - tree(tmp_path / "later").keys() == {"deltas"}
    report = restore(io.BytesIO(archive(data)), tmp_path / "moved", moved=True)
    assert not report.deltas_left_out


KILLED = DATA / "data_directories/format-3/killed/data"


def test_an_archive_that_was_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = archive(KILLED)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        files = tar.getmembers()
    end = files[-1].offset_data + files[-1].size
    for size in range(0, end, 211):
        with pytest.raises(BackupError):
            restored(whole[:size], tmp_path / "data")
        assert not any((tmp_path / "data").iterdir() if size > 2000 else ()), size


def test_a_changed_byte_anywhere_is_refused(tmp_path: Path) -> None:
    whole = archive(KILLED)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        places = [
            member.offset_data + offset
            for member in tar
            for offset in range(0, member.size, max(1, member.size // 9))
        ]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 0x10
        with pytest.raises(BackupError):
            restored(bytes(changed), tmp_path / "data")
        assert not (tmp_path / "data").exists() or not any((tmp_path / "data").iterdir()), place


def test_a_file_more_or_less_is_refused(tmp_path: Path) -> None:
    source = as_directory(KILLED, tmp_path)
    (source / "more").write_text("x")
    with pytest.raises(BackupError, match="more is not in its list"):
        restore(source, tmp_path / "data", moved=True)
    (source / "more").unlink()
    (source / "knowledge").unlink()
    with pytest.raises(BackupError, match="knowledge is missing"):
        restore(source, tmp_path / "data", moved=True)
    assert not any((tmp_path / "data").iterdir())


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../b", "./x", "", "a//b", "a/", "files.json/x\n", "a\0b", "ä"]
)
def test_no_name_leaves_the_directory(tmp_path: Path, name: str) -> None:
    assert not is_name(name)
    stream = io.BytesIO()
    with writing(stream, Head(1, "0", 3, NOW)) as writer, pytest.raises(BackupError):
        writer.add(name, b"")
    evil = io.BytesIO()
    with writing(evil, Head(1, "0", 3, NOW)) as writer:
        put(writer, name or "x/", b"evil")
    with pytest.raises(BackupError):
        restored(evil.getvalue(), tmp_path / "inside")
    assert not list(tmp_path.glob("x*"))


def put(writer: BackupWriter, name: str, data: bytes) -> None:
    """Write a file under a name that a writer refuses."""
    writer._form.put(name, data)


def test_a_link_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with writing(stream, Head(1, "0", 3, NOW)) as writer:
        member = tarfile.TarInfo("journal")
        member.type = tarfile.SYMTYPE
        member.linkname = "/etc"
        writer._form._tar.addfile(member)
    with pytest.raises(BackupError, match="not a plain file"):
        restored(stream.getvalue(), tmp_path / "data")


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BackupError, match="not a backup of a relay"):
        restore(tmp_path / "empty", tmp_path / "data", moved=True)
    with pytest.raises(BackupError, match="cannot be read"):
        restored(b"something else" * 100, tmp_path / "data")
    with pytest.raises(FileNotFoundError):
        restore(tmp_path / "nothing.tar", tmp_path / "data", moved=True)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (Head(2, "9.0", 3, NOW), "has form 2, written by relay 9.0, and this relay reads form 1"),
        (Head(1, "9.0", 9, NOW), "by relay 9.0, has format 9 and this build reads formats 1 to 3"),
    ],
)
def test_a_later_form_or_format_is_refused(tmp_path: Path, head: Head, words: str) -> None:
    stream = io.BytesIO()
    with writing(stream, head) as writer:
        writer.add("journal/0.seg", b"")
    with pytest.raises(BackupError, match=words):
        restored(stream.getvalue(), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_only_an_empty_directory_is_restored_into(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with DataDirectory(data), pytest.raises(BackupError, match="in use by a relay"):
        restored(archive(KILLED), data)
    before = tree(data)
    with pytest.raises(BackupError, match="is not empty: it has format, journal, lock, queues"):
        restored(archive(KILLED), data)
    assert tree(data) == before
    fresh = tmp_path / "fresh"
    (fresh / "lost+found").mkdir(parents=True)
    assert restored(archive(KILLED), fresh) == tree(KILLED)


def test_no_relay_starts_on_half_a_restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def at_each_file(data: Path, number: int = 3) -> None:
        write_format(data, number)
        if number == UNFINISHED:
            with pytest.raises(ConfigError, match="in use"):
                DataDirectory(data)
            seen.append((data / "format").read_bytes())

    monkeypatch.setattr("relay.control.durability.restore.write_format", at_each_file)
    monkeypatch.setattr("relay.control.durability.restore._empty", lambda _: None)  # as if killed
    with pytest.raises(BackupError, match="incomplete"):
        restored(archive(KILLED)[:8000], tmp_path / "data")
    assert seen
    with pytest.raises(ConfigError, match="holds an unfinished restore"):
        DataDirectory(tmp_path / "data")


def test_a_backup_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_text("mine")
    (tmp_path / "b.unfinished").mkdir()
    for name, words in (("a.tar", "exists"), ("b", "did not end")):
        with pytest.raises(BackupError, match=words):
            back_up(KILLED, tmp_path / name, now=NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "b.unfinished"]
    assert (tmp_path / "a.tar").read_text() == "mine"


@pytest.mark.parametrize("name", ["backup", "backup.tar"])
def test_a_backup_that_fails_leaves_nothing(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path, *, bytes_max: int) -> bytes:
        if path.name == "knowledge":
            raise OSError(5, "Input/output error", str(path))
        return path.read_bytes()

    monkeypatch.setattr(backup_module, "read_bounded", broken)
    with pytest.raises(OSError, match="Input/output"):
        back_up(KILLED, tmp_path / name, now=NOW)
    assert not any(tmp_path.iterdir())


def test_what_is_no_data_directory_is_not_backed_up(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="is no directory"):
        back_up(tmp_path / "missing", io.BytesIO(), now=NOW)
    with pytest.raises(BackupError, match="not a relay's data directory"):
        back_up(tmp_path, io.BytesIO(), now=NOW)
    write_format(tmp_path, 9)
    with pytest.raises(ConfigError, match="has format 9"):
        back_up(tmp_path, io.BytesIO(), now=NOW)


def test_a_backup_is_not_put_where_the_next_one_would_find_it(tmp_path: Path) -> None:
    restored(archive(KILLED), tmp_path / "data")
    with pytest.raises(BackupError, match="is inside"):
        back_up(tmp_path / "data", tmp_path / "data/backup.tar", now=NOW)


def test_what_is_being_written_is_cut_at_the_last_whole_record(tmp_path: Path) -> None:
    data = tmp_path / "data"
    whole = restored(archive(KILLED), data)
    segment = "journal/00000000000000000000.seg"
    (data / segment).write_bytes(whole[segment] + whole[segment][32:100])
    report = back_up(data, tmp_path / "backup", now=NOW)
    assert report.torn_bytes == 68
    assert (tmp_path / "backup" / segment).read_bytes() == whole[segment]


def test_damage_is_copied_as_it_is_and_told(tmp_path: Path) -> None:
    data = tmp_path / "data"
    whole = restored(archive(KILLED), data)
    segment = "journal/00000000000000000000.seg"
    changed = bytearray(whole[segment])
    changed[100] ^= 1
    (data / segment).write_bytes(changed)
    report = back_up(data, tmp_path / "backup", now=NOW)
    assert report.damaged_bytes > 0
    assert (tmp_path / "backup" / segment).read_bytes() == changed


def queue_with_cursor(data: Path, cursor: QueueCursor) -> Path:
    """The queue of a restored directory, of one segment, with another cursor."""
    restored(archive(KILLED), data)
    (queue,) = (data / "queues").iterdir()
    write_cursor(queue, cursor)
    return queue


def write_cursor(queue: Path, cursor: QueueCursor) -> None:
    (queue / "cursor").write_bytes(encode_frame(b"", msgspec.json.encode({0: cursor})))


def cursor_of(backup: Path) -> QueueCursor:
    (path,) = backup.glob("queues/*/cursor")
    (cursor,) = backup_module._decode_cursors(path.read_bytes()).values()
    return cursor


HELD = ((0, 6), (1, 7))


def test_segments_that_the_relay_finished_meanwhile_are_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segment 1 is named by the cursor, and is finished before it is copied."""
    queue = queue_with_cursor(tmp_path / "data", QueueCursor(0, 32, held=HELD))
    reads = []

    def reading(path: Path, *, bytes_max: int) -> bytes:
        content = path.read_bytes()
        if path.name == "cursor" and not reads:
            reads.append(path)
            write_cursor(queue, QueueCursor(0, 32, held=HELD[:1]))
        return content

    monkeypatch.setattr(backup_module, "read_bounded", reading)
    back_up(tmp_path / "data", tmp_path / "backup", now=NOW)
    assert cursor_of(tmp_path / "backup").held == HELD[:1]


def test_a_cursor_keeps_the_format_of_its_version() -> None:
    cursors = {0: QueueCursor(0, 32, held=HELD)}
    before = encode_frame(b"", msgspec.json.encode(cursors), version=2)
    after = backup_module._without_finished(before, {(0, 0)}, {})
    assert frame_version(after) == 2
    assert backup_module._decode_cursors(after) == {0: QueueCursor(0, 32, held=HELD[:1])}


def test_segments_that_somebody_deleted_stay_a_loss(tmp_path: Path) -> None:
    queue_with_cursor(tmp_path / "data", QueueCursor(0, 32, held=HELD))
    back_up(tmp_path / "data", tmp_path / "backup", now=NOW)
    assert cursor_of(tmp_path / "backup").held == HELD


def test_files_that_vanish_while_they_are_waited_for_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    restored(archive(KILLED), data)

    def reading(path: Path, *, bytes_max: int) -> bytes:
        if path.suffix == ".seg":
            path.unlink()
        return path.read_bytes()

    monkeypatch.setattr(backup_module, "read_bounded", reading)
    back_up(data, tmp_path / "backup", now=NOW)
    assert not list((tmp_path / "backup").rglob("*.seg"))


def test_other_files_of_the_directory_are_in_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    restored(archive(KILLED), data)
    for name in ("kubernetes", "more"):
        (data / name).mkdir()
        (data / name / "file").write_bytes(b"content")
    (data / "knowledge.new").write_bytes(b"half")
    (data / "lost+found").mkdir()
    (data / "ui-sessions.json").write_bytes(b"{}")
    back_up(data, tmp_path / "backup", now=NOW)
    names = tree(tmp_path / "backup").keys()
    assert "more/file" in names
    assert "kubernetes/file" not in names, "there are Secrets in it"
    assert "knowledge.new" not in names
    assert "ui-sessions.json" not in names, "a session that has ended would be valid again"
    (data / "a file of mine").write_text("x")
    with pytest.raises(BackupError, match="move it elsewhere"):
        back_up(data, tmp_path / "again", now=NOW)
