"""Faults of the disk below the database: each is told, and costs nothing that was acknowledged."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from relay.apiserver.store.database import (
    WAL_BYTES_MAX,
    Change,
    ObjectDatabase,
    ObjectKeyInStore,
)
from relay.apiserver.store.encryption import ValueCipher
from relay.apiserver.store.errors import StoreFullError, StoreUnusableError
from relay.apiserver.store.served_objects import ServedObjects

MIB = 1024 * 1024
KEY = b"k" * 32


def key(name: str, kind: str = "exporters") -> ObjectKeyInStore:
    return ObjectKeyInStore(kind, "acme", "default", name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data/api.db"


@contextmanager
def opened(path: Path, cipher: ValueCipher | None = None) -> Iterator[ObjectDatabase]:
    made = ObjectDatabase(path, cipher)
    made.open()
    try:
        yield made
    finally:
        made.close()


def contents(path: Path, cipher: ValueCipher | None = None) -> dict[str, bytes]:
    with opened(path, cipher) as made:
        return {key.name: value for key, _, value in made.read()}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Fail every write beyond a size: SQLite takes it for an I/O error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_error_of_the_disk_at_a_commit(path: Path) -> None:
    with opened(path) as made:
        made.write([Change(key("first"), 5, b"1")])
        wal = path.with_name("api.db-wal").stat().st_size
        for version in (6, 7, 8):
            with files_of_at_most(wal), pytest.raises(StoreUnusableError) as caught:
                made.write([Change(key("lost"), version, b"x" * 10_000)])
            assert str(caught.value) == f"{path}: cannot be written: disk I/O error"
        assert made.version() == 5
        made.write([Change(key("second"), 9, b"2")])
        shutil.copytree(path.parent, path.parent.parent / "killed")  # as a crash leaves it
    assert contents(path) == {"first": b"1", "second": b"2"}
    assert contents(path.parent.parent / "killed/api.db") == {"first": b"1", "second": b"2"}


def test_a_full_disk_amid_many_changes(path: Path) -> None:
    with opened(path) as made:
        made.write([Change(key("first"), 5, b"1")])
        made._opened.execute("PRAGMA max_page_count = 20")
        with pytest.raises(StoreFullError, match="database or disk is full"):
            made.write([Change(key(f"e{n}"), 6 + n, b"x" * 10_000) for n in range(20)])
        made.write([Change(key("first"), 30, None)])  # deletions go on
        made._opened.execute("PRAGMA max_page_count = 100000")
        made.write([Change(key("second"), 31, b"2")])
    assert contents(path) == {"second": b"2"}


@pytest.mark.parametrize(
    "names", [["api.db"], ["api.db-wal"], ["api.db", "api.db-wal", "api.db-shm"]]
)
def test_a_database_that_is_deleted_is_written_anew(
    path: Path, names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with opened(path) as made:
        made.write([Change(key("first"), 5, b"1")])
        made.write([Change(key("second"), 6, b"2")])
        assert caplog.messages == []
        for name in names:
            path.with_name(name).unlink()
        made.write([Change(key("third"), 7, b"3")])
        assert caplog.messages == [f"{path} was deleted while the relay runs, and is written anew"]
        made.write([Change(key("fourth"), 8, b"4")])
        assert len(caplog.messages) == 1
        assert sorted(one.name for one in path.parent.iterdir()) == [
            *("api.db", "api.db-shm", "api.db-wal", "api.db.lock")
        ]
        assert {one.stat().st_mode & 0o777 for one in path.parent.iterdir()} == {0o600}
        shutil.copytree(path.parent, path.parent.parent / "killed")
    wanted = {"first": b"1", "second": b"2", "third": b"3", "fourth": b"4"}
    assert contents(path) == wanted
    assert contents(path.parent.parent / "killed/api.db") == wanted


def test_a_database_that_cannot_be_written_anew(path: Path) -> None:
    with opened(path) as made:
        made.write([Change(key("first"), 5, b"1")])
        moved = path.parent.rename(path.parent.with_name("moved"))
        with pytest.raises(StoreUnusableError, match=r"was deleted .* cannot be written anew"):
            made.write([Change(key("lost"), 6, b"2")])
        moved.rename(path.parent)  # put back: all is as it was
        made.write([Change(key("second"), 7, b"2")])
    assert contents(path) == {"first": b"1", "second": b"2"}


def test_a_database_that_is_replaced_is_left_alone(path: Path) -> None:
    with opened(path) as made:
        made.write([Change(key("first"), 5, b"1")])
        made.back_up(path.with_name("copy.db"))
        made.write([Change(key("second"), 6, b"2")])
        path.rename(path.with_name("aside.db"))
        path.with_name("copy.db").rename(path)
        with pytest.raises(StoreUnusableError, match="was replaced while the relay runs: put the"):
            made.write([Change(key("lost"), 7, b"3")])
        path.with_name("aside.db").rename(path)
        made.write([Change(key("third"), 8, b"3")])
    assert contents(path) == {"first": b"1", "second": b"2", "third": b"3"}


def test_the_wal_does_not_grow(path: Path) -> None:
    wal = path.with_name("api.db-wal")

    def write(version: int) -> None:
        made.write([Change(key(f"e{version % 7}"), version, os.urandom(100_000))])

    with opened(path) as made:
        for version in range(5, 205):
            write(version)
            assert wal.stat().st_size < 6 * MIB
        assert path.stat().st_size < 4 * MIB
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM objects").fetchone()
            for version in range(205, 405):
                write(version)
            assert wal.stat().st_size > WAL_BYTES_MAX
            reader.execute("COMMIT")
        for version in range(405, 425):
            write(version)
        assert wal.stat().st_size <= WAL_BYTES_MAX


def test_secrets_of_before_are_removed_as_soon_as_there_is_room(path: Path) -> None:
    deleted = key("deleted", "secrets")
    with opened(path) as made:
        made.write([Change(key("tok", "secrets"), 5, b"plain secret"), Change(deleted, 6, b"gone")])
        made.write([Change(key(f"e{n}"), 7 + n, b"x" * 10_000) for n in range(100)])
        made.write([Change(deleted, 200, None)])
    size = path.stat().st_size
    with opened(path, ValueCipher([KEY])) as made:
        with files_of_at_most(size // 2), pytest.raises(StoreUnusableError) as caught:
            made.seal_all()
        assert str(caught.value).startswith(
            f"{path}: what was not encrypted cannot be removed, which needs {size // MIB + 1} MiB "
        )
    assert not path.with_name("api.db.new").exists()
    with opened(path, ValueCipher([KEY])) as made:
        assert made.seal_all() == 0  # the second start has only to clean
        assert made.version() == 200
        made.write([Change(key("last"), 201, b"1")])
    assert b"plain secret" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    found = contents(path, ValueCipher([KEY]))
    assert len(found) == 102
    assert found["tok"] == b"plain secret"


def test_a_copy_of_a_database_that_is_gone_makes_none(path: Path) -> None:
    with opened(path) as made:
        made.write([Change(key("first"), 5, b"1")])
        path.unlink()
        with pytest.raises(StoreUnusableError, match="the copy failed"):
            made.back_up(path.with_name("copy.db"))
        assert not path.exists()
        made.write([Change(key("second"), 6, b"2")])
    assert contents(path) == {"first": b"1", "second": b"2"}


async def test_what_is_refused_is_not_shown_and_what_is_acknowledged_stays(path: Path) -> None:
    database = ObjectDatabase(path)
    database.open()
    objects = ServedObjects(database)
    objects.load()
    objects.start()

    async def write(name: str, size: int) -> bool:
        made = {"metadata": {"name": name}, "filler": "x" * size}
        try:
            await objects.write(key(name), lambda _: made)
        except StoreUnusableError:
            return False
        return True

    assert await write("first", 10)
    with files_of_at_most(path.with_name("api.db-wal").stat().st_size):
        outcomes = await asyncio.gather(*(write(f"lost{n}", 10_000) for n in range(10)))
    assert not any(outcomes)
    assert [one.name for one in objects.listed("exporters", "acme")] == ["first"]
    assert await write("second", 10)
    await objects.stop()
    database.close()
    assert set(contents(path)) == {"first", "second"}


@pytest.fixture(autouse=True)
def errors_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "relay.api")
