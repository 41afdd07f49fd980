"""The file format of the journal and the sinks' queues: a header, then checksummed frames. Pure.

Rules:

* The file header names the kind of file and its format. An undamaged header of an unknown format is
  refused (:class:`FormatError`); frames behind a damaged one are read. Earlier formats are read,
  the newest is written (``docs/upgrade.md``).
* A frame is a header, a short ``meta`` and a ``body``. Header and meta have their own checksum, so
  the length is trusted before the body: damage inside a body costs that frame only.
* Behind damage, the next frame is found by its magic and checksum. Damage never raises.
* All integers are little-endian. The tables::

    =======  ======  =============================================
    offset   bytes   file header (32)
    =======  ======  =============================================
    0        8       kind of file
    8        4       format
    12       4       reserved, 0
    16       8       a number, by kind
    24       4       reserved, 0
    28       4       CRC-32 of the bytes before
    =======  ======  =============================================

    =======  ======  =============================================
    offset   bytes   frame header (20), then meta, then body
    =======  ======  =============================================
    0        4       ``\\xf1JF\\x01``
    4        4       CRC-32 of the rest of the header and the meta
    8        2       format
    10       2       bytes of the meta
    12       4       bytes of the body
    16       4       CRC-32 of the body
    =======  ======  =============================================
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import msgspec
from isal.isal_zlib import crc32

from relay.runtime.errors import RelayError

FORMAT = 3
"""The format that is written below the data directory. Newer ones are refused."""
FORMAT_MIN = 1
"""The oldest format that is read."""
FORMATS = f"reads formats {FORMAT_MIN} to {FORMAT} and writes format {FORMAT}"
"""For messages."""

MAGIC = b"\xf1JF\x01"

_FILE = struct.Struct("<8sIIQI")
_CRC = struct.Struct("<I")
_FRAME = struct.Struct("<4sI")
_SIZES = struct.Struct("<HHII")
FILE_HEADER_BYTES = _FILE.size + _CRC.size
HEADER_BYTES = _FRAME.size + _SIZES.size
assert FILE_HEADER_BYTES == 32
assert HEADER_BYTES == 20

META_BYTES_MAX = 1 << 10
BODY_BYTES_MAX = 1 << 30
"""The largest body that settings allow."""

SEARCH_BYTES = 1 << 16
"""Bytes per read while searching for the next frame."""

Read = Callable[[int, int], bytes]
"""``read(offset, size)`` returns ``size`` bytes of a file, fewer only at its end."""


class FormatError(RelayError):
    """Raised for an undamaged file in a format that this build does not read."""

    def __init__(self, found: int) -> None:
        self.found = found
        super().__init__(f"format {found}; this build {FORMATS}")


def is_known(version: int) -> bool:
    """Return whether this build reads a format."""
    return FORMAT_MIN <= version <= FORMAT


class FrameHeader(msgspec.Struct, frozen=True):
    """The undamaged header and meta of a frame. Offsets count from the start of the file."""

    meta: bytes
    body_start: int
    body_bytes: int
    body_crc: int

    @property
    def start(self) -> int:
        """Return where the frame begins."""
        return self.body_start - len(self.meta) - HEADER_BYTES

    @property
    def end(self) -> int:
        """Return where the next frame begins."""
        return self.body_start + self.body_bytes

    def matches(self, body: bytes) -> bool:
        """Return whether ``body`` is the frame's body, undamaged."""
        return len(body) == self.body_bytes and crc32(body) == self.body_crc


class Frame(msgspec.Struct, frozen=True):
    """An undamaged frame and the offset of its end."""

    meta: bytes
    body: bytes
    end: int


class Damage(msgspec.Struct, frozen=True):
    """Bytes ``start`` to ``end`` without an undamaged frame; ``tail``: to the end of the file."""

    start: int
    end: int
    tail: bool


def encode_file_header(kind: bytes, number: int) -> bytes:
    """Encode a file header; ``kind`` has 8 bytes."""
    head = _FILE.pack(kind, FORMAT, 0, number, 0)
    return head + _CRC.pack(crc32(head))


def decode_file_header(head: bytes, kind: bytes) -> int | None:
    """Return the header's number, None if it is damaged. Raises FormatError."""
    if len(head) < FILE_HEADER_BYTES:
        return None
    crc: int = _CRC.unpack_from(head, _FILE.size)[0]
    found, version, _, number, _ = _FILE.unpack_from(head)
    if crc32(head[: _FILE.size]) != crc or found != kind:
        return None
    if not is_known(version):
        raise FormatError(version)
    return int(number)


def encode_frame(meta: bytes, body: bytes, *, version: int = FORMAT) -> bytes:
    """Encode a frame; ``version`` is its format."""
    return encode_frame_head(meta, body, version=version) + body


