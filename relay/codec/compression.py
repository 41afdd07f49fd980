"""Decompress senders' bodies (snappy blocks, zstd, gzip) and compress the relay's own.

* In remote write the first bytes decide the codec, not the header: vmagent re-sends persisted
  blocks under the wrong one (VictoriaMetrics, ``lib/protoparser/promremotewrite/stream``). They are
  unambiguous: a snappy block starts with its length and a literal tag, whose low bits are 00; the
  second byte of every zstd frame (0xB5, or 0x2A where skippable) ends in other bits.
* No claimed size is allocated before it is compared with the limit and with what the body can hold.
  Frames of unknown size are streamed, at most one byte beyond the limit, through a bounded window.
* A truncated frame or bytes behind the last frame are errors.
* All functions may run on any thread; the interpreter's lock is given up meanwhile.
"""

from __future__ import annotations

import zlib
from typing import Literal, NamedTuple

import zstandard
from isal import igzip_lib, isal_zlib

from relay.codec import snappy, snappy_block
from relay.runtime.errors import DecodeError, TooLargeError

SenderEncoding = Literal["snappy", "zstd", "gzip", "none"]
OwnEncoding = Literal["gzip", "zstd", "none", "snappy"]

SENDER_ENCODINGS: tuple[SenderEncoding, ...] = ("snappy", "zstd")
"""Encodings of remote write."""
OTLP_ENCODINGS: tuple[SenderEncoding, ...] = ("gzip", "zstd", "none")
"""Encodings of OTLP."""

GZIP_LEVEL = 1
"""gzip level, of 0 to 3 in ISA-L. On OTLP of a node exporter (11,737 points, 766 kB), ratio and
cost per point: level 0 10.4 at 0.054 µs; 1 12.1 at 0.058 µs; 2 12.1 at 0.057 µs; 3 11.8 at 0.53
µs."""

ZSTD_LEVEL = 1
"""zstd level. On the same data level 1 has ratio 19.1 at 0.082 µs per point, level 3 20.0 at 0.080
to 0.090 µs."""

_GZIP_MEM_LEVEL = igzip_lib.MEM_LEVEL_EXTRA_LARGE
"""Room for 128 Ki symbols instead of 64 Ki: half as many code tables, 3 to 5 % less CPU."""
_GZIP_WBITS = 16 + zlib.MAX_WBITS  # gzip container instead of zlib's
_ISAL_ERROR: type[Exception] = vars(isal_zlib)["error"]  # its stub says it is an instance
_GZIP_MEMBERS_MAX = 256  # senders write one (RFC 1952, 2.2 allows any number)
_GZIP_PART_BYTES = 64 << 10
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE_MAGIC = b"\x2a\x4d\x18"  # preceded by a byte 0x50 to 0x5f (RFC 8878, 3.1.2)
_FRAMED_SNAPPY = b"\xff\x06\x00\x00sNaPpY"  # google/snappy, framing_format.txt, 4.1
_SNAPPY_RATIO_MAX = 22  # three bytes encode at most a copy of 64 (format_description.txt, 2.2.2)
_ZSTD_BLOCK_BYTES_MAX = 128 << 10  # RFC 8878, 3.1.1.2.4
_ZSTD_WINDOW_BYTES_MAX = 8 << 20  # what every decoder should support (RFC 8878, 3.1.1.1.2)
_ZSTD_HEADER_BYTES_MAX = 18  # RFC 8878, 3.1.1.1
_ZSTD_FRAMES_MAX = 256  # senders write one; a frame costs the decoder far more than its bytes
_ZSTD_BLOCKS_MAX = 4096  # of all frames; half a GiB if they are full


def decompress(body: bytes, encoding: SenderEncoding, *, bytes_max: int) -> bytes:
    """Decompress a sender's body by its first bytes, whatever its label; b"" stays b"".

    Raise TooLargeError before allocating a result over ``bytes_max``, and DecodeError for anything
    that is not exactly one snappy block or a sequence of zstd frames.
    """
    if not body:
        return b""
    if _starts_zstd(body, 0):
        return _decompress_zstd(body, bytes_max)
    if body.startswith(_FRAMED_SNAPPY):
        raise DecodeError("framed snappy; remote write uses the block format", offset=0)
    try:
        return _decompress_snappy(body, bytes_max)
    except DecodeError:
        if encoding == "zstd":
            raise DecodeError("the body is neither zstd nor a snappy block") from None
        raise


def decompress_as_said(body: bytes, encoding: SenderEncoding, *, bytes_max: int) -> bytes:
    """Decompress a body of OTLP by its label. Raise TooLargeError and DecodeError.

    A claimed size may be wrong, so up to ``bytes_max`` bytes are decoded before it is refused.
    """
    if encoding == "gzip":
        return _decompress_gzip(body, bytes_max)
    if encoding == "zstd":
        if not _starts_zstd(body, 0):
            raise DecodeError("the body is not zstd", offset=0)
        return _decompress_zstd(body, bytes_max)
    assert encoding == "none", encoding
    if len(body) > bytes_max:
        raise _too_large(len(body), bytes_max)
    return body


