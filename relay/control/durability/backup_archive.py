"""The form of a backup: a tar archive or a directory of plain files. Synchronous.

Rules:

* The first file is ``backup.json``, which says what the backup is; the last is ``files.json``, with
  the size and SHA-256 of every file between. Both are sealed with a checksum. A backup without the
  last one is incomplete and is refused.
* Names are relative paths below the data directory; others are refused.
* A backup gets its name when it is complete, unless it is written to a pipe.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from relay.runtime.errors import BackupError
from relay.storage.journal.checkpoint import seal, unseal
from relay.storage.log.filesystem import Disk, reason
from relay.storage.log.frame import FormatError

VERSION = 1
"""Of the form of a backup. Newer ones are refused."""
HEAD, TAIL = "backup.json", "files.json"
CHUNK_BYTES = 1 << 20
_HEAD_BYTES_MAX = 1 << 16
_TAIL_BYTES_MAX = 1 << 30
_MAGIC = b"relay-backup"
_FILE_MODE = 0o600
_NAME = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,7}")


class Head(msgspec.Struct, frozen=True, rename="camel"):
    """The head of a backup: format of the data directory; ``created_at`` in Unix s."""

    version: int
    relay: str
    format: int
    created_at: float


class FileEntry(msgspec.Struct, frozen=True, rename="camel"):
    """Size in bytes and SHA-256 (hex) of a file."""

    size: int
    sha256: str


class _Tail(msgspec.Struct, frozen=True):
    files: dict[str, FileEntry]


class _Form(Protocol):
    """The side of an archive or a directory to which files are written."""

    def put(self, name: str, data: bytes) -> None:
        """Write a file; raises OSError."""


class BackupWriter:
    """Writes a backup, file by file; made by :func:`writing`."""

    def __init__(self, form: _Form, head: Head) -> None:
        self._form = form
        self.files: dict[str, FileEntry] = {}
        form.put(HEAD, seal(_MAGIC, msgspec.json.encode(head)))

    def add(self, name: str, data: bytes) -> None:
        """Add a file. Raises BackupError for a name that no restore would take, and OSError."""
        if not is_name(name):
            raise BackupError(f"{name!r} cannot be the name of a file in a backup")
        self._form.put(name, data)
        self.files[name] = FileEntry(len(data), hashlib.sha256(data).hexdigest())

    def finish(self) -> None:
        """Write the list of files, without which the backup is refused."""
        self._form.put(TAIL, seal(_MAGIC, msgspec.json.encode(_Tail(self.files))))


@contextmanager
def writing(target: Path | BinaryIO, head: Head) -> Iterator[BackupWriter]:
    """Open a backup for writing; it is complete when the block ends without an exception.

    ``target``: a new file if its name ends with ``.tar``, else a new directory; or a stream, for
    the archive. Raises BackupError if the target exists, and OSError.
    """
    if not isinstance(target, Path):
        with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            writer = BackupWriter(_TarForm(tar, head.created_at), head)
            yield writer
            writer.finish()
        return
    if target.exists():
        raise BackupError(f"{target} exists; a backup replaces nothing")
    beside = target.with_name(f"{target.name}.unfinished")
    if beside.exists():
        raise BackupError(f"{beside} is of a backup that did not end, or runs; remove it first")
    try:
        if target.suffix == ".tar":
            with (
                open(beside, "xb", opener=_private) as file,
                writing(file, head) as writer,
            ):
                yield writer
            _sync(beside)
        else:
            beside.mkdir(mode=0o700)
            writer = BackupWriter(_DirectoryForm(beside), head)
            yield writer
            writer.finish()
        beside.rename(target)
        Disk().sync_directory(target.parent)
    except BaseException:
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


class _TarForm:
    def __init__(self, tar: tarfile.TarFile, modified_at: float) -> None:
        self._tar = tar
        self._modified_at = modified_at

    def put(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.mode = _FILE_MODE
        member.mtime = int(self._modified_at)
        self._tar.addfile(member, io.BytesIO(data))


class _DirectoryForm:
    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, name: str, data: bytes) -> None:
        path = self._root / name
        make_parents(path, self._root)
        with open(path, "xb", opener=_private) as file:
            file.write(data)
            file.flush()
            os.fdatasync(file.fileno())


class BackupReader:
    """Reads a backup; made by :func:`reading_backup`. ``head`` is read already."""

    def __init__(self, files: Iterator[tuple[str, BinaryIO]]) -> None:
        self._files = files
        name, stream = next(files, ("", io.BytesIO()))
        if name != HEAD:
            raise BackupError(f"not a backup of a relay: its first file is not {HEAD}")
        body = _unsealed(stream.read(_HEAD_BYTES_MAX), HEAD)
        try:
            self.head = msgspec.json.decode(body, type=Head)
        except msgspec.MsgspecError as error:
            raise BackupError(f"{HEAD} of the backup cannot be read: {error}") from error
        if self.head.version != VERSION:
            raise BackupError(
                f"the backup has form {self.head.version}, written by relay {self.head.relay}, and "
                f"this relay reads form {VERSION}"
            )

    def files(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield each file's name and chunks, all of which have to be read.

        At the end everything is compared with the backup's own list. Raises BackupError for
        whatever is missing, too much or different.
        """
        seen: dict[str, FileEntry] = {}
        for name, stream in self._files:
            if name == TAIL:
                self._compare(seen, _unsealed(stream.read(_TAIL_BYTES_MAX), TAIL))
                return
            if not is_name(name) or name in seen or name == HEAD:
                raise BackupError(f"the backup has a file of the name {name!r}, which cannot be")
            digest = hashlib.sha256()
            size = [0]
            yield name, _chunks(stream, digest, size)
            seen[name] = FileEntry(size[0], digest.hexdigest())
        raise BackupError(f"the backup is incomplete: it ends without {TAIL}")

    def _compare(self, seen: dict[str, FileEntry], body: bytes) -> None:
        try:
            listed = msgspec.json.decode(body, type=_Tail).files
        except msgspec.MsgspecError as error:
            raise BackupError(f"{TAIL} of the backup cannot be read: {error}") from error
        for name in sorted(listed.keys() | seen.keys()):
            if name not in seen:
                raise BackupError(f"the backup is damaged: {name} is missing")
            if name not in listed:
                raise BackupError(f"the backup is damaged: {name} is not in its list")
            if seen[name] != listed[name]:
                raise BackupError(f"the backup is damaged: {name} is not what was backed up")


