"""Keep the last known objects of one resource on disk, for a start while the API is away.

Rules:

* The file is replaced atomically, readable by its owner only, and checksummed. A damaged file, or
  one of another server, resource or format, is not used; the reason is returned.
* It is bounded: what is longer is not written, and an older file stays.
* One object a line, after a line that says what they are; read and written in a thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from relay.config.yaml.document import read_bounded
from relay.control.kubernetes.objects import UNREADABLE, ApiObject, ApiResource
from relay.runtime.errors import StorageError
from relay.runtime.event_loop import run_in_thread, yield_to_loop
from relay.storage.journal.checkpoint import seal, unseal
from relay.storage.log.filesystem import Disk, reason
from relay.storage.log.frame import FormatError

_log = logging.getLogger("relay.control.cluster")

CACHE_BYTES_MAX = 128 * 1024 * 1024
VERSION = 1
SAVE_REST: Final = 20.0
"""Pause after each write, as a multiple of its duration."""
CACHE_DIRECTORY: Final = "kubernetes"
"""Directory of the last known objects and Secrets, in that of the storage; in no backup."""
_MAGIC = b"relay-objects"
_NOTHING = b"null"


class _Head(msgspec.Struct, rename="camel"):
    version: int
    server: str
    path: str
    objects: int


class _Line(msgspec.Struct, array_like=True):
    """One object; ``content`` and ``status`` are JSON within the JSON."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    deleting: bool
    content: msgspec.Raw
    status: msgspec.Raw
    finalizers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CachedObjects:
    """The objects of a file; none, and ``problem``, if the file is there and cannot be used."""

    objects: tuple[ApiObject, ...] = ()
    problem: str = ""
    found: bool = False
    """True if the file was there and good, even if it holds no object."""


class ObjectCache:
    """The file of one resource of one control plane. All methods do I/O: not for the event loop.

    ``server`` and ``namespace`` tell the file from another one's; ``disk`` is replaceable.
    """

    def __init__(
        self,
        path: Path,
        resource: ApiResource,
        *,
        server: str,
        namespace: str = "",
        bytes_max: int = CACHE_BYTES_MAX,
        disk: Disk | None = None,
    ) -> None:
        self.path = path
        self._identity = (server, resource.path(namespace))
        self._bytes_max = bytes_max
        self._disk = disk or Disk()

    def save(self, objects: Collection[ApiObject]) -> int:
        """Replace the file; return its size in bytes. Raises StorageError, and changes nothing."""
        head = msgspec.json.encode(_Head(VERSION, *self._identity, len(objects)))
        lines = [head]
        size = len(head)
        for one in objects:
            yield_to_loop()
            line = msgspec.json.encode(_line(one))
            lines.append(line)
            size += len(line) + 1
            if size > self._bytes_max:
                raise StorageError(f"{self.path}: more than {self._bytes_max} bytes of objects")
        data = seal(_MAGIC, b"\n".join(lines))
        try:
            self._disk.make_directory(self.path.parent)
            self._disk.replace(self.path, data, sync=True)
            self._disk.sync_directory(self.path.parent)
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be written: {reason(error)}") from error
        return len(data)

    def load(self) -> CachedObjects:
        """Read the file."""
        try:
            data = read_bounded(self.path, bytes_max=self._bytes_max + 100)
        except FileNotFoundError:
            return CachedObjects()
        except OSError as error:
            return self._unusable(f"cannot be read: {reason(error)}")
        try:
            body = unseal(_MAGIC, data)
        except FormatError as error:
            return self._unusable(str(error))
        if body is None:
            return self._unusable("is damaged")
        lines = body.split(b"\n")
        try:
            head = msgspec.json.decode(lines[0], type=_Head)
            if head.version != VERSION:
                return self._unusable(f"is of version {head.version}, not {VERSION}")
            if (head.server, head.path) != self._identity:
                return self._unusable(f"is of {head.server}{head.path}")
            objects = tuple(_read_line(line) for line in lines[1:])
        except UNREADABLE as error:
            return self._unusable(f"cannot be read: {type(error).__name__}")
        if len(objects) != head.objects:
            return self._unusable(f"has {len(objects)} of {head.objects} objects")
        return CachedObjects(objects, found=True)

    def _unusable(self, why: str) -> CachedObjects:
        return CachedObjects(problem=f"{self.path}: {why}")

    def __repr__(self) -> str:
        return f"<ObjectCache {self.path}>"