def fits(body: bytes, size: int, encoding: SenderEncoding = "snappy") -> bool:
    """Return whether a body claims to decompress to at most ``size`` bytes.

    Corrupt bodies return True: :func:`decompress` refuses them without decoding.
    """
    if not body:
        return True
    if encoding == "none":
        return len(body) <= size
    if encoding == "gzip":  # ISIZE, of the last member (RFC 1952, 2.3.1)
        return int.from_bytes(body[-4:], "little") <= size
    try:
        if _starts_zstd(body, 0):
            return sum(frame.size_max for frame in _measure_frames(body)) <= size
        claimed = _claimed_by_snappy(body)
    except (zstandard.ZstdError, DecodeError, TooLargeError):
        return True  # decompress() refuses it before decoding
    return claimed <= size


def _starts_zstd(body: bytes, pos: int) -> bool:
    if body.startswith(_ZSTD_MAGIC, pos):
        return True
    return body.startswith(_SKIPPABLE_MAGIC, pos + 1) and body[pos] >> 4 == 5


def _too_large(size: int | None, bytes_max: int) -> TooLargeError:
    claimed = "more" if size is None else f"{size} bytes"
    return TooLargeError(f"the body decompresses to {claimed}, over the limit of {bytes_max} bytes")


def _decompress_snappy(body: bytes, bytes_max: int) -> bytes:
    size = _claimed_by_snappy(body)
    if size > bytes_max:
        raise _too_large(size, bytes_max)
    if size > len(body) * _SNAPPY_RATIO_MAX:
        raise DecodeError(f"a snappy block of {len(body)} bytes cannot hold {size}", offset=0)
    plain: bytes | None = snappy_block.plain_of(body)
    if plain is None:
        return snappy.decompress(body)  # which names the fault
    return plain


def _claimed_by_snappy(body: bytes) -> int:
    size: int = snappy_block.claimed_length(body)
    return size if size >= 0 else snappy.claimed_length(body)


def _decompress_gzip(body: bytes, bytes_max: int) -> bytes:
    pieces: list[bytes] = []
    start, left = 0, bytes_max
    for _ in range(_GZIP_MEMBERS_MAX):
        left, start = _decode_member(body, start, left, bytes_max, pieces)
        if start == len(body):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    raise TooLargeError(f"the body has more than {_GZIP_MEMBERS_MAX} gzip members")


def _decode_member(
    body: bytes, start: int, left: int, bytes_max: int, pieces: list[bytes]
) -> tuple[int, int]:
    """Decode the gzip member at ``start``; return what is left of ``bytes_max``, and its end.

    The first member gets all of the body, which it nearly always is; others get small parts of it,
    since the decoder copies what is behind a member.
    """
    decoder = isal_zlib.decompressobj(wbits=_GZIP_WBITS)
    at, size = start, len(body) if start == 0 else _GZIP_PART_BYTES
    while at < len(body):
        part = body[at : at + size]
        try:
            piece = decoder.decompress(part, left + 1)
        except _ISAL_ERROR as error:
            raise DecodeError(f"corrupt gzip member: {error}") from error
        left -= len(piece)
        if left < 0:
            raise _too_large(None, bytes_max)
        pieces.append(piece)
        at += len(part)
        if decoder.eof:
            return left, at - len(decoder.unused_data)
    raise DecodeError("truncated gzip member", offset=start)


_spare_compressors: list[zstandard.ZstdCompressor] = []
"""Pool of compressors: a new one costs 30 µs per batch of 500 points. A compressor serves one call
at a time and is removed from the pool meanwhile, in one step: threads share the pool."""
_spare_decompressors: list[zstandard.ZstdDecompressor] = []
"""Pool of decompressors: a new one costs 13 µs per body."""


class _Frame(NamedTuple):
    """Extent of one zstd frame, read from its headers. ``exact``: the frame declares its size."""

    start: int
    stop: int
    size_max: int
    exact: bool


def _decompress_zstd(body: bytes, bytes_max: int) -> bytes:
    try:
        frames = _measure_frames(body)
        declared = sum(frame.size_max for frame in frames if frame.exact)
        if declared > bytes_max:
            raise _too_large(declared, bytes_max)
        pieces: list[bytes] = []
        left = bytes_max
        for frame in frames:
            piece = _decode_frame(body[frame.start : frame.stop], frame, left)
            left -= len(piece)
            if left < 0:
                raise _too_large(None, bytes_max)
            pieces.append(piece)
    except zstandard.ZstdError as error:
        raise DecodeError(f"corrupt zstd frame: {error}") from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _zstd_decompressor() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)


