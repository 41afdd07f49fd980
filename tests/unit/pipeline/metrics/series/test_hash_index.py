"""The hash index of series: it finds what was added, and nobody can choose keys that meet."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.pipeline.metrics.series.hash_index import PARTS, SeriesHashIndex, hash_of
from relay.pipeline.metrics.series.series import Series

KEYS = st.binary(max_size=3)
UPPER_BITS = 25
"""Those that choose a shard and a place."""


def listed(index: SeriesHashIndex) -> Counter[bytes]:
    return Counter(series.key for number in range(PARTS) for series in index.part(number))


def fill(index: SeriesHashIndex, keys: list[bytes], mark: int) -> list[Series]:
    """Add series of these keys, all with one hash."""
    made = [Series(key) for key in keys]
    for series in made:
        index.add(mark, series)
    return made


@given(st.lists(st.tuples(st.booleans(), KEYS), max_size=200))
def test_series_come_and_go_as_in_a_dictionary(steps: list[tuple[bool, bytes]]) -> None:
    index = SeriesHashIndex()
    model: dict[bytes, Series] = {}
    for is_new, key in steps:
        assert index.of_key(key) is model.get(key)
        if is_new and key not in model:
            model[key] = Series(key)
            index.add(hash_of(key), model[key])
        elif not is_new and key in model:
            index.remove(hash_of(key), model.pop(key))
    assert len(index) == len(model)
    assert listed(index) == Counter(dict.fromkeys(model, 1))
    assert all(index.of_key(key) is series for key, series in model.items())


@given(
    st.lists(st.integers(0, 65_535), min_size=1, max_size=120),
    st.randoms(use_true_random=False),
)
def test_a_crowded_shard_keeps_all_others_when_one_leaves(tags: list[int], random: object) -> None:
    """Neighbours, wrapped around the end of the shard, grown and shrunk."""
    index = SeriesHashIndex()
    there = []
    for number, tag in enumerate(tags):
        series = Series(b"%d" % number)
        mark = tag << 39  # the first shard
        index.add(mark, series)
        there.append((mark, series))
    random.shuffle(there)  # type: ignore[attr-defined]
    while there:
        mark, series = there.pop()
        index.remove(mark, series)
        assert {one.key for one in index.part(0)} == {one.key for _, one in there}
        for mark_left, left in there:
            index.remove(mark_left, left)  # found from its own place
            index.add(mark_left, left)


def test_keys_of_one_hash_are_told_apart_by_their_bytes() -> None:
    index = SeriesHashIndex()
    key = b"\x0a\x03one"
    others = fill(index, [b"%d" % number for number in range(50)], hash_of(key))
    assert index.of_key(key) is None
    series = Series(key)
    index.add(hash_of(key), series)
    assert index.of_key(key) is series
    for other in others:
        index.remove(hash_of(key), other)
    assert index.of_key(key) is series


def test_an_index_holds_its_series_until_they_are_removed() -> None:
    index = SeriesHashIndex()
    series = Series(b"kept")
    alone = sys.getrefcount(series)
    index.add(hash_of(b"kept"), series)
    assert sys.getrefcount(series) == alone + 1
    index.remove(hash_of(b"kept"), series)
    assert sys.getrefcount(series) == alone
    index.add(hash_of(b"kept"), series)
    del index
    assert sys.getrefcount(series) == alone


def test_what_is_not_there_cannot_be_removed() -> None:
    for there in ([], [b"other"]):
        index = SeriesHashIndex()
        made = fill(index, there, 7 << 39)
        with pytest.raises(KeyError):
            index.remove(7 << 39, Series(b"gone"))
        assert index.part(0) == made


def test_keys_that_differ_anywhere_have_other_hashes() -> None:
    """Of all sizes about those of words and blocks; padding and order count as well."""
    keys = {b"\0" * size for size in range(1_100)} | {b"\xff" * size for size in range(1_100)}
    long = bytes(range(256)) * 5
    keys |= {long[:at] + bytes([long[at] ^ 1]) + long[at + 1 :] for at in range(len(long))}
    keys |= {long[:at] + bytes([long[at] ^ 128]) + long[at + 1 :] for at in range(len(long))}
    words = [long[at : at + 8] for at in range(0, 256, 8)]
    for at in range(len(words) - 1):
        swapped = [*words[:at], words[at + 1], words[at], *words[at + 2 :]]
        keys.add(b"".join(swapped))
    assert len({hash_of(key) for key in keys}) == len(keys)


def test_keys_of_any_pattern_are_spread_like_random_ones() -> None:
    """Of n keys on 2**25 places, about n**2 / 2**26 pairs meet."""
    count = 40_000
    patterns = {
        "counted": [b"%06d" % number for number in range(count)],
        "strided": [(number << 40).to_bytes(16, "little") for number in range(count)],
        "upper": [(number << 104).to_bytes(16, "little") for number in range(count)],
        "pairs": [number.to_bytes(8, "little") * 2 for number in range(count)],
        "sizes": [b"\0" * number for number in range(2_000)],
        "far": [b"\x55" * 700 + b"%d" % number for number in range(count)],
    }
    for name, keys in patterns.items():
        places = Counter(hash_of(key) >> (64 - UPPER_BITS) for key in keys)
        met = len(keys) - len(places)
        assert met <= 8 + 4 * len(keys) ** 2 / 2 ** (UPPER_BITS + 1), name
        shards = Counter(hash_of(key) >> 55 for key in keys)
        assert max(shards.values()) < 4 * len(keys) / 512 + 30, name


def test_each_process_has_secrets_of_its_own() -> None:
    code = (
        "from relay.pipeline.metrics.series.hash_index import hash_of\nprint(hash_of(b'x' * 100))"
    )
    run = [sys.executable, "-c", code]
    found = {subprocess.run(run, capture_output=True, check=True).stdout for _ in range(2)}
    assert len(found) == 2
