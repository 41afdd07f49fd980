"""Compression at its edges: labels that lie, bombs, truncation, trailing bytes."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator

import cramjam
import pytest
import zstandard

from relay.codec.compression import (
    OwnEncoding,
    SenderEncoding,
    compress,
    decompress,
    decompress_as_said,
    decompress_own,
)
from relay.codec.protobuf import varint
from relay.runtime.errors import DecodeError, TooLargeError
from tests.kit.paths import ROOT
from tests.own_time import HELD_S_MAX, slowness

MIB = 1 << 20
LIMIT = 4 * MIB
PLAIN = b"remote write " * 1000

REPEATED_BLOCK = b"\x02\x00\x10\x61"  # RLE, 128 KiB of "a", not the last one
LAST_BLOCK = b"\x01\x00\x00"  # raw, empty, the last one
UNKNOWN_SIZE = b"\x28\xb5\x2f\xfd\x00\x58"  # no content size, a window of 2 MiB


def snappy(data: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(data))


def zstd(data: bytes, *, checksum: bool = False) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=checksum).compress(data)


def zstd_of_unknown_size(data: bytes, *, checksum: bool = False, window_log: int = 17) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        1, window_log=window_log, write_checksum=checksum, write_content_size=False
    )
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return stream.compress(data) + stream.flush()


def gibibyte_of_unknown_size() -> bytes:
    """One GiB in 16 frames, each of them within the bounds on frames and blocks."""
    return (UNKNOWN_SIZE + REPEATED_BLOCK * 512 + LAST_BLOCK) * 16


def gibibyte_declared() -> bytes:
    stream = zstandard.ZstdCompressor(level=1).compressobj(size=64 * MIB)
    frame = b"".join(stream.compress(bytes(MIB)) for _ in range(64)) + stream.flush()
    return frame * 16


SKIPPABLE = b"\x5a\x2a\x4d\x18\x03\x00\x00\x00abc"

ENCODED: dict[str, Callable[[bytes], bytes]] = {
    "snappy": snappy,
    "zstd": zstd,
    "zstd with checksum": lambda data: zstd(data, checksum=True),
    "zstd of unknown size": zstd_of_unknown_size,
    "zstd of unknown size with checksum": lambda data: zstd_of_unknown_size(data, checksum=True),
    "zstd in two frames": lambda data: zstd(data[:5]) + zstd_of_unknown_size(data[5:]),
    "zstd behind a skippable frame": lambda data: SKIPPABLE + zstd(data) + SKIPPABLE,
}


@pytest.fixture
def peak_bytes() -> Iterator[Callable[[], int]]:
    """Python's own allocations since the test began, at their highest, in bytes."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("label", ["snappy", "zstd"])
@pytest.mark.parametrize("encode", ENCODED.values(), ids=ENCODED)
@pytest.mark.parametrize("data", [b"", b"x", PLAIN], ids=["empty", "byte", "text"])
def test_a_body_is_decoded_by_its_bytes_whatever_its_label(
    data: bytes, encode: Callable[[bytes], bytes], label: SenderEncoding
) -> None:
    assert decompress(encode(data), label, bytes_max=LIMIT) == data


@pytest.mark.parametrize("label", ["snappy", "zstd"])
def test_an_empty_body_is_empty(label: SenderEncoding) -> None:
    assert decompress(b"", label, bytes_max=LIMIT) == b""


@pytest.mark.parametrize("encode", ENCODED.values(), ids=ENCODED)
def test_the_limit_is_inclusive(encode: Callable[[bytes], bytes]) -> None:
    body = encode(PLAIN)
    assert decompress(body, "zstd", bytes_max=len(PLAIN)) == PLAIN
    with pytest.raises(TooLargeError):
        decompress(body, "zstd", bytes_max=len(PLAIN) - 1)


