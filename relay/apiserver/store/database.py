"""The API's objects in SQLite.

Rules:

* A transaction is durable when :meth:`ObjectDatabase.write` returns (WAL, ``synchronous=FULL``).
* Database, WAL and shared memory have mode 0600; one process has the database, by a lock on
  ``<path>.lock`` that the kernel drops however the process ends.
* ``application_id`` says whose file it is, ``user_version`` its format; a newer one is refused.
* Secrets are sealed by :class:`~relay.apiserver.store.encryption.ValueCipher` where there is one.
* SQLite goes on writing into files that were deleted: their names are looked at before each
  transaction. What was deleted is written anew; what was replaced is left alone, and refused.

Methods block and belong into threads; one thread at a time may call them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.apiserver.store.encryption import SealedValueError, ValueCipher
from relay.apiserver.store.errors import StoreFullError, StoreUnusableError

_log: Final = logging.getLogger("relay.api")
FORMAT: Final = 1
APPLICATION_ID: Final = 0x72656C61
_SEALED: Final = 1
_PLAIN: Final = 0
_SCHEMA: Final = """
CREATE TABLE objects (
    kind TEXT NOT NULL,
    project TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    sealed INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (kind, project, namespace, name)
) WITHOUT ROWID;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_PUT: Final = (
    "INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (kind, project, namespace, name) "
    "DO UPDATE SET version = excluded.version, sealed = excluded.sealed, value = excluded.value"
)
_DELETE: Final = "DELETE FROM objects WHERE kind = ? AND project = ? AND namespace = ? AND name = ?"
_SECRETS: Final = "secrets"
_UNCLEAN: Final = "unclean"
"""Counter that is there from the sealing of Secrets until nothing is left of them in the file."""
VERSIONS_PER_S: Final = 1_000
"""More than a database gives for long."""
WAL_BYTES_MAX: Final = 16 * 1024 * 1024
"""Size to which the WAL is cut after a reader has kept it from being written back."""
_WAL_PAGES: Final = 1000
_MIB: Final = 1024 * 1024
_Identity = tuple[int, int]
"""Device and inode of a file."""


@dataclass(frozen=True, slots=True)
class ObjectKeyInStore:
    """Place of an object: kind as ``plural.group``, project, namespace ("" for none), name."""

    kind: str
    project: str
    namespace: str
    name: str

    @property
    def place(self) -> bytes:
        """The place as bytes, for a sealed value."""
        return f"{self.kind}\0{self.project}\0{self.namespace}\0{self.name}".encode()


@dataclass(frozen=True, slots=True)
class Change:
    """One write: ``value`` is JSON, None for a deletion."""

    key: ObjectKeyInStore
    version: int
    value: bytes | None