class CacheWriter:
    """Keeps the file of changing objects up to date; without ``cache`` it does nothing.

    Lives on the event loop; it writes while :meth:`run` runs. ``objects`` returns the objects to
    write.
    ``soon_s``: from an urgent change to the writing, in which others join; ``later_s``: from any
    other, and from a failure. ``clock`` is monotonic; s.
    """

    def __init__(
        self,
        cache: ObjectCache | None,
        objects: Callable[[], Collection[ApiObject]],
        *,
        soon_s: float,
        later_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._cache = cache
        self._objects = objects
        self._soon_s = soon_s
        self._later_s = later_s
        self._clock = clock
        self._unsaved = False
        self._urgent = asyncio.Event()
        self._saving: asyncio.Task[None] | None = None
        self.problem = ""
        """Reason for which the file was not read or written; "" if it was."""

    async def load(self, use: Callable[[tuple[ApiObject, ...]], None]) -> bool:
        """Give ``use``, in a thread, what the file has; return whether it was there and good."""
        cache = self._cache
        if cache is None:
            return False

        def read() -> CachedObjects:
            cached = cache.load()
            use(cached.objects)
            return cached

        cached = await run_in_thread(read)
        self._note_problem(cached.problem)
        return cached.found

    def note(self) -> None:
        """Note that the file lacks a change."""
        self._unsaved = True

    def hurry(self) -> None:
        """Let a change that was noted be written soon.

        What is not on disk at a crash is unknown at the next start, if the API is away then; and
        what has come for an unknown sink is lost.
        """
        self._urgent.set()

    async def run(self) -> None:
        """Write changes until cancelled."""
        while self._cache is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._later_s):
                    await self._urgent.wait()
                    await asyncio.sleep(self._soon_s)
            self._urgent.clear()
            began = self._clock()
            await self.save()
            await asyncio.sleep(min(self._later_s, SAVE_REST * (self._clock() - began)))

    async def save(self) -> None:
        """Write the file if it lacks a change, after a write that is under way."""
        if self._saving is not None:
            await asyncio.shield(self._saving)
        if self._cache is not None and self._unsaved:
            # A cancelled wait must not leave a thread that writes beside the next one.
            self._saving = asyncio.ensure_future(self._write(self._cache))
            await asyncio.shield(self._saving)

    async def _write(self, cache: ObjectCache) -> None:
        self._unsaved = False
        objects = self._objects()
        try:
            await run_in_thread(lambda: cache.save(objects))
        except StorageError as error:
            self._note_problem(str(error))
            self._unsaved = True
        else:
            self._note_problem("")

    def _note_problem(self, problem: str) -> None:
        if problem and problem != self.problem:
            _log.warning("last known objects on disk: %s", problem)
        self.problem = problem

    def __repr__(self) -> str:
        return f"<CacheWriter of {self._cache!r}>"


def _line(one: ApiObject) -> Any:
    return _Line(
        one.namespace,
        one.name,
        one.uid,
        one.resource_version,
        one.generation,
        one.deleting,
        msgspec.Raw(one.content),
        msgspec.Raw(one.status or _NOTHING),
        one.finalizers,
    )


def _read_line(line: bytes) -> ApiObject:
    yield_to_loop()
    read = msgspec.json.decode(line, type=_Line)
    return ApiObject(
        read.namespace,
        read.name,
        read.uid,
        read.resource_version,
        read.generation,
        bytes(read.content),
        b"" if (status := bytes(read.status)) == _NOTHING else status,
        read.deleting,
        read.finalizers,
    )
