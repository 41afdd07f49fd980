"""The database: durable, whole, private, versioned, encrypted."""

from __future__ import annotations

import base64
import os
import sqlite3
import time
from pathlib import Path

import pytest

from relay.apiserver.store.database import (
    FORMAT,
    VERSIONS_PER_S,
    Change,
    ObjectDatabase,
    ObjectKeyInStore,
)
from relay.apiserver.store.encryption import SealedValueError, ValueCipher, read_cipher
from relay.apiserver.store.errors import StoreFullError, StoreUnusableError
from relay.runtime.errors import ConfigError

SECRET = ObjectKeyInStore("secrets", "acme", "default", "tok")
EXPORTER = ObjectKeyInStore("exporters", "acme", "default", "one")
KEY, OTHER = b"k" * 32, b"o" * 32


def database(path: Path, cipher: ValueCipher | None = None) -> ObjectDatabase:
    made = ObjectDatabase(path, cipher)
    made.open()
    return made


def contents(path: Path, cipher: ValueCipher | None = None) -> dict[ObjectKeyInStore, bytes]:
    made = database(path, cipher)
    found = {key: value for key, _, value in made.read()}
    made.close()
    return found


def test_what_was_written_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "api.db"
    made = database(path)
    made.write([Change(SECRET, 5, b"{}"), Change(EXPORTER, 6, b'{"a":1}')])
    made.write([Change(SECRET, 7, None)])
    assert made.version() == 7
    made.close()
    assert contents(path) == {EXPORTER: b'{"a":1}'}


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "api.db"
    path.touch(mode=0o644)
    made = database(path)
    made.write([Change(SECRET, 5, b"{}")])
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["api.db", "api.db-shm", "api.db-wal", "api.db.lock"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    made.close()


def test_one_process_has_it(tmp_path: Path) -> None:
    path = tmp_path / "api.db"
    made = database(path)
    with pytest.raises(StoreUnusableError, match="another process uses it"):
        database(path)
    made.close()
    database(path).close()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "api.db"
    database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    with pytest.raises(StoreUnusableError, match=f"format {FORMAT + 1}, which is newer"):
        database(path)


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "api.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE x (y)")
    connection.close()
    with pytest.raises(StoreUnusableError, match="of another program"):
        database(path)
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StoreUnusableError, match="cannot be opened"):
        database(path)


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "api.db"
    made = database(path)
    with pytest.raises(StoreUnusableError, match="cannot be written"):
        made.write([Change(EXPORTER, 5, b"{}"), Change(SECRET, 6, object())])  # type: ignore[arg-type]
    made.write([Change(SECRET, 7, b"{}")])
    made.close()
    assert contents(path) == {SECRET: b"{}"}


def test_a_full_disk_is_told_apart(tmp_path: Path) -> None:
    made = database(tmp_path / "api.db")
    made._opened.execute("PRAGMA max_page_count = 10")
    with pytest.raises(StoreFullError):
        made.write([Change(EXPORTER, 5, b"x" * 100_000)])
    made.write([Change(EXPORTER, 6, b"{}")])
    made.close()


def test_secrets_are_sealed_and_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "api.db"
    made = database(path, ValueCipher([KEY]))
    made.write([Change(SECRET, 5, b"plain secret"), Change(EXPORTER, 6, b"plain exporter")])
    made.close()
    raw = path.read_bytes()
    assert b"plain secret" not in raw
    assert b"plain exporter" in raw
    assert contents(path, ValueCipher([OTHER, KEY]))[SECRET] == b"plain secret"
    made = database(path)
    with pytest.raises(StoreUnusableError, match=r"api\.encryptionKeyFile is required"):
        list(made.read())
    made.close()
    made = database(path, ValueCipher([OTHER]))
    with pytest.raises(StoreUnusableError, match="with a key that is not in the key file"):
        list(made.read())
    made.close()


def test_secrets_are_sealed_anew_with_a_new_key(tmp_path: Path) -> None:
    path = tmp_path / "api.db"
    other = ObjectKeyInStore("secrets", "acme", "default", "other")
    made = database(path)
    made.write([Change(SECRET, 5, b"plain secret"), Change(EXPORTER, 6, b"plain exporter")])
    assert made.seal_all() == 0
    made.close()
    made = database(path, ValueCipher([KEY]))
    assert (made.seal_all(), made.seal_all()) == (1, 0)
    made.write([Change(other, 7, b"another")])
    made.close()
    assert b"plain secret" not in path.read_bytes()
    made = database(path, ValueCipher([OTHER, KEY]))
    assert (made.seal_all(), made.seal_all()) == (2, 0)
    made.close()
    assert contents(path, ValueCipher([OTHER])) == {
        SECRET: b"plain secret",
        other: b"another",
        EXPORTER: b"plain exporter",
    }
    made = database(path, ValueCipher([KEY]))
    with pytest.raises(StoreUnusableError, match="with a key that is not in the key file"):
        made.seal_all()
    made.write([Change(EXPORTER, 8, b"{}")])
    made.close()


def test_a_sealed_value_belongs_to_its_object() -> None:
    cipher = ValueCipher([KEY])
    sealed = cipher.seal(b"value", SECRET.place)
    assert cipher.open(sealed, SECRET.place) == b"value"
    assert cipher.is_current(sealed)
    assert not ValueCipher([OTHER, KEY]).is_current(sealed)
    damaged = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for altered, place in ((sealed, EXPORTER.place), (damaged, SECRET.place)):
        with pytest.raises(SealedValueError):
            cipher.open(altered, place)
    with pytest.raises(SealedValueError):
        cipher.open(sealed[:20], SECRET.place)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no key"),
        (b"abc", ":1: is not base64"),
        (
            base64.b64encode(KEY) + b"\n" + base64.b64encode(b"short"),
            ":2: has 5 bytes; a key is 32 bytes in base64",
        ),
        (b"a" * 100_000, "has more than"),
    ],
)
def test_faults_of_a_key_file(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_cipher(path, "api.encryptionKeyFile")
    with pytest.raises(ConfigError, match="No such file"):
        read_cipher(tmp_path / "none", "api.encryptionKeyFile")


def test_a_backup_is_a_whole_database(tmp_path: Path) -> None:
    path, copy = tmp_path / "api.db", tmp_path / "copy.db"
    made = database(path)
    made.write([Change(EXPORTER, 5, b"{}")])
    made.back_up(copy)
    made.write([Change(SECRET, 6, b"{}")])
    with pytest.raises(StoreUnusableError, match="exists already"):
        made.back_up(copy)
    with pytest.raises(StoreUnusableError, match="the copy failed"):
        made.back_up(tmp_path / "none" / "copy.db")
    made.close()
    assert os.stat(copy).st_mode & 0o777 == 0o600
    assert contents(copy) == {EXPORTER: b"{}"}
    assert not list(tmp_path.glob("*.part"))


def test_a_new_database_gives_higher_versions_than_one_that_was_lost(tmp_path: Path) -> None:
    made = ObjectDatabase(tmp_path / "api.db")
    made.open()
    first = made.version()
    assert first >= (time.time() - 5) * VERSIONS_PER_S
    made.write([Change(EXPORTER, first + VERSIONS_PER_S // 2, b"{}")])
    known = made.version()
    made.close()
    for file in tmp_path.glob("api.db*"):
        file.unlink()
    time.sleep(1.0)
    again = ObjectDatabase(tmp_path / "api.db")
    again.open()
    assert again.version() > known
    again.close()
