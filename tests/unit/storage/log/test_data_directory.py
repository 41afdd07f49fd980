"""The data directory: one process, one format."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path

import pytest

from relay.runtime.errors import ConfigError
from relay.storage.journal.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from relay.storage.log.data_directory import UNFINISHED, DataDirectory, write_format
from relay.storage.log.frame import FORMAT, FormatError


def test_a_second_process_is_refused_by_name(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data") as first:
        assert repr(first) == f"<DataDirectory {tmp_path / 'data'}>"
        with pytest.raises(ConfigError) as caught:
            DataDirectory(tmp_path / "data")
    assert str(caught.value) == (
        f"storage.path: {tmp_path / 'data'} is in use by another relay, process {os.getpid()}"
    )
    with DataDirectory(tmp_path / "data") as again:
        assert again.journal.is_dir()
        assert again.queues.is_dir()
    again.close()


def test_customers_data_is_for_nobody_else(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data") as directory:
        for path in (directory.path, directory.journal, directory.queues):
            assert path.stat().st_mode & 0o077 == 0, path


def format_line(number: int) -> str:
    line = f"relay-data {number}"
    return f"{line} {zlib.crc32(line.encode()):08x}\n"


@pytest.mark.parametrize("number", [4, 99])
def test_an_unknown_format_is_refused_and_nothing_is_touched(tmp_path: Path, number: int) -> None:
    (tmp_path / "format").write_text(format_line(number))
    message = (
        f"has format {number} and this build reads formats 1 to 3 and writes format 3; "
        "use the build that wrote it, or another directory"
    )
    with pytest.raises(ConfigError, match=message) as raised:
        DataDirectory(tmp_path)
    assert "\n" not in str(raised.value), "one line"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["format", "lock"]
    assert (tmp_path / "format").read_text() == format_line(number)


def test_a_restore_that_did_not_end_is_refused(tmp_path: Path) -> None:
    write_format(tmp_path, UNFINISHED)
    with pytest.raises(ConfigError, match="holds an unfinished restore: empty it and restore"):
        DataDirectory(tmp_path)
    assert (tmp_path / "format").read_text() == format_line(UNFINISHED)


def test_an_earlier_format_is_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "format").write_text(format_line(1))
    with caplog.at_level("INFO"), DataDirectory(tmp_path):
        assert (tmp_path / "format").read_text() == format_line(FORMAT)
    assert "is upgraded from format 1 to 3" in caplog.text


@pytest.mark.parametrize("content", [b"", b"relay-data", b"relay-data 7 0000", b"\xff" * 9000])
def test_a_torn_format_is_mended(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "format").write_bytes(content)
    with DataDirectory(tmp_path):
        assert (tmp_path / "format").read_text() == format_line(FORMAT)
    assert "is torn" in caplog.text


@pytest.mark.parametrize(
    "content", ["relay-data 1 00000000\n", "relay-data 7 c8bdb0cf\n", "relay-dat\x01 1 0\n", "\n"]
)
def test_a_format_with_a_wrong_checksum_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "format").write_text(content)
    with pytest.raises(ConfigError, match=r"format is damaged: .* remove this file"):
        DataDirectory(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["format", "lock"]
    assert (tmp_path / "format").read_text() == content
    (tmp_path / "format").unlink()
    with DataDirectory(tmp_path):
        pass  # nothing was left locked


def test_a_read_only_disk_keeps_nobody_from_an_earlier_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "format").write_text(format_line(1))

    def refused(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("relay.storage.log.data_directory.os.pwrite", refused)
    with DataDirectory(tmp_path):
        assert (tmp_path / "format").read_text() == format_line(1)
    assert "format cannot be written: Read-only file system" in caplog.text


def test_what_is_no_directory_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"storage\.path: .*/file cannot be used: File exists"):
        DataDirectory(tmp_path / "file")
    (tmp_path / "journal").write_text("")
    with pytest.raises(ConfigError, match="cannot be used: File exists"):
        DataDirectory(tmp_path)


def test_a_checkpoint_knows_who_is_busy_and_of_the_others_the_names() -> None:
    lows = {("a/x", "one"): (5,), ("a/x", "idle"): (9,), ("b/y", "two"): (9, 3)}
    decoded = decode_checkpoint(encode_checkpoint(Checkpoint(9, lows)))
    assert decoded == Checkpoint(9, lows)
    idle = {("a/x", "idle"): (9, 9)}
    assert decode_checkpoint(encode_checkpoint(Checkpoint(9, idle))) == Checkpoint(
        9, {("a/x", "idle"): (9,)}
    )
    assert decoded.low("a/x", "one", shards=1) == (5,)
    assert decoded.low("a/x", "idle", shards=2) == (9, 9)
    assert decoded.low("new", "new", shards=1) == (9,)
    assert decoded.low("b/y", "two", shards=2) == (9, 3)
    assert decoded.low("b/y", "two", shards=3) == (3, 3, 3), "series are dealt anew"


def test_a_damaged_checkpoint_is_told_from_another_format() -> None:
    good = encode_checkpoint(Checkpoint(9, {("a", "b"): (1,)}))
    for end in range(len(good)):
        assert decode_checkpoint(good[:end]) is None
    for at in range(len(good)):
        damaged = bytearray(good)
        damaged[at] ^= 0x04
        found = decode_checkpoint(bytes(damaged))
        assert found in (None, decode_checkpoint(good)), "upper case hexadecimal digits are no harm"
    other = b"relay-checkpoint 7 %08x\n{}" % zlib.crc32(b"{}", zlib.crc32(b"7"))
    with pytest.raises(FormatError, match="format 7"):
        decode_checkpoint(other)