class ObjectDatabase:
    """The open database; ``path`` is created if it does not exist.

    ``first_version`` is that of a new one. By default it is above all that one before it, which was
    lost, can have given: clients that know those are told to list anew.
    """

    def __init__(
        self, path: Path, cipher: ValueCipher | None = None, *, first_version: int | None = None
    ) -> None:
        self._path = path
        self._first_version = first_version
        self._cipher = cipher
        self._lock = -1
        self._connection: sqlite3.Connection | None = None
        self._wal = path.with_name(f"{path.name}-wal")
        self._draft = path.with_name(f"{path.name}.new")
        self.identity = 0
        """Random number of this database and its copies, since :meth:`open`."""
        self._files: tuple[_Identity | None, _Identity | None] = (None, None)
        """Database and WAL as they were opened."""

    def __repr__(self) -> str:
        return f"<ObjectDatabase {self._path}>"

    def open(self) -> None:
        """Open or create the database; raise StoreUnusableError with what to do about it."""
        self._lock_file()
        try:
            # SQLite gives the files beside it the mode of the database.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            self._path.chmod(0o600)
            self._draft.unlink(missing_ok=True)
            self._connection = self._connected()
            self._check_format()
            self._identify()
            self._files = self._present_files()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise StoreUnusableError(f"{self._path}: cannot be opened: {error}") from error
        except StoreUnusableError:
            self.close()
            raise

    def _lock_file(self) -> None:
        path = self._path.with_name(f"{self._path.name}.lock")
        try:
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise StoreUnusableError(f"{self._path}: another process uses it") from error
        except OSError as error:
            self.close()
            raise StoreUnusableError(f"{path}: cannot be opened: {error.strerror}") from error

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _present_files(self) -> tuple[_Identity | None, _Identity | None]:
        return _identity(self._path), _identity(self._wal)

    def _keep_files(self) -> None:
        """Write the database anew if a file of it was deleted; raise StoreUnusableError."""
        found = self._present_files()
        if found == self._files:
            return
        if found[0] not in (None, self._files[0]):
            raise StoreUnusableError(
                f"{self._path}: was replaced while the relay runs: put the file back that it had, "
                "or restart the relay to use this one"
            )
        try:
            with closing(sqlite3.connect(self._new_draft())) as copy:
                self._opened.backup(copy)
            # The pages are the same: a WAL that is still there would make no difference.
            self._take_over_draft()
        except (sqlite3.Error, OSError) as error:
            self._draft.unlink(missing_ok=True)
            raise StoreUnusableError(
                f"{self._path}: was deleted while the relay runs, and cannot be written anew: "
                f"{error}"
            ) from error
        _log.error("%s was deleted while the relay runs, and is written anew", self._path)

    def _new_draft(self) -> Path:
        self._draft.unlink(missing_ok=True)
        os.close(os.open(self._draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        return self._draft

    def _take_over_draft(self) -> None:
        """Go on with a whole copy of the database in its place."""
        _sync(self._draft)
        self._draft.rename(self._path)
        _sync(self._path.parent)
        for name in ("-wal", "-shm"):
            self._path.with_name(f"{self._path.name}{name}").unlink(missing_ok=True)
        self._opened.close()
        self._connection = self._connected()
        self._check_format()
        self._files = self._present_files()

    def _check_format(self) -> None:
        connection = self._opened
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not owner and not tables:
            first = self._first_version
            if first is None:
                first = int(time.time()) * VERSIONS_PER_S
            connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
                f"PRAGMA user_version = {FORMAT};"
            )
            connection.execute("INSERT INTO counters VALUES ('version', ?)", (first,))
            connection.execute("COMMIT")
        elif owner != APPLICATION_ID:
            raise StoreUnusableError(f"{self._path}: is the database of another program")
        elif found > FORMAT:
            raise StoreUnusableError(
                f"{self._path}: has format {found}, which is newer than this relay's {FORMAT}: "
                "run the newer relay"
            )

    def _identify(self) -> None:
        """Give the database its number, once."""
        self._opened.execute(
            "INSERT OR IGNORE INTO counters VALUES ('identity', abs(random() % 1000000000000))"
        )
        query = "SELECT value FROM counters WHERE name = 'identity'"
        self.identity = int(self._opened.execute(query).fetchone()[0])

    @property
    def _opened(self) -> sqlite3.Connection:
        assert self._connection is not None, "the database is open"
        return self._connection

    def version(self) -> int:
        """Return the highest version that was ever given."""
        query = "SELECT value FROM counters WHERE name = 'version'"
        return int(self._opened.execute(query).fetchone()[0])

    def read(self) -> Iterator[tuple[ObjectKeyInStore, int, bytes]]:
        """Yield every object; raise StoreUnusableError for a Secret that cannot be opened."""
        query = "SELECT kind, project, namespace, name, version, sealed, value FROM objects"
        try:
            for kind, project, namespace, name, version, sealed, value in self._opened.execute(
                query
            ):
                key = ObjectKeyInStore(kind, project, namespace, name)
                yield key, version, self._unsealed(key, sealed, value)
        except sqlite3.Error as error:
            raise StoreUnusableError(f"{self._path}: cannot be read: {error}") from error

    def _unsealed(self, key: ObjectKeyInStore, sealed: int, value: bytes) -> bytes:
        if sealed == _PLAIN:
            return value
        subject = f"{self._path}: Secret {key.namespace}/{key.name}"
        if self._cipher is None:
            raise StoreUnusableError(f"{subject} is encrypted: api.encryptionKeyFile is required")
        try:
            return self._cipher.open(value, key.place)
        except SealedValueError as error:
            raise StoreUnusableError(f"{subject} cannot be read: {error}") from error

    def seal_all(self) -> int:
        """Seal every Secret that is plain, or sealed with an old key, with the first key.

        Return how many. Without a cipher nothing is done. Raise StoreUnusableError.
        """
        if self._cipher is None:
            return 0
        query = "SELECT kind, project, namespace, name, sealed, value FROM objects WHERE kind = ?"
        update = (
            "UPDATE objects SET sealed = ?, value = ? "
            "WHERE kind = ? AND project = ? AND namespace = ? AND name = ?"
        )
        connection = self._opened
        try:
            stale = [
                (ObjectKeyInStore(*place), sealed, value)
                for *place, sealed, value in connection.execute(query, (_SECRETS,))
                if sealed == _PLAIN or not self._cipher.is_current(value)
            ]
            if stale:
                connection.execute("BEGIN IMMEDIATE")
                for key, sealed, value in stale:
                    fresh = self._cipher.seal(self._unsealed(key, sealed, value), key.place)
                    place = (key.kind, key.project, key.namespace, key.name)
                    connection.execute(update, (_SEALED, fresh, *place))
                connection.execute("INSERT OR REPLACE INTO counters VALUES (?, 1)", (_UNCLEAN,))
                connection.execute("COMMIT")
            self._clean()
        except sqlite3.Error as error:
            self._roll_back()
            raise StoreUnusableError(f"{self._path}: cannot be written: {error}") from error
        except StoreUnusableError:
            self._roll_back()
            raise
        return len(stale)

    def _clean(self) -> None:
        """Remove what was overwritten from the WAL and the free pages, too, if that is due."""
        query = "SELECT count(*) FROM counters WHERE name = ?"
        if not self._opened.execute(query, (_UNCLEAN,)).fetchone()[0]:
            return
        try:
            self._opened.execute("VACUUM INTO ?", (str(self._new_draft()),))
            # The pages are others: nothing of the WAL may be read into them.
            self._opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._take_over_draft()
            self._opened.execute("DELETE FROM counters WHERE name = ?", (_UNCLEAN,))
        except (sqlite3.Error, OSError) as error:
            self._draft.unlink(missing_ok=True)
            needed = self._path.stat().st_size // _MIB + 1
            raise StoreUnusableError(
                f"{self._path}: what was not encrypted cannot be removed, which needs {needed} MiB "
                f"of room: {error}"
            ) from error

    def write(self, changes: Sequence[Change]) -> None:
        """Make changes durable, all or none; versions must rise.

        Raise StoreFullError where the disk is full, StoreUnusableError for any other reason.
        """
        self._keep_files()
        connection = self._opened
        try:
            connection.execute("BEGIN IMMEDIATE")
            for change in changes:
                self._write_one(connection, change)
            last = changes[-1].version
            connection.execute("UPDATE counters SET value = ? WHERE name = 'version'", (last,))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            is_full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
            kind = StoreFullError if is_full else StoreUnusableError
            raise kind(f"{self._path}: cannot be written: {error}") from error

    def _write_one(self, connection: sqlite3.Connection, change: Change) -> None:
        key = change.key
        place = (key.kind, key.project, key.namespace, key.name)
        if change.value is None:
            connection.execute(_DELETE, place)
        elif key.kind == _SECRETS and self._cipher is not None:
            value = self._cipher.seal(change.value, key.place)
            connection.execute(_PUT, (*place, change.version, _SEALED, value))
        else:
            connection.execute(_PUT, (*place, change.version, _PLAIN, change.value))

    def _roll_back(self) -> None:
        if self._opened.in_transaction:
            try:
                self._opened.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise StoreUnusableError(f"{self._path}: cannot be rolled back: {error}") from error

    def back_up(self, target: Path) -> None:
        """Write a consistent copy to a file that must not exist; other threads may go on writing.

        Raise StoreUnusableError; the copy is whole, or it is not there.
        """
        draft = target.with_name(f"{target.name}.part")
        try:
            os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
            if target.exists():
                raise StoreUnusableError(f"{target}: exists already")
            address = f"{self._path.absolute().as_uri()}?mode=rw"  # it is not made anew
            with (
                closing(sqlite3.connect(address, uri=True)) as source,
                closing(sqlite3.connect(draft)) as copy,
            ):
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
            _sync(draft)
            draft.rename(target)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnusableError(f"{target}: the copy failed: {error}") from error
        finally:
            draft.unlink(missing_ok=True)

    def use(self, cipher: ValueCipher | None) -> None:
        """Set what encrypts Secrets, before :meth:`open`."""
        assert self._connection is None, "open already"
        self._cipher = cipher

    def close(self) -> None:
        """Close the database; the WAL is written back into it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _identity(path: Path) -> _Identity | None:
    """Return device and inode of a file, None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _sync(path: Path) -> None:
    """Make a file, or the names in a directory, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
