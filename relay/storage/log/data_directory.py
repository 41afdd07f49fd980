"""The data directory: locked by one process, in a format that this build reads.

Rules:

* ``lock`` is locked (flock) as long as the process lives; the kernel unlocks it however the process
  ends. A second process is refused before it changes anything.
* ``format`` names the format of all files below, with a checksum. An unknown format or a wrong
  checksum is refused and nothing is changed. An earlier format is upgraded first of all. A file
  without a complete line, as a power cut leaves it, is ignored: every other file has its own
  format.
* While a backup is being restored, ``format`` names :data:`UNFINISHED`, which every build refuses.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

from relay.runtime.errors import ConfigError, Fault
from relay.storage.log.filesystem import Disk, reason
from relay.storage.log.frame import FORMAT, FORMATS, is_known
from relay.storage.log.segment import Volume

_log = logging.getLogger("relay.storage")

_SETTING = "storage.path"
_MAGIC = "relay-data"
UNFINISHED = 0
"""The format of a directory whose restore has not ended."""
_FORMAT_BYTES_MAX = 4096
_SHOWN_CHARS = 80


class DataDirectory:
    """A locked data directory; :meth:`close` unlocks it.

    Raises ConfigError if it cannot be created or written, is in use by another process, or has an
    unknown format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._volume = Volume(path)
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._volume.remember()
            self._lock = lock_directory(path)
        except OSError as error:
            raise _fault(f"{path} cannot be used: {reason(error)}") from error
        try:
            self._check_format()
            self.journal.mkdir(exist_ok=True, mode=0o700)
            self.queues.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            self.close()
            raise _fault(f"{path} cannot be used: {reason(error)}") from error
        except BaseException:
            self.close()
            raise

    @property
    def journal(self) -> Path:
        """Return the directory of the journal's segments."""
        return self.path / "journal"

    @property
    def queues(self) -> Path:
        """Return the directory of the sinks' queues."""
        return self.path / "queues"

    @property
    def checkpoint(self) -> Path:
        """Return the file of the sinks' low positions."""
        return self.path / "checkpoint"

    def restore(self) -> None:
        """Restore ``lock`` and ``format`` if another process deleted them."""
        try:
            if not self._volume.is_mounted:
                return  # the right volume may be mounted again
            if not Disk().is_linked(self.path / "lock", self._lock):
                _log.error("%s was deleted by another process: locked again", self.path / "lock")
                before, self._lock = self._lock, lock_directory(self.path)
                os.close(before)
            if not (self.path / "format").exists():
                _log.error("%s was deleted by another process: written again", self.path / "format")
                write_format(self.path)
        except ConfigError as error:
            _log.error("%s; stop one of the two", error.faults[0].message)
        except OSError as error:
            _log.error("%s cannot be restored: %s", self.path, reason(error))

    def close(self) -> None:
        """Unlock the directory. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _check_format(self) -> None:
        found = read_format(self.path)
        if found == FORMAT:
            return
        if found is not None:
            _log.info("%s is upgraded from format %d to %d", self.path, found, FORMAT)
        try:
            write_format(self.path)
        except OSError as error:
            if found is None:
                raise
            # A read-only disk must not prevent sending what is on it, and every file that is
            # written later names its own format.
            _log.error("%s cannot be written: %s", self.path / "format", reason(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<DataDirectory {self.path}>"


def lock_directory(directory: Path) -> int:
    """Lock a directory and return the descriptor.

    Raises OSError, and ConfigError if another process has it.
    """
    path = directory / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS or not path.exists():
            raise
        # A read-only disk must not prevent sending what is on it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise _fault(f"{path.parent} is in use by another relay, process {holder}") from error
    except BaseException:
        os.close(descriptor)
        raise
    # Only for the message above: on a full disk the lock holds without it.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def is_locked(directory: Path) -> bool:
    """Return whether a process has locked a directory. Raises OSError."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_format(directory: Path) -> int | None:
    """Return the format that a directory names; None if it names none or the line is torn.

    Raises ConfigError for a damaged line and for a format that this build does not read.
    """
    path = directory / "format"
    try:
        with path.open("rb") as file:
            data = file.read(_FORMAT_BYTES_MAX)
    except FileNotFoundError:
        return None
    if not data.endswith(b"\n"):
        _log.error("%s is torn and is rewritten; each file names its own format", path)
        return None
    found = _parse_format(data, path)
    if found == UNFINISHED:
        raise _fault(f"{directory} holds an unfinished restore: empty it and restore again")
    if not is_known(found):
        raise _fault(
            f"{directory} has format {found} and this build {FORMATS}; "
            "use the build that wrote it, or another directory"
        )
    return found


def write_format(directory: Path, number: int = FORMAT) -> None:
    """Write the line in place, which needs no room on a full disk. Raises OSError."""
    line = _format_line(number).encode()
    descriptor = os.open(directory / "format", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, line, 0)
        os.ftruncate(descriptor, len(line))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _format_line(number: int) -> str:
    line = f"{_MAGIC} {number}"
    return f"{line} {zlib.crc32(line.encode()):08x}\n"


def _parse_format(data: bytes, path: Path) -> int:
    """Parse a complete line; raises ConfigError if its checksum is wrong."""
    text = data.decode("ascii", "replace").strip()
    line, _, crc = text.rpartition(" ")
    magic, _, number = line.partition(" ")
    expected = f"{zlib.crc32(line.encode()):08x}"
    if magic != _MAGIC or not number.isdecimal() or expected != crc:
        raise _fault(
            f"{path} is damaged: {text[:_SHOWN_CHARS]!r} is not a format with its checksum; "
            "remove this file to use the format that the other files name, or use another directory"
        )
    return int(number)


def _fault(message: str) -> ConfigError:
    return ConfigError([Fault(_SETTING, message)])