def _decode_frame(data: bytes, frame: _Frame, left: int) -> bytes:
    """Decode one whole frame; if it declares no size, stop at ``left`` + 1 bytes."""
    if frame.exact:
        try:
            decoder = _spare_decompressors.pop()
        except IndexError:
            decoder = _zstd_decompressor()
        plain = decoder.decompress(data)
        _spare_decompressors.append(decoder)
        return plain
    # Not pooled: its window takes up to 8 MiB.
    with _zstd_decompressor().stream_reader(data) as reader:
        # One byte more than possible, so that the reader reaches the frame's end and its checksum.
        return reader.read(min(frame.size_max, left) + 1)


def _measure_frames(body: bytes) -> list[_Frame]:
    """Split a body into its zstd frames by their headers alone; skippable frames are omitted.

    The library's stream reader accepts truncated frames and its one-shot call needs the size, so
    both need the frame's extent. Raise DecodeError, TooLargeError or ZstdError.
    """
    frames: list[_Frame] = []
    pos = 0
    blocks_left = _ZSTD_BLOCKS_MAX
    for _ in range(_ZSTD_FRAMES_MAX):
        if not _starts_zstd(body, pos):
            raise DecodeError("trailing bytes after a zstd frame", offset=pos)
        if body[pos] >> 4 == 5:  # skippable: magic, size in four bytes, contents
            stop = pos + 8 + int.from_bytes(body[pos + 4 : pos + 8], "little")
        else:
            frame, blocks_left = _measure_frame(body, pos, blocks_left)
            frames.append(frame)
            stop = frame.stop
        if stop > len(body):
            raise DecodeError("truncated zstd frame", offset=pos)
        if stop == len(body):
            return frames
        pos = stop
    raise TooLargeError(f"the body has more than {_ZSTD_FRAMES_MAX} zstd frames")


def _measure_frame(body: bytes, start: int, blocks_max: int) -> tuple[_Frame, int]:
    """Measure the frame at ``start`` by its block headers (RFC 8878, 3.1.1.2).

    Return it and how many more blocks there may be.

    ``stop`` may exceed the body's length if the last block or the checksum is cut off.
    """
    header = body[start : start + _ZSTD_HEADER_BYTES_MAX]
    parameters = zstandard.get_frame_parameters(header)
    pos = start + zstandard.frame_header_size(header)
    size_max, blocks_left = 0, blocks_max
    while blocks_left:
        blocks_left -= 1
        if pos + 3 > len(body):
            raise DecodeError("truncated zstd frame", offset=start)
        block = int.from_bytes(body[pos : pos + 3], "little")
        last, kind, size = block & 1, block >> 1 & 3, block >> 3
        # Raw and repeated blocks declare their decoded size, compressed ones their encoded size;
        # the decoder refuses the reserved kind.
        size_max += _ZSTD_BLOCK_BYTES_MAX if kind == 2 else size
        pos += 3 + (1 if kind == 1 else size)
        if last:
            break
    else:
        raise TooLargeError(f"the body has more than {_ZSTD_BLOCKS_MAX} zstd blocks")
    pos += 4 if parameters.has_checksum else 0
    declared = parameters.content_size
    if declared in (
        zstandard.CONTENTSIZE_UNKNOWN,
        0,
    ):
        return _Frame(start, pos, size_max, exact=False), blocks_left
    if declared > size_max:
        raise DecodeError(f"zstd frame too short for its {declared} bytes", offset=start)
    return _Frame(start, pos, declared, exact=True), blocks_left


def compress(data: bytes, encoding: OwnEncoding) -> bytes:
    """Compress data for a sink or a queue; deterministic."""
    if encoding == "gzip":
        return igzip_lib.compress(data, GZIP_LEVEL, igzip_lib.COMP_GZIP, _GZIP_MEM_LEVEL)
    if encoding == "zstd":
        try:
            encoder = _spare_compressors.pop()
        except IndexError:
            encoder = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        packed = encoder.compress(data)
        _spare_compressors.append(encoder)
        return packed
    if encoding == "snappy":
        return snappy.compress(data)
    return data


def decompress_own(data: bytes, encoding: OwnEncoding) -> bytes:
    """Undo :func:`compress`. Raise DecodeError.

    Only for the relay's own data: the size is unbounded.
    """
    try:
        if encoding == "gzip":
            decoder = zlib.decompressobj(_GZIP_WBITS)
            plain = decoder.decompress(data)
            if not decoder.eof or decoder.unused_data:
                raise DecodeError("our own gzip data is truncated or has trailing bytes")
            return plain
        if encoding == "zstd":
            return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
        if encoding == "snappy":
            return snappy.decompress(data)
    except (zlib.error, zstandard.ZstdError) as error:
        raise DecodeError(f"our own {encoding} data is corrupt: {error}") from error
    return data
