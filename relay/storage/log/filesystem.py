"""File operations of the journal and the sinks' queues, replaceable in tests.

Every method raises OSError and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_MODE = 0o600
"""Owner only: bodies are customers' data."""

PIECES_MAX = 1024
"""The most that Linux writes in one gathering call (UIO_MAXIOV)."""


def reason(error: OSError) -> str:
    """Describe an error for logs and status."""
    return error.strerror or type(error).__name__


class Disk:
    """The real file system."""

    def create(self, path: Path) -> int:
        """Create a new file for appending; return its descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        return os.open(path, flags, _MODE)

    def extend(self, path: Path) -> int:
        """Open an existing file for appending; return its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def is_linked(self, path: Path, descriptor: int = -1) -> bool:
        """Return whether a file exists and, if ``descriptor`` is given, is that open file."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return False
        if descriptor < 0:
            return True
        held = os.fstat(descriptor)
        return (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)

    def make_directory(self, path: Path) -> None:
        """Create a directory and its parents unless they exist."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def open(self, path: Path) -> int:
        """Open a file for reading; return its descriptor."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, descriptor: int, offset: int, size: int) -> bytes:
        """Read up to ``size`` bytes at ``offset``."""
        return os.pread(descriptor, size, offset)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write some of the data; return how many bytes."""
        return os.write(descriptor, data)

    def write_all(self, descriptor: int, data: bytes) -> None:
        """Write all of the data."""
        left = memoryview(data)
        while left:
            left = left[self.write(descriptor, left) :]

    def gather(self, descriptor: int, pieces: Sequence[bytes]) -> int:
        """Write some of at most :data:`PIECES_MAX` consecutive pieces; return how many bytes."""
        return os.writev(descriptor, pieces)

    def sync(self, descriptor: int) -> None:
        """Make a file's data survive a power cut."""
        os.fdatasync(descriptor)

    def cut(self, descriptor: int, size: int) -> None:
        """Shorten an open file."""
        os.ftruncate(descriptor, size)

    def close(self, descriptor: int) -> None:
        """Close a file."""
        os.close(descriptor)

    def shorten(self, path: Path, size: int) -> None:
        """Shorten a file by name."""
        os.truncate(path, size)

    def remove(self, path: Path) -> None:
        """Remove a file if it exists."""
        path.unlink(missing_ok=True)

    def replace(self, path: Path, data: bytes, *, sync: bool) -> None:
        """Replace a file's content atomically: a reader sees the old or the new one.

        Where that fails, OSError, the old one stays and nothing is left beside it.
        """
        beside = path.with_suffix(".new")
        # One that a killed process left may have another mode.
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            try:
                self.write_all(descriptor, data)
                if sync:
                    os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise

    def sync_directory(self, path: Path) -> None:
        """Make a directory's entries survive a power cut."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
