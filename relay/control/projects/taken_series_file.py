"""The series that projects at their limit take, as a file of the data directory.

Rules:

* After a restart the same series are taken again, whichever come first: places are kept for them
  until series that do not come would have been forgotten anyway.
* A series is known by the CRC of its labels. Two that share one cost a place at most.
* The file is saved once a minute and at a stop: deleted where no project is at its limit and no
  place is kept. Losing it costs that the first series that come are taken: failures are logged.
* The content is MessagePack with a version; other versions are ignored.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from relay.storage.log.filesystem import Disk, reason

_log = logging.getLogger("relay.control.projects")

NAME: Final = "taken"
VERSION: Final = 1


class _Document(msgspec.Struct, frozen=True):
    version: int
    projects: dict[str, bytes]
    """CRCs as little-endian 32-bit numbers."""


def encode_taken(projects: Mapping[str, set[int]]) -> bytes:
    """Encode the file's content: the CRCs of the series of each project."""
    packed = {
        name: b"".join(crc.to_bytes(4, "little") for crc in sorted(crcs))
        for name, crcs in projects.items()
    }
    return msgspec.msgpack.encode(_Document(VERSION, packed))


def decode_taken(data: bytes) -> dict[str, set[int]]:
    """Decode the file's content; {} for another version. Raises ValueError if it is damaged."""
    try:
        document = msgspec.msgpack.decode(data, type=_Document)
    except msgspec.DecodeError as error:
        raise ValueError(f"not taken series: {error}") from error
    if document.version != VERSION:
        return {}
    found: dict[str, set[int]] = {}
    for name, packed in document.projects.items():
        if len(packed) % 4:
            raise ValueError(f"not taken series: {len(packed)} bytes of {name}")
        found[name] = {
            int.from_bytes(packed[at : at + 4], "little") for at in range(0, len(packed), 4)
        }
    return found


def load_taken(directory: Path) -> dict[str, set[int]]:
    """Read the file; {} where there is none, or it cannot be used."""
    path = directory / NAME
    try:
        return decode_taken(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.error("the first series that come are taken: %s cannot be used: %s", path, error)
        return {}


def save_taken(directory: Path, projects: Mapping[str, set[int]]) -> None:
    """Replace the file, or delete it where there are no projects; may run in a thread."""
    path = directory / NAME
    try:
        if not projects:
            path.unlink(missing_ok=True)
            return
        Disk().replace(path, encode_taken(projects), sync=False)
    except OSError as error:
        _log.error("%s cannot be written: %s", path, reason(error))