@pytest.mark.parametrize("encode", ENCODED.values(), ids=ENCODED)
def test_every_truncation_is_an_error(encode: Callable[[bytes], bytes]) -> None:
    body = encode(b"a short text, and a short text")
    whole = {encode(b""), b""}
    for size in range(1, len(body)):
        cut = body[:size]
        if cut in whole or cut == SKIPPABLE or (cut + SKIPPABLE == body):
            continue
        if cut == zstd(b"a sho"):
            continue  # the first of two frames, whole
        with pytest.raises(DecodeError):
            decompress(cut, "zstd", bytes_max=LIMIT)


@pytest.mark.parametrize("tail", [b"\x00", b"garbage", snappy(PLAIN), b"\x28\xb5\x2f"])
@pytest.mark.parametrize("encode", [zstd, zstd_of_unknown_size])
def test_bytes_behind_a_zstd_frame_are_an_error(
    encode: Callable[[bytes], bytes], tail: bytes
) -> None:
    with pytest.raises(DecodeError):
        decompress(encode(PLAIN) + tail, "zstd", bytes_max=LIMIT)


@pytest.mark.parametrize("encode", [zstd, zstd_of_unknown_size])
def test_a_wrong_checksum_is_an_error(encode: Callable[..., bytes]) -> None:
    body = bytearray(encode(PLAIN, checksum=True))
    body[-1] ^= 1
    with pytest.raises(DecodeError):
        decompress(bytes(body), "zstd", bytes_max=LIMIT)


def test_framed_snappy_is_named() -> None:
    framed = bytes(cramjam.snappy.compress(PLAIN))
    with pytest.raises(DecodeError, match="framed snappy"):
        decompress(framed, "snappy", bytes_max=LIMIT)


@pytest.mark.parametrize(
    "body",
    [
        b"\x05",  # a length and nothing of that length
        b"\x05\x10hell",  # a literal that ends early
        b"\x04\x01\x01",  # a copy before there is anything to copy
        b"\xff\xff\xff\xff\xff\xff",  # a length of more than 32 bits
        snappy(PLAIN) + b"\x00",
        gzip.compress(PLAIN, mtime=0),  # its text is the test's name
        b"<html>",
    ],
)
@pytest.mark.parametrize("label", ["snappy", "zstd"])
def test_what_is_neither_is_an_error(body: bytes, label: SenderEncoding) -> None:
    with pytest.raises(DecodeError):
        decompress(body, label, bytes_max=LIMIT)


def test_a_window_beyond_what_decoders_must_support_is_refused_where_it_must_be_kept() -> None:
    body = zstd_of_unknown_size(PLAIN, window_log=27)
    with pytest.raises(DecodeError, match="memory"):
        decompress(body, "zstd", bytes_max=LIMIT)


def test_a_zstd_frame_that_declares_more_than_its_blocks_can_hold_is_refused() -> None:
    header = b"\x28\xb5\x2f\xfd\xa0" + (2 * MIB).to_bytes(
        4, "little"
    )  # single segment, 4-byte size
    with pytest.raises(DecodeError, match="too short for its 2097152 bytes"):
        decompress(header + LAST_BLOCK, "zstd", bytes_max=LIMIT)


def test_a_zstd_frame_that_declares_nothing_and_holds_something_is_refused() -> None:
    header = b"\x28\xb5\x2f\xfd\xa0" + bytes(4)
    with pytest.raises(DecodeError):
        decompress(header + b"\x03\x00\x10\x61", "zstd", bytes_max=LIMIT)


def test_a_snappy_length_that_the_body_cannot_fill_is_refused() -> None:
    with pytest.raises(DecodeError, match="cannot hold"):
        decompress(varint(LIMIT) + b"\x00a", "snappy", bytes_max=LIMIT)


@pytest.mark.parametrize(
    "body",
    [
        zstd(b"") * 1000,
        UNKNOWN_SIZE + b"\x00\x00\x00" * 5000 + LAST_BLOCK,
        (UNKNOWN_SIZE + b"\x00\x00\x00" * 500 + LAST_BLOCK) * 10,
    ],
    ids=["frames", "blocks", "blocks of several frames"],
)
def test_zstd_frames_and_blocks_are_bounded(body: bytes) -> None:
    with pytest.raises(TooLargeError, match="more than"):
        decompress(body, "zstd", bytes_max=LIMIT)


