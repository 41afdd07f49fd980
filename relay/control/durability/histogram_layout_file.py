"""What histograms and summaries consist of, in a file of the data directory.

Rules:

* A family whose members are known sends a set as soon as it is whole; one that is new waits for
  ``translation.assemblyTimeout`` first. So after a restart, none that was known is new.
* Losing the file costs that wait and nothing else: what cannot be read or written is logged, and
  the relay goes on. It is written every :data:`SAVE_EVERY_S` where it has changed, and at a stop.
* The bytes are MessagePack with a version; what another version wrote is not read.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from relay.pipeline.metrics.histograms.assembler import Assembly, Members

_log = logging.getLogger("relay.control.durability")

NAME: Final = "layouts"
VERSION: Final = 1
SAVE_EVERY_S: Final = 10.0


class _Document(msgspec.Struct, frozen=True):
    version: int
    layouts: list[Members]
    families: dict[bytes, int]
    """Digest to place in ``layouts``: most families have the members of others."""


def encode_layouts(layouts: Mapping[bytes, Members]) -> bytes:
    """The file's content."""
    places: dict[Members, int] = {}
    families = {
        digest: places.setdefault(members, len(places)) for digest, members in layouts.items()
    }
    return msgspec.msgpack.encode(_Document(VERSION, list(places), families))


def decode_layouts(data: bytes) -> dict[bytes, Members]:
    """What :func:`encode_layouts` took; nothing where another version wrote it.

    Raises ValueError where it is damaged.
    """
    try:
        document = msgspec.msgpack.decode(data, type=_Document)
        if document.version != VERSION:
            return {}
        return {digest: document.layouts[place] for digest, place in document.families.items()}
    except (msgspec.DecodeError, IndexError) as error:
        raise ValueError(f"not layouts: {error}") from error


class LayoutFile:
    """Keeps the file of one data directory in step with an assembly. Lives on the event loop."""

    def __init__(self, directory: Path, assembly: Assembly) -> None:
        self._path = directory / NAME
        self._assembly = assembly
        self._version = assembly.layouts_version
        self._saved_at = -SAVE_EVERY_S
        self._saving: asyncio.Future[None] | None = None

    def take(self) -> None:
        """Let families be known again; before the first request."""
        try:
            self._assembly.recall_layouts(decode_layouts(self._path.read_bytes()))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            _log.error("histograms are learned anew: %s cannot be used: %s", self._path, error)

    def keep(self, tick: float) -> None:
        """Begin to save where something has changed and enough time has passed, in s."""
        if self._saving is not None or tick < self._saved_at + SAVE_EVERY_S:
            return
        if self._version != self._assembly.layouts_version:
            self._saved_at = tick
            layouts = self._copy()
            loop = asyncio.get_running_loop()
            self._saving = loop.run_in_executor(None, self._write, layouts)
            self._saving.add_done_callback(self._saved)

    async def leave(self) -> None:
        """Save what has changed, at the end."""
        if self._saving is not None:
            await self._saving
        if self._version != self._assembly.layouts_version:
            await asyncio.to_thread(self._write, self._copy())

    def _copy(self) -> dict[bytes, Members]:
        self._version = self._assembly.layouts_version
        return dict(self._assembly.layouts)

    def _saved(self, done: asyncio.Future[None]) -> None:
        self._saving = None
        done.result()  # a bug is seen

    def _write(self, layouts: Mapping[bytes, Members]) -> None:
        fresh = self._path.with_suffix(".new")
        try:
            with fresh.open("wb") as file:
                file.write(encode_layouts(layouts))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            _log.warning("what histograms consist of cannot be saved: %s", error.strerror)

    def __repr__(self) -> str:
        return f"<LayoutFile {self._path}>"
