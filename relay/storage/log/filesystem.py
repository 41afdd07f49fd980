"""What the journal asks of the file system: one object, so that tests can make it fail.

Every method raises OSError and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_MODE = 0o600
"""Bodies are customers' data."""

PIECES_MAX = 1024
"""What Linux gathers in one call (UIO_MAXIOV)."""


class Disk:
    """The real one."""

    def create(self, path: Path) -> int:
        """Create a file that must not exist, for writing at its end; return its descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        return os.open(path, flags, _MODE)

    def extend(self, path: Path) -> int:
        """Open a file that exists, for writing at its end; return its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def is_linked(self, path: Path, descriptor: int = -1) -> bool:
        """Whether a file stands under its name, and is the open one where that is given."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return False
        if descriptor < 0:
            return True
        held = os.fstat(descriptor)
        return (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)

    def make_directory(self, path: Path) -> None:
        """Make a directory and what is above it, where they are not there."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def open(self, path: Path) -> int:
        """Open a file for reading; return its descriptor."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, descriptor: int, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset`` on."""
        return os.pread(descriptor, size, offset)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write some of the data; return how many bytes."""
        return os.write(descriptor, data)

    def gather(self, descriptor: int, pieces: Sequence[bytes]) -> int:
        """Write some of up to :data:`PIECES_MAX` pieces, one behind the other; return how many
        bytes."""
        return os.writev(descriptor, pieces)

    def sync(self, descriptor: int) -> None:
        """Make the file's data safe against a power cut."""
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
        """Remove a file; that it is gone already is fine."""
        path.unlink(missing_ok=True)

    def replace(self, path: Path, data: bytes, *, sync: bool) -> None:
        """Give a file new content in one step, so that a reader finds the old or the new one."""
        beside = path.with_suffix(".new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            if sync:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        beside.replace(path)

    def sync_directory(self, path: Path) -> None:
        """Make a directory's entries safe against a power cut."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