@pytest.mark.parametrize(
    "bomb",
    [gibibyte_declared(), gibibyte_of_unknown_size(), varint(1 << 30) + b"\xfe\x01\x00" * 1000],
    ids=["zstd", "zstd of unknown size", "snappy"],
)
def test_a_gibibyte_bomb_costs_less_than_twice_the_limit(
    bomb: bytes, peak_bytes: Callable[[], int]
) -> None:
    with pytest.raises(TooLargeError):
        decompress(bomb, "zstd", bytes_max=LIMIT)
    assert peak_bytes() < 2 * LIMIT


_BOMBS_IN_A_CHILD = """
import resource, sys
from relay.runtime.errors import WireError
from relay.codec.compression import decompress

limit = int(sys.argv[1])
bombs = [bytes.fromhex(line) for line in sys.stdin]
decompress(bytes.fromhex("28b52ffd0058" "010000"), "zstd", bytes_max=limit)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for bomb in bombs:
    try:
        decompress(bomb, "zstd", bytes_max=limit)
    except WireError:
        continue
    sys.exit("a bomb was accepted")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_bombs_do_not_grow_the_process_either() -> None:
    """Native allocations do not show in tracemalloc; a fresh process's resident set has both."""
    limit = 16 * MIB
    bombs = [
        gibibyte_of_unknown_size(),
        varint(1 << 30) + b"\xfe\x01\x00" * 1000,
        varint(limit) + b"\x00a",
    ]
    child = subprocess.run(
        [sys.executable, "-c", _BOMBS_IN_A_CHILD, str(limit)],
        input="\n".join(bomb.hex() for bomb in bombs),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=30,
    )
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) < 2 * limit


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "none", "snappy"])
@pytest.mark.parametrize("data", [b"", b"x", PLAIN], ids=["empty", "byte", "text"])
def test_own_data_round_trips_and_is_stable(data: bytes, encoding: OwnEncoding) -> None:
    body = compress(data, encoding)
    assert decompress_own(body, encoding) == data
    assert compress(data, encoding) == body


@pytest.mark.parametrize("rest", [b"", b"\x1f\x8b", gzip.compress(PLAIN)[:-1]])
def test_gzip_members_of_any_size_are_joined(rest: bytes) -> None:
    noise = random.Random(1).randbytes(300_000)
    plain = [b"", noise, b"x", noise[:65_500], noise[:65_536], noise[:1000], b""]
    body = b"".join(map(gzip.compress, plain)) + rest
    if rest:
        with pytest.raises(DecodeError):
            decompress_as_said(body, "gzip", bytes_max=LIMIT)
    else:
        whole = b"".join(plain)
        assert decompress_as_said(body, "gzip", bytes_max=len(whole)) == whole
        with pytest.raises(TooLargeError, match=f"the limit of {len(whole) - 1} bytes"):
            decompress_as_said(body, "gzip", bytes_max=len(whole) - 1)


def test_many_empty_gzip_members_are_refused_before_long() -> None:
    """The decoder copies what is behind a member; here that would be 2 GiB in all."""
    body = gzip.compress(b"") * (8 * MIB // 20)
    began_s = time.thread_time()
    with pytest.raises(TooLargeError, match="256 gzip members"):
        decompress_as_said(body, "gzip", bytes_max=LIMIT)
    assert time.thread_time() - began_s < HELD_S_MAX * slowness()


def test_own_gzip_is_what_everybody_calls_gzip() -> None:
    assert gzip.decompress(compress(PLAIN, "gzip")) == PLAIN


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-1], lambda b: b + b"x", lambda b: b"x" + b, lambda _: b""],
    ids=["truncated", "tail", "head", "nothing"],
)
def test_damaged_own_data_is_an_error(
    encoding: OwnEncoding, damage: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(DecodeError, match=r"own|truncated"):
        decompress_own(damage(compress(PLAIN, encoding)), encoding)
