"""A disk that fails when told to."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from relay.journal.disk import Disk


class FaultyDisk(Disk):
    """``failing`` is an errno to fail every write with, or 0; ``room`` bytes can still be written.

    ``hold`` makes every write wait until it is set.
    """

    def __init__(self) -> None:
        self.failing = 0
        self.failing_reads = 0
        self.room: int | None = None
        self.hold = threading.Event()
        self.hold.set()
        self.writes = 0

    def create(self, path: Path) -> int:
        self._check()
        return super().create(path)

    def extend(self, path: Path) -> int:
        self._check()
        return super().extend(path)

    def write(self, descriptor: int, data: bytes) -> int:
        self._check()
        self.hold.wait(10.0)
        self.writes += 1
        if self.room is not None:
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            # A disk that fills up takes part of a write first.
            data = data[: self.room]
            self.room -= len(data)
        return super().write(descriptor, data)

    def read(self, descriptor: int, offset: int, size: int) -> bytes:
        if self.failing_reads:
            raise OSError(self.failing_reads, os.strerror(self.failing_reads))
        return super().read(descriptor, offset, size)

    def _check(self) -> None:
        if self.failing:
            raise OSError(self.failing, os.strerror(self.failing))
