"""The data directory: ours alone, and in a format that this build knows.

Rules:

* ``lock`` is locked (flock) for as long as the process lives; the kernel lets go of it however the
  process ends. A second process is refused before it touches anything.
* ``format`` names the format of everything below, with a checksum. A line of an unknown format is
  refused, and nothing is touched; so is a whole line whose checksum is wrong, because what it says
  cannot be told. One of an earlier format is written anew before anything else is. A file without a
  whole line, as a power cut leaves it, counts as none: every file below says its own format again.
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
from relay.storage.log.frame import FORMAT, FORMATS, is_known
from relay.storage.log.segment import Volume

_log = logging.getLogger("relay.storage")

_SETTING = "storage.path"
_MAGIC = "relay-data"
_FORMAT_BYTES_MAX = 4096
_SHOWN_CHARS = 80


class DataDirectory:
    """The directory, locked; let go of with :meth:`close`.

    Raises ConfigError where it cannot be created or written, belongs to another process, or has
    an unknown format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._volume = Volume(path)
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._volume.remember()
            self._lock = _lock(path / "lock")
        except OSError as error:
            raise _fault(f"{path} cannot be used: {error.strerror}") from error
        try:
            self._check_format()
            self.journal.mkdir(exist_ok=True, mode=0o700)
            self.queues.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            self.close()
            raise _fault(f"{path} cannot be used: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    @property
    def journal(self) -> Path:
        """Directory of the journal's segments."""
        return self.path / "journal"

    @property
    def queues(self) -> Path:
        """Directory of the sinks' queues."""
        return self.path / "queues"

    @property
    def checkpoint(self) -> Path:
        """The file that says how far each sink had come."""
        return self.path / "checkpoint"

    def restore(self) -> None:
        """Notice where somebody took ``lock`` or ``format`` away, and put them back."""
        try:
            if not self._volume.is_mounted:
                return  # another volume is mounted here, or none: ours may come back
            if not _is_same(self.path / "lock", self._lock):
                _log.error("%s was deleted by another process: locked again", self.path / "lock")
                before, self._lock = self._lock, _lock(self.path / "lock")
                os.close(before)
            if not (self.path / "format").exists():
                _log.error("%s was deleted by another process: written again", self.path / "format")
                _write_format(self.path / "format")
        except ConfigError as error:
            _log.error("%s; end one of the two", error.faults[0].message)
        except OSError as error:
            _log.error("%s cannot be put in order: %s", self.path, error.strerror)

    def close(self) -> None:
        """Let others have it. Twice does no harm."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _check_format(self) -> None:
        path = self.path / "format"
        found = None
        try:
            with path.open("rb") as file:
                data = file.read(_FORMAT_BYTES_MAX)
            if data.endswith(b"\n"):
                found = _parse_format(data, path)
            else:
                _log.error(
                    "%s is torn and written anew; the files themselves say their format", path
                )
        except FileNotFoundError:
            pass
        if found == FORMAT:
            return
        if found is not None:
            if not is_known(found):
                raise _fault(
                    f"{self.path} has format {found} and this build {FORMATS}; "
                    "use the build that wrote it, or another directory"
                )
            _log.info("%s had format %d and has format %d from now on", self.path, found, FORMAT)
        try:
            _write_format(path)
        except OSError as error:
            if found is None:
                raise
            # A read-only disk must not keep us from sending what is on it, and every file that is
            # written later says its format again.
            _log.error("%s cannot be written: %s", path, error.strerror)

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


def _lock(path: Path) -> int:
    """The descriptor of the locked file; raises ConfigError where another process has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS or not path.exists():
            raise
        # A disk that went read-only must not keep us from sending what is on it.
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
    # Only for the message above: the lock holds without it, on a disk that is full, too.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _is_same(path: Path, descriptor: int) -> bool:
    """Whether the open file stands under this name."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)


def _write_format(path: Path) -> None:
    """Write the line in place: on a full disk the old bytes are room enough. Raises OSError."""
    line = _format_line().encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, line, 0)
        os.ftruncate(descriptor, len(line))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _format_line() -> str:
    line = f"{_MAGIC} {FORMAT}"
    return f"{line} {zlib.crc32(line.encode()):08x}\n"


def _parse_format(data: bytes, path: Path) -> int:
    """The format that a whole line names; raises ConfigError where its checksum is wrong."""
    text = data.decode("ascii", "replace").strip()
    line, _, crc = text.rpartition(" ")
    magic, _, number = line.partition(" ")
    expected = f"{zlib.crc32(line.encode()):08x}"
    if magic != _MAGIC or not number.isdecimal() or expected != crc:
        raise _fault(
            f"{path} is damaged: {text[:_SHOWN_CHARS]!r} is not a format with its checksum; "
            "remove this file to have the format told by the other files, or use another directory"
        )
    return int(number)


def _fault(message: str) -> ConfigError:
    return ConfigError([Fault(_SETTING, message)])
