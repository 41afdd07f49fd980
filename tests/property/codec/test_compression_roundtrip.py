"""Arbitrary bytes compressed and back, and arbitrary bytes that were never compressed."""

from __future__ import annotations

import cramjam
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from relay.codec.compression import (
    OwnEncoding,
    SenderEncoding,
    compress,
    decompress,
    decompress_own,
)
from relay.runtime.errors import DecodeError, TooLargeError
from tests.kit.examples import examples

# No deadline and no speed check: a busy machine is not a fault of the code.
usual = examples(80)

LIMIT = 1 << 20
labels = st.sampled_from(["snappy", "zstd"])

plain = st.binary(max_size=200) | st.builds(
    lambda piece, times: piece * times, st.binary(max_size=20), st.integers(0, 20_000)
)


def snappy(data: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(data))


@st.composite
def zstd_frames(draw: st.DrawFn, data: bytes) -> bytes:
    """Data in one to three frames, each with or without its size and checksum."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=2)))
    body = b""
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        stream = zstandard.ZstdCompressor(
            level=draw(st.integers(-5, 4)), write_checksum=draw(st.booleans())
        ).compressobj(size=draw(st.sampled_from([-1, stop - start])))
        body += stream.compress(data[start:stop]) + stream.flush()
    return body


@usual
@given(plain, labels, st.data())
def test_senders_bodies_round_trip_under_either_label(
    data: bytes, label: SenderEncoding, draw: st.DataObject
) -> None:
    assert decompress(snappy(data), label, bytes_max=LIMIT) == data
    assert decompress(draw.draw(zstd_frames(data)), label, bytes_max=LIMIT) == data


@usual
@given(plain.filter(bool), st.data())
def test_the_limit_holds_to_the_byte(data: bytes, draw: st.DataObject) -> None:
    for body in (snappy(data), draw.draw(zstd_frames(data))):
        assert decompress(body, "zstd", bytes_max=len(data)) == data
        try:
            decompress(body, "zstd", bytes_max=len(data) - 1)
        except TooLargeError:
            continue
        raise AssertionError("one byte too many was accepted")


@usual
@given(plain, st.sampled_from(["gzip", "zstd", "none", "snappy"]))
def test_own_bodies_round_trip(data: bytes, encoding: OwnEncoding) -> None:
    assert decompress_own(compress(data, encoding), encoding) == data


zstd_headed = st.binary(max_size=100).map(lambda tail: b"\x28\xb5\x2f\xfd" + tail)
skippable_headed = st.binary(max_size=100).map(lambda tail: b"\x51\x2a\x4d\x18" + tail)


@examples(300)
@given(st.binary(max_size=100) | zstd_headed | skippable_headed, labels)
def test_arbitrary_bytes_end_in_a_value_or_in_a_named_error(
    body: bytes, label: SenderEncoding
) -> None:
    try:
        found = decompress(body, label, bytes_max=LIMIT)
    except (DecodeError, TooLargeError):
        return
    assert len(found) <= LIMIT


@examples(200)
@given(plain, labels, st.data())
def test_damaged_bodies_end_in_a_value_or_in_a_named_error(
    data: bytes, label: SenderEncoding, draw: st.DataObject
) -> None:
    body = bytearray(draw.draw(st.one_of(st.just(snappy(data)), zstd_frames(data))))
    at = draw.draw(st.integers(0, max(0, len(body) - 1)))
    body[at : at + 1] = draw.draw(st.binary(max_size=2))
    try:
        found = decompress(bytes(body), label, bytes_max=LIMIT)
    except (DecodeError, TooLargeError):
        return
    assert len(found) <= LIMIT


@usual
@given(st.binary(max_size=100), st.sampled_from(["gzip", "zstd"]))
def test_arbitrary_bytes_are_not_our_own(data: bytes, encoding: OwnEncoding) -> None:
    try:
        decompress_own(data, encoding)
    except DecodeError:
        return
    assert compress(decompress_own(data, encoding), encoding)