@contextmanager
def reading_backup(source: Path | BinaryIO) -> Iterator[BackupReader]:
    """Open a backup: an archive, also compressed with gzip, a directory, or a stream.

    Raises BackupError for what is none or is damaged, and OSError.
    """
    if isinstance(source, Path) and source.is_dir():
        yield BackupReader(_in_directory(source))
        return
    try:
        path, stream = (source, None) if isinstance(source, Path) else (None, source)
        with tarfile.open(path, mode="r|*", fileobj=stream) as tar:
            yield BackupReader(_in_archive(tar))
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BackupError(f"the backup cannot be read: {error}") from error


def is_name(name: str) -> bool:
    """Return whether a name is a relative path that cannot leave its directory."""
    if _NAME.fullmatch(name) is None:
        return False
    return not any(part in (".", "..") for part in name.split("/"))


def make_parents(path: Path, root: Path) -> None:
    """Create the directories between ``root`` and a file, for the owner only."""
    for directory in reversed(path.relative_to(root).parents):
        (root / directory).mkdir(mode=0o700, exist_ok=True)


def _in_archive(tar: tarfile.TarFile) -> Iterator[tuple[str, BinaryIO]]:
    for member in tar:
        stream = tar.extractfile(member) if member.isreg() else None
        if stream is None:
            raise BackupError(f"the backup has {member.name!r}, which is not a plain file")
        yield member.name, stream  # type: ignore[misc]


def _in_directory(root: Path) -> Iterator[tuple[str, BinaryIO]]:
    names = sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()
    )
    for name in (HEAD, *(name for name in names if name not in (HEAD, TAIL)), TAIL):
        path = root / name
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise BackupError(f"the backup has {name!r}, which is not a plain file")
        if path.exists():
            with path.open("rb") as file:
                yield name, file


def _chunks(stream: BinaryIO, digest: hashlib._Hash, size: list[int]) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
        size[0] += len(chunk)
        yield chunk


def _unsealed(data: bytes, name: str) -> bytes:
    try:
        body = unseal(_MAGIC, data)
    except FormatError as error:
        raise BackupError(f"{name} of the backup: {error}") from error
    if body is None:
        raise BackupError(f"{name} of the backup is damaged")
    return body


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, _FILE_MODE)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def describe(error: OSError) -> str:
    """Describe an error of the file system with the file's name."""
    return f"{error.filename}: {reason(error)}" if error.filename else reason(error)
