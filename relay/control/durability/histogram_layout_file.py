"""The component series of histograms and summaries, as a file of the data directory.

Rules:

* A family with known components sends a point as soon as it is complete; a new one waits for
  ``translation.assemblyTimeout`` first. The file keeps families known over a restart.
* Losing the file costs that wait only: failures are logged. It is written every
  :data:`SAVE_EVERY_S` if it changed, and at a stop.
* The content is MessagePack with a version; other versions are ignored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from relay.pipeline.metrics.histograms.assembler import Assembly, Members
from relay.storage.log.filesystem import Disk, reason

_log = logging.getLogger("relay.control.durability")

NAME: Final = "layouts"
VERSION: Final = 1
SAVE_EVERY_S: Final = 10.0


class _Document(msgspec.Struct, frozen=True):
    version: int
    layouts: list[Members]
    families: dict[bytes, int]
    """Digest to index in ``layouts``: most families share the components of another."""


def encode_layouts(layouts: Mapping[bytes, Members]) -> bytes:
    """Encode the file's content."""
    places: dict[Members, int] = {}
    families = {
        digest: places.setdefault(members, len(places)) for digest, members in layouts.items()
    }
    return msgspec.msgpack.encode(_Document(VERSION, list(places), families))


def decode_layouts(data: bytes) -> dict[bytes, Members]:
    """Decode the file's content; {} for another version. Raises ValueError if it is damaged."""
    try:
        document = msgspec.msgpack.decode(data, type=_Document)
        if document.version != VERSION:
            return {}
        return {digest: document.layouts[place] for digest, place in document.families.items()}
    except (msgspec.DecodeError, IndexError) as error:
        raise ValueError(f"not layouts: {error}") from error


class LayoutFile:
    """Saves the layouts of an assembly. Use it on the event loop."""

    def __init__(self, directory: Path, assembly: Assembly) -> None:
        self._path = directory / NAME
        self._assembly = assembly
        self._version = assembly.layouts_version
        self._saved_at = -SAVE_EVERY_S
        self._saving: asyncio.Future[None] | None = None

    def load(self) -> None:
        """Load the file; call it before the first request."""
        try:
            self._assembly.recall_layouts(decode_layouts(self._path.read_bytes()))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            _log.error(
                "histogram layouts are learned again: %s cannot be used: %s", self._path, error
            )

    def save_if_due(self, tick: float) -> None:
        """Begin to save if layouts changed and the last save is old enough; ``tick`` in s."""
        if self._saving is not None or tick < self._saved_at + SAVE_EVERY_S:
            return
        if self._version != self._assembly.layouts_version:
            self._saved_at = tick
            layouts = self._copy()
            loop = asyncio.get_running_loop()
            self._saving = loop.run_in_executor(None, self._write, layouts)
            self._saving.add_done_callback(self._saved)

    async def save(self) -> None:
        """Finish the running save and save the last changes."""
        if self._saving is not None:
            await self._saving
        if self._version != self._assembly.layouts_version:
            await asyncio.to_thread(self._write, self._copy())

    def _copy(self) -> dict[bytes, Members]:
        self._version = self._assembly.layouts_version
        return dict(self._assembly.layouts)

    def _saved(self, done: asyncio.Future[None]) -> None:
        self._saving = None
        done.result()  # raises bugs

    def _write(self, layouts: Mapping[bytes, Members]) -> None:
        try:
            Disk().replace(self._path, encode_layouts(layouts), sync=True)
        except OSError as error:
            _log.warning("histogram layouts cannot be saved: %s", reason(error))

    def __repr__(self) -> str:
        return f"<LayoutFile {self._path}>"
