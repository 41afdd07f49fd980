"""The label reader, which remembers, gives what the careful decoder gives, faults included."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import DecodeError
from relay.wire import label_reader
from relay.wire.label_reader import LabelReader
from relay.wire.remote_write import SeriesFault, parse_labels
from tests.support import raw_writes as raw

LIMITS = {"labels_max": 5, "bytes_max": 300}
NAME = (b"__name__", b"up")


def outcome(read: Callable[[bytes], object], key: bytes) -> object:
    """The labels, or the fault in full."""
    try:
        return read(key)
    except (DecodeError, SeriesFault) as error:
        return type(error), str(error)


def careful(key: bytes) -> dict[str, str]:
    return dict(parse_labels(key, **LIMITS))


def field(pair: tuple[bytes, bytes], sizes: tuple[int, int, int], *, swapped: bool) -> bytes:
    """A label field with lengths of any size and its parts in any order."""
    parts = [
        raw.message(1, pair[0], length_size=sizes[0]),
        raw.message(2, pair[1], length_size=sizes[1]),
    ]
    return raw.message(1, b"".join(reversed(parts) if swapped else parts), length_size=sizes[2])


SIZE = st.sampled_from([0, 0, 0, 0, 1, 2, 3])
FIELDS = st.lists(
    st.builds(
        field,
        st.sampled_from([NAME, (b"job", b"a"), (b"long", b"v" * 130), (b"", b"x"), (b"e", b"")])
        | st.tuples(st.binary(max_size=4), st.binary(max_size=4)),
        st.tuples(SIZE, SIZE, SIZE),
        swapped=st.sampled_from([False, False, False, True]),
    ),
    max_size=6,
).map(b"".join)


@given(st.lists(FIELDS, max_size=4), st.data())
def test_it_agrees_with_the_careful_decoder(keys: list[bytes], data: st.DataObject) -> None:
    reader = LabelReader(**LIMITS)
    for key in [*keys, *keys]:
        cut = data.draw(st.integers(0, len(key)))
        for bytes_ in (key, key[:cut], key[cut:], key[:cut] + b"\x00" + key[cut:]):
            assert outcome(reader.read, bytes_) == outcome(careful, bytes_)


@given(raw.raw_labels())
def test_known_fields_do_not_hide_a_fault(pairs: list[tuple[bytes, bytes]]) -> None:
    reader = LabelReader(**LIMITS)
    for pair in pairs:
        outcome(reader.read, raw.labels([NAME, pair]))
    key = raw.labels(pairs)
    assert outcome(reader.read, key) == outcome(careful, key)


def test_what_it_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_reader, "KNOWN_FIELDS_BYTES_MAX", 4_000)
    reader = LabelReader(labels_max=9, bytes_max=9_999)
    for number in range(1_000):
        value = b"%d" % number
        labels = reader.read(raw.labels([NAME, (b"n", value), (b"long", b"v" * 600 + value)]))
        assert labels["n"] == str(number)
    statistics = reader.statistics()
    assert statistics.bytes <= 4_000
    assert statistics.fields <= 12
    assert statistics.emptied > 50
    assert repr(reader) == f"<LabelReader {statistics.fields} fields>"


def test_names_are_shared() -> None:
    reader = LabelReader(labels_max=9, bytes_max=999)
    first, second = (reader.read(raw.labels([NAME, (b"pod", value)])) for value in (b"1", b"2"))
    assert [id(name) for name in first] == [id(name) for name in second]
