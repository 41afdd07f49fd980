"""Snappy blocks by cramjam, which takes 1.5 MiB: it is loaded for the first block.

Blocks of senders are decompressed by :mod:`relay.codec.snappy_block`, which leaves here what it
does not take. All functions raise DecodeError for a corrupt block.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from relay.runtime.errors import DecodeError


def claimed_length(block: bytes) -> int:
    """Return the decompressed length that a block claims, in bytes."""
    cramjam = _library()
    try:
        size: int = cramjam.snappy.decompress_raw_len(block)
    except cramjam.DecompressionError as error:
        raise DecodeError(f"corrupt snappy block: {error}") from error
    return size


def compress(data: bytes) -> bytes:
    """Return a block."""
    return bytes(_library().snappy.compress_raw(data))


def decompress(block: bytes) -> bytes:
    """Decompress a block of any size."""
    cramjam = _library()
    try:
        return bytes(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError as error:
        raise DecodeError(f"corrupt snappy block: {error}") from error


@cache
def _library() -> Any:
    import cramjam  # noqa: PLC0415 - see above

    return cramjam
