"""The data directory: one process, one format."""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path

import pytest

from relay.errors import ConfigError
from relay.journal.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from relay.journal.directory import DataDirectory
from relay.journal.frames import FormatError


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


def test_another_format_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    with DataDirectory(tmp_path):
        pass
    # What a later build would have written: the line of ours with another number.
    (tmp_path / "format").write_text("relay-data 2 c8bdb0cf\n")
    for name in ("journal", "queues"):
        (tmp_path / name).rmdir()
    with pytest.raises(ConfigError, match="has format 2 and this build reads and writes format 1"):
        DataDirectory(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["format", "lock"]


@pytest.mark.parametrize(
    "content", [b"", b"relay-data 1 00000000\n", b"relay-data", b"\xff" * 9000]
)
def test_a_damaged_format_is_mended(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "format").write_bytes(content)
    with DataDirectory(tmp_path):
        assert re.fullmatch(r"relay-data 1 [0-9a-f]{8}\n", (tmp_path / "format").read_text())
    assert "is damaged" in caplog.text


def test_what_is_no_directory_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"storage\.path: .*/file cannot be used: File exists"):
        DataDirectory(tmp_path / "file")
    (tmp_path / "journal").write_text("")
    with pytest.raises(ConfigError, match="cannot be used: File exists"):
        DataDirectory(tmp_path)


def test_a_checkpoint_knows_only_who_is_busy() -> None:
    lows = {("a/x", "one"): (5,), ("a/x", "idle"): (9,), ("b/y", "two"): (9, 3)}
    decoded = decode_checkpoint(encode_checkpoint(Checkpoint(9, lows)))
    assert decoded == Checkpoint(9, {("a/x", "one"): (5,), ("b/y", "two"): (9, 3)})
    assert decoded.low("a/x", "one", lanes=1) == (5,)
    assert decoded.low("a/x", "idle", lanes=2) == (9, 9)
    assert decoded.low("new", "new", lanes=1) == (9,)
    assert decoded.low("b/y", "two", lanes=2) == (9, 3)
    assert decoded.low("b/y", "two", lanes=3) == (3, 3, 3), "series are dealt anew"


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
