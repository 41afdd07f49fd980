"""A disk that fails when told to: full, broken, read-only, or slow."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from relay.storage.log.filesystem import Disk


class FaultyDisk(Disk):
    """The real one, but for what is switched on.

    ``room_bytes`` is how much may still be written (None: no limit; a write that does not fit
    writes what does and then fails, as a full disk does); ``write_error``, ``sync_error``,
    ``cut_error`` and ``read_error`` are raised by name of their number (0: none). While ``frozen``,
    writes and flushes wait.
    """

    def __init__(self) -> None:
        self.room_bytes: int | None = None
        self.write_error = 0
        self.sync_error = 0
        self.cut_error = 0
        self.read_error = 0
        self.syncs = 0
        self.synced: list[int] = []
        self._going = threading.Event()
        self._going.set()

    def freeze(self) -> None:
        """Answer no more."""
        self._going.clear()

    def thaw(self) -> None:
        """Answer again."""
        self._going.set()

    def create(self, path: Path) -> int:
        _raise(self.write_error)
        return super().create(path)

    def extend(self, path: Path) -> int:
        _raise(self.write_error)
        return super().extend(path)

    def read(self, descriptor: int, offset: int, size: int) -> bytes:
        _raise(self.read_error)
        return super().read(descriptor, offset, size)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        self._going.wait()
        _raise(self.write_error)
        if self.room_bytes is not None:
            if not self.room_bytes:
                _raise(errno.ENOSPC)
            data = data[: self.room_bytes]
            self.room_bytes -= len(data)
        return super().write(descriptor, data)

    def gather(self, descriptor: int, pieces: Sequence[bytes]) -> int:
        return self.write(descriptor, b"".join(pieces))

    def sync(self, descriptor: int) -> None:
        self._going.wait()
        self.syncs += 1
        _raise(self.sync_error)
        super().sync(descriptor)

    def cut(self, descriptor: int, size: int) -> None:
        _raise(self.cut_error)
        super().cut(descriptor, size)

    def replace(self, path: Path, data: bytes, *, sync: bool) -> None:
        _raise(self.write_error)
        if self.room_bytes is not None and self.room_bytes < len(data):
            _raise(errno.ENOSPC)
        super().replace(path, data, sync=sync)


def _raise(number: int) -> None:
    if number:
        raise OSError(number, os.strerror(number))
