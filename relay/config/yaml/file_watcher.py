"""Finds the files below the operator's paths, and detects settled changes.

Rules:

* Directories are read in order of path, subdirectories included. Only ``*.yaml`` and ``*.yml``
  count; names that begin with a dot do not, which leaves out editors' temporaries and the
  ``..data`` machinery of mounted ConfigMaps (the visible links into it are followed).
* Files are told apart by what ``stat`` says of what they lead to, so that an atomic rename, a write
  in place and the swap of ``..data`` (Kubernetes' AtomicWriter) are one and the same: a changed
  signature. Polling works on every file system, network ones included; it costs some microseconds
  per file.
* A change counts once it has rested: no file is read that is half written, and a file that an
  editor moves away for a moment is not taken for deleted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from relay.runtime.errors import Fault
from relay.runtime.event_loop import yield_to_loop

FILES_MAX: Final = 100_000
DIRECTORY_DEPTH_MAX: Final = 16
SETTLE_S: Final = 0.2
"""Time for which a file must be unchanged before it is read, s."""
UNREST_MAX_S: Final = 5.0
"""Time after which a file that keeps changing is read anyway, s."""

_SUFFIXES = (".yaml", ".yml")

Signature = tuple[int, ...]
"""Device, inode, size, and times of change in ns; empty for what is not there."""

ABSENT: Final[Signature] = ()


def manifest_files(
    path: Path, note: Callable[[Fault], None], lose: Callable[[Path], None] = lambda _: None
) -> dict[Path, Signature]:
    """Return the file itself, or the manifests below a directory, with their signatures.

    A single file is returned even if it does not exist. ``note`` is called with faults, ``lose``
    with paths that cannot be read now: files below may still exist.
    """
    # Thousands of files named one by one are checked every other second: once each.
    yield_to_loop()
    try:
        found = os.stat(path)
    except OSError:
        lose(path)
        return {path: ABSENT}
    if not stat.S_ISDIR(found.st_mode):
        return {path: _signature(found)}
    return {file: signature(file) for file in _files_below(path, note, lose)}


def _files_below(
    path: Path, note: Callable[[Fault], None], lose: Callable[[Path], None]
) -> Iterator[Path]:
    def note_unreadable(error: OSError) -> None:
        message = f"cannot be read: {error.strerror or type(error).__name__}"
        note(Fault("", message, str(error.filename)))
        lose(Path(error.filename))

    count = 0
    root_depth = len(path.parts)
    for directory, folders, names in os.walk(path, onerror=note_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if folders and len(Path(directory).parts) - root_depth == DIRECTORY_DEPTH_MAX:
            message = f"directories below {DIRECTORY_DEPTH_MAX} levels are left out"
            note(Fault("", message, directory))
            folders.clear()
        for name in sorted(names):
            if name.startswith(".") or not name.endswith(_SUFFIXES):
                continue
            count += 1
            if count > FILES_MAX:
                note(Fault("", f"more than {FILES_MAX} files", str(path)))
                return
            yield Path(directory, name)


def signature(path: Path) -> Signature:
    """Return a value that identifies the content of a file, links followed."""
    yield_to_loop()
    try:
        return _signature(os.stat(path))
    except OSError:
        return ABSENT


def _signature(found: os.stat_result) -> Signature:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class FileWatchStatistics(msgspec.Struct, frozen=True):
    """A snapshot: ``files`` that were read, and those changing right now."""

    files: int
    restless: int


class FileWatch:
    """Compares files with the state in which they were read; time is an argument, s."""

    def __init__(self) -> None:
        self._read: dict[Path, Signature] = {}
        self._restless: dict[Path, tuple[Signature, float, float]] = {}
        """Signature, since when it holds, and since when it differs from what was read."""

    def signature_of(self, path: Path) -> Signature:
        """Return the signature with which a file was read."""
        return self._read.get(path, ABSENT)

    def take(self, files: Mapping[Path, Signature]) -> frozenset[Path]:
        """Return the files that differ from what was read, rested or not; count them as read.

        Signatures are taken before reading, so that what changes meanwhile differs again.
        """
        differing = self._differing(files)
        self._read = dict(files)
        self._restless.clear()
        return frozenset(differing)

    def observe(self, files: Mapping[Path, Signature], now: float) -> frozenset[Path]:
        """Return the files that have changed, come or gone, and rested; count them as read."""
        differing = self._differing(files)
        self._restless = {p: state for p, state in self._restless.items() if p in differing}
        rested = set()
        for path in differing:
            found = files.get(path, ABSENT)
            last, since, first = self._restless.get(path, (None, now, now))
            if last != found:
                since = now
            self._restless[path] = (found, since, first)
            if now - since >= SETTLE_S or now - first >= UNREST_MAX_S:
                rested.add(path)
        for path in rested:
            del self._restless[path]
            if path in files:
                self._read[path] = files[path]
            else:
                del self._read[path]
        return frozenset(rested)

    def _differing(self, files: Mapping[Path, Signature]) -> set[Path]:
        differing = {path for path, found in files.items() if self._read.get(path) != found}
        differing.update(path for path in self._read if path not in files)
        return differing

    @property
    def restless(self) -> bool:
        """True if a change has not settled yet: look again soon."""
        return bool(self._restless)

    def statistics(self) -> FileWatchStatistics:
        """Return a snapshot."""
        return FileWatchStatistics(len(self._read), len(self._restless))

    def __repr__(self) -> str:
        return f"<FileWatch {len(self._read)} files, {len(self._restless)} restless>"
