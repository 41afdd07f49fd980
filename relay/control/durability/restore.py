"""Restore a backup into an empty data directory. Synchronous.

Rules:

* Only an empty directory is restored into, and it is locked meanwhile: no relay starts on it.
* Until everything is there and compared with the backup's checksums, the directory names a format
  that every relay refuses. After a failure it is emptied again.
* The state of delta streams is restored only if the caller says that no relay has run since the
  backup: an older state would export increments twice. Without it, streams restart as after a
  crash.
* Versions of the API's objects go on far above all that the relay may have given after the backup:
  clients that know one of those list anew, and do not take it for one that comes later.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from relay.config.settings.api import DATABASE_FILE
from relay.control.durability import delta_state_file
from relay.control.durability.backup_archive import (
    BackupReader,
    Head,
    make_parents,
    reading_backup,
)
from relay.runtime.errors import BackupError
from relay.storage.log.data_directory import (
    UNFINISHED,
    is_locked,
    lock_directory,
    write_format,
)
from relay.storage.log.filesystem import Disk
from relay.storage.log.frame import FORMATS, is_known

VERSIONS_SKIPPED = 1_000_000_000
"""Versions of the API that are given to nothing after a restore."""
_KEPT = ("lost+found",)
"""Names in an empty file system."""
_LOCK, _FORMAT = "lock", "format"


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """Files and bytes restored; ``deltas_left_out``: state of delta streams was left out."""

    head: Head
    files: int
    bytes: int
    deltas_left_out: bool


def restore(source: Path | BinaryIO, data: Path, *, moved: bool) -> RestoreReport:
    """Restore a backup: a file, a directory or a stream.

    ``moved``: no relay has run on the data since the backup. Raises BackupError for a damaged
    backup and a directory that is in use or not empty, and OSError; what was written is removed.
    """
    with reading_backup(source) as reader:
        if not is_known(reader.head.format):
            raise BackupError(
                f"the backup, by relay {reader.head.relay}, has format {reader.head.format} and "
                f"this build {FORMATS}"
            )
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _lock_empty(data)
        try:
            write_format(data, UNFINISHED)
            report = _restore_files(reader, data, moved=moved)
            _skip_versions(data / DATABASE_FILE)
            _sync_directories(data)
            write_format(data, reader.head.format)
            _sync_directories(data)
        except BaseException:
            _empty(data)
            raise
        finally:
            os.close(lock)
    return report


def _lock_empty(data: Path) -> int:
    there = sorted(path.name for path in data.iterdir() if path.name not in _KEPT)
    if not there:
        return lock_directory(data)
    if is_locked(data):
        raise BackupError(f"{data} is in use by a relay")
    raise BackupError(f"{data} is not empty: it has {', '.join(there[:5])}")


def _restore_files(reader: BackupReader, data: Path, *, moved: bool) -> RestoreReport:
    files = size = 0
    deltas_left_out = False
    for name, chunks in reader.files():
        if name in (_LOCK, _FORMAT):
            for _ in chunks:
                pass
        elif name == delta_state_file.NAME and not moved:
            deltas_left_out = True
            for _ in chunks:
                pass
        else:
            make_parents(data / name, data)
            size += _write(data / name, chunks)
            files += 1
    return RestoreReport(reader.head, files, size, deltas_left_out)


def _skip_versions(path: Path) -> None:
    """Let the API give versions that it has not given before, and make that durable."""
    if not path.exists():
        return
    update = "UPDATE counters SET value = value + ? WHERE name = 'version'"
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("PRAGMA synchronous = FULL")
            database.execute(update, (VERSIONS_SKIPPED,))
    except sqlite3.Error as error:
        raise BackupError(f"{path} is no database of the relay: {error}") from error


def _write(path: Path, chunks: Iterator[bytes]) -> int:
    disk = Disk()
    descriptor = disk.create(path)
    size = 0
    try:
        for chunk in chunks:
            disk.write_all(descriptor, chunk)
            size += len(chunk)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return size


def _sync_directories(data: Path) -> None:
    for directory in (data, *(path for path in data.rglob("*") if path.is_dir())):
        if directory.name not in _KEPT:
            Disk().sync_directory(directory)


def _empty(data: Path) -> None:
    """Remove what was restored, the mark that it is unfinished last but for the lock."""
    for path in data.iterdir():
        if path.name in (*_KEPT, _LOCK, _FORMAT):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    (data / _FORMAT).unlink(missing_ok=True)
    (data / _LOCK).unlink(missing_ok=True)
