"""Property: a sender's snappy block becomes what the library makes of it, or is left to it."""

from __future__ import annotations

import cramjam
from hypothesis import example, given
from hypothesis import strategies as st

from relay.codec import snappy
from relay.codec.snappy_block import claimed_length, plain_of
from relay.runtime.errors import DecodeError
from tests.kit.examples import examples

plain = st.lists(
    st.binary(max_size=100)
    | st.builds(lambda one, times: one * times, st.binary(max_size=80), st.integers(0, 50)),
    max_size=20,
).map(lambda pieces: b"".join(pieces + pieces[::2]))


def varint(number: int) -> bytes:
    """A length as blocks begin with it."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def literal(data: bytes, length_bytes: int = 0) -> bytes:
    """An element with ``data``; its size is in the tag, or in so many bytes behind it."""
    size = len(data) - 1
    if not length_bytes:
        return bytes([size << 2]) + data
    return bytes([59 + length_bytes << 2]) + size.to_bytes(length_bytes, "little") + data


def copy(size: int, distance: int, kind: int) -> bytes:
    """An element that repeats what is ``distance`` bytes before."""
    if kind == 1:
        return bytes([distance >> 8 << 5 | size - 4 << 2 | 1, distance & 255])
    return bytes([size - 1 << 2 | kind]) + distance.to_bytes(2 if kind == 2 else 4, "little")


elements = st.one_of(
    st.builds(literal, st.binary(min_size=1, max_size=60)),
    st.builds(literal, st.binary(min_size=1, max_size=200), st.integers(1, 4)),
    st.builds(copy, st.integers(4, 11), st.integers(0, 2047) | st.integers(0, 80), st.just(1)),
    st.builds(copy, st.integers(1, 64), st.integers(0, 65_535), st.just(2)),
    st.builds(copy, st.integers(1, 64), st.integers(0, 200), st.sampled_from([2, 2, 2, 3])),
)


def by_library(block: bytes) -> bytes | None:
    """What the library makes of a block; None for a corrupt one."""
    try:
        return snappy.decompress(block)
    except DecodeError:
        return None


def check(block: bytes) -> None:
    """A block is taken with the library's result, or left to the library."""
    before = bytes(block)
    found, expected = plain_of(block), by_library(block)
    assert found is None or found == expected
    assert block == before
    claimed = claimed_length(block)
    if claimed >= 0:
        assert claimed == cramjam.snappy.decompress_raw_len(block)


@examples(300)
@given(plain)
@example(b"")
@example(bytes(200_000))
@example(bytes(range(256)) * 600)
def test_what_compressors_write_is_taken(data: bytes) -> None:
    block = bytes(cramjam.snappy.compress_raw(data))
    assert claimed_length(block) == len(data)
    assert plain_of(block) == data


@examples(300)
@given(st.lists(elements, max_size=40), st.binary(max_size=200), st.integers(-2, 2), st.data())
def test_any_elements_become_what_the_library_makes_of_them(
    parts: list[bytes], first: bytes, excess: int, draw: st.DataObject
) -> None:
    body = (literal(first, 4) if first else b"") + b"".join(parts)
    # Of the right length, so that all is right but perhaps one element.
    sizes = [len(first), *(size_of(part) for part in parts)]
    block = varint(max(0, sum(sizes) + excess)) + body
    check(block)
    check(block[: draw.draw(st.integers(0, len(block)))])


def size_of(element: bytes) -> int:
    """The bytes that an element becomes."""
    tag = element[0]
    if tag & 3 == 1:
        return 4 + (tag >> 2 & 7)
    if tag & 3 or tag >> 2 < 60:
        return (tag >> 2) + 1
    return int.from_bytes(element[1 : 1 + (tag >> 2) - 59], "little") + 1


@examples(300)
@given(plain, st.data())
def test_a_damaged_block_is_taken_as_the_library_takes_it(data: bytes, draw: st.DataObject) -> None:
    block = bytearray(cramjam.snappy.compress_raw(data))
    at = draw.draw(st.integers(0, len(block) - 1))
    block[at : at + 1] = draw.draw(st.binary(max_size=3))
    # A claim beyond what it can become is refused before it gets here.
    if 0 <= claimed_length(bytes(block)) <= 22 * len(block):
        check(bytes(block))


def test_every_distance_repeats_what_is_there() -> None:
    data = bytes(range(1, 131))
    for distance in range(1, 131):
        for size in (1, 7, 8, 15, 16, 17, 63, 64):
            for tail in (b"", b"t" * 60, b"t" * 200):
                parts = literal(data, 1) + copy(size, distance, 2)
                parts += literal(tail, 1) if tail else b""
                block = varint(len(data) + size + len(tail)) + parts
                expected = bytearray(data)
                for _ in range(size):
                    expected.append(expected[-distance])
                assert plain_of(block) == expected + tail


def test_offsets_of_four_bytes_are_left_to_the_library() -> None:
    block = varint(8) + literal(b"abcd") + copy(4, 4, 3)
    assert plain_of(block) is None
    assert snappy.decompress(block) == b"abcdabcd"


def test_a_length_that_is_cut_off_or_of_more_than_four_bytes_is_left_to_the_library() -> None:
    for block in (b"", b"\x80", b"\xff\xff\xff\xff\x00", b"\xff" * 12):
        assert claimed_length(block) == -1
        assert plain_of(block) is None
