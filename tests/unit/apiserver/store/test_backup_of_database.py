"""``relay backup`` of a data directory whose API is being written."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.apiserver.store.database import Change, ObjectDatabase, ObjectKeyInStore
from relay.control.durability.backup import back_up
from relay.control.durability.restore import VERSIONS_SKIPPED, restore
from relay.runtime.errors import BackupError

ONE = ObjectKeyInStore("exporters", "acme", "default", "one")
TWO = ObjectKeyInStore("exporters", "acme", "default", "two")


def data_directory(tmp_path: Path) -> Path:
    (tmp_path / "data/journal").mkdir(parents=True)
    return tmp_path / "data"


def test_a_copy_has_what_was_acknowledged(tmp_path: Path) -> None:
    data = data_directory(tmp_path)
    running = ObjectDatabase(data / "api.db", None)
    running.open()
    running.write([Change(ONE, 5, b"{}")])
    assert (data / "api.db-wal").stat().st_size > 0
    back_up(data, tmp_path / "relay.tar", now=1_800_000_000.0)
    running.write([Change(TWO, 6, b"{}")])
    running.close()

    with (tmp_path / "relay.tar").open("rb") as archive:
        restore(archive, tmp_path / "restored", moved=False)
    assert sorted(one.name for one in (tmp_path / "restored").glob("api*")) == ["api.db"]
    copy = ObjectDatabase(tmp_path / "restored/api.db", None)
    copy.open()
    assert [(key, value) for key, _, value in copy.read()] == [(ONE, b"{}")]
    assert copy.version() == 5 + VERSIONS_SKIPPED, "clients may know one that is not in the copy"
    copy.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    data = data_directory(tmp_path)
    (data / "api.db").write_bytes(b"not a database, but long enough to be taken for one" * 40)
    with pytest.raises(BackupError, match=r"api\.db cannot be copied"):
        back_up(data, tmp_path / "relay.tar", now=1_800_000_000.0)
    assert not (tmp_path / "relay.tar").exists()