def frame_version(data: bytes) -> int:
    """Return the format of the frame at the beginning of ``data``, which is undamaged."""
    return int(_SIZES.unpack_from(data, _FRAME.size)[0])


def encode_frame_head(meta: bytes, body: bytes, *, version: int = FORMAT) -> bytes:
    """Encode all of a frame but its body, so that the body need not be copied."""
    assert len(meta) <= META_BYTES_MAX
    assert len(body) <= BODY_BYTES_MAX
    rest = _SIZES.pack(version, len(meta), len(body), crc32(body)) + meta
    return _FRAME.pack(MAGIC, crc32(rest)) + rest


def read_header(read: Read, offset: int, size: int) -> FrameHeader | None:
    """Decode the frame header at ``offset``; None if it is damaged.

    Also None if its body does not fit into the file of ``size`` bytes.
    """
    head = read(offset, HEADER_BYTES)
    if len(head) < HEADER_BYTES:
        return None
    magic, crc = _FRAME.unpack_from(head)
    version, meta_bytes, body_bytes, body_crc = _SIZES.unpack_from(head, _FRAME.size)
    body_start = offset + HEADER_BYTES + meta_bytes
    if magic != MAGIC or not is_known(version) or meta_bytes > META_BYTES_MAX:
        return None
    if body_bytes > BODY_BYTES_MAX or body_start + body_bytes > size:
        return None
    meta = read(offset + HEADER_BYTES, meta_bytes)
    if crc32(meta, crc32(head[_FRAME.size :])) != crc:
        return None
    return FrameHeader(meta, body_start, body_bytes, body_crc)


def find_magic(read: Read, offset: int, size: int) -> int:
    """Return the offset of the next magic from ``offset`` on; ``size`` if there is none."""
    while offset < size:
        chunk = read(offset, SEARCH_BYTES)
        if not chunk:
            return size
        found = chunk.find(MAGIC)
        if found >= 0:
            return offset + found
        # A magic may span the end of this chunk.
        offset += max(1, len(chunk) - len(MAGIC) + 1)
    return size


def check_format(read: Read, kind: bytes) -> int:
    """Return the offset of the first frame in a file. Raises FormatError.

    It is behind the file header, or 0 if that is damaged: every frame can be read without it.
    """
    head = decode_file_header(read(0, FILE_HEADER_BYTES), kind)
    return 0 if head is None else FILE_HEADER_BYTES


def read_frames(
    read: Read, start: int, size: int, *, is_valid: Callable[[bytes], bool] = lambda _: True
) -> Iterator[Frame | Damage]:
    """Yield the frames of a file of ``size`` bytes from ``start`` on, and the damage between them.

    A frame whose meta is not ``is_valid`` counts as damage.
    """

    def frame_at(offset: int) -> Frame | int:
        header = read_header(read, offset, size)
        if header is not None and is_valid(header.meta):
            body = read(header.body_start, header.body_bytes)
            if header.matches(body):
                return Frame(header.meta, body, header.end)
        return find_magic(read, offset + 1, size)

    return _scan(frame_at, start, size)


def read_headers(
    read: Read, start: int, size: int, *, is_valid: Callable[[bytes], bool]
) -> Iterator[FrameHeader | Damage]:
    """Like :func:`read_frames`, but skip bodies: damage inside a body shows when that is read."""

    def header_at(offset: int) -> FrameHeader | None:
        header = read_header(read, offset, size)
        return header if header is not None and is_valid(header.meta) else None

    def frame_at(offset: int) -> FrameHeader | int:
        header = header_at(offset)
        if header is None:
            return find_magic(read, offset + 1, size)
        if header.end < size and header_at(header.end) is None:
            # If bytes were torn out of the body, the next frame begins before its end.
            within = find_magic(read, header.body_start, size)
            while within < header.end:
                if header_at(within) is not None:
                    return within
                within = find_magic(read, within + 1, size)
        return header

    return _scan(frame_at, start, size)


class _Ends(Protocol):
    @property
    def end(self) -> int: ...


F = TypeVar("F", bound=_Ends)


def _scan(frame_at: Callable[[int], F | int], start: int, size: int) -> Iterator[F | Damage]:
    """Yield the results of ``frame_at`` and the gaps between them.

    ``frame_at`` returns a frame, or the next offset to try.
    """
    offset = good = start
    while offset < size:
        found = frame_at(offset)
        if isinstance(found, int):
            offset = found
            continue
        if good < offset:
            yield Damage(good, offset, tail=False)
        yield found
        offset = good = found.end
    if good < size:
        yield Damage(good, size, tail=True)
