"""Files are replaced as a whole, and a failure leaves nothing beside them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.kit.storage.faulty_disk import FaultyDisk


@pytest.mark.parametrize("failing", ["write", "replace"])
def test_a_failure_leaves_the_old_content_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path, disk = tmp_path / "cursor", FaultyDisk()
    disk.replace(path, b"old", sync=True)
    if failing == "write":
        disk.room_bytes = 2
    else:

        def full(draft: Path, target: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        disk.replace(path, b"new one", sync=True)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["cursor"]


def test_a_draft_of_a_killed_process_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cursor"
    (tmp_path / "cursor.new").write_bytes(b"a long half of something")
    (tmp_path / "cursor.new").chmod(0o644)
    FaultyDisk().replace(path, b"new", sync=False)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["cursor"]
