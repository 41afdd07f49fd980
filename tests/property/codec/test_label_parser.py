"""The label reader, which remembers, gives what the careful decoder gives, faults included."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codec.remote_write import label_intern
from relay.codec.remote_write.label_intern import label_field
from relay.codec.remote_write.label_parser import LabelParser, SeriesLabels
from relay.codec.remote_write.v1 import SeriesFault, parse_labels
from relay.runtime.errors import DecodeError
from tests.kit.remote_write import any_writes, raw

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


def checked(reader: LabelParser, key: bytes) -> SeriesLabels:
    """What the reader says; its fields must say the same."""
    labels = reader.read(key)
    assert dict(parse_labels(b"".join(labels.fields), **LIMITS)) == labels
    assert labels.fields == tuple(label_field(*item) for item in labels.items())
    return labels


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
    reader = LabelParser(**LIMITS)
    for key in [*keys, *keys]:
        cut = data.draw(st.integers(0, len(key)))
        for bytes_ in (key, key[:cut], key[cut:], key[:cut] + b"\x00" + key[cut:]):
            assert outcome(lambda key: checked(reader, key), bytes_) == outcome(careful, bytes_)


@given(any_writes.raw_labels())
def test_known_fields_do_not_hide_a_fault(pairs: list[tuple[bytes, bytes]]) -> None:
    reader = LabelParser(**LIMITS)
    for pair in pairs:
        outcome(reader.read, raw.labels([NAME, pair]))
    key = raw.labels(pairs)
    assert outcome(reader.read, key) == outcome(careful, key)


def test_what_it_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_intern, "KNOWN_FIELDS_BYTES_MAX", 4_000)
    reader = LabelParser(labels_max=9, bytes_max=9_999)
    for number in range(1_000):
        value = b"%d" % number
        labels = reader.read(raw.labels([NAME, (b"n", value), (b"long", b"v" * 600 + value)]))
        assert dict(labels)["n"] == str(number)
    statistics = reader.statistics()
    assert statistics.bytes <= 4_000
    assert statistics.fields <= 12
    assert statistics.emptied > 50
    assert repr(reader) == f"<LabelParser {statistics.fields} fields>"


def test_names_are_shared() -> None:
    reader = LabelParser(labels_max=9, bytes_max=999)
    first, second = (reader.read(raw.labels([NAME, (b"pod", value)])) for value in (b"1", b"2"))
    assert [id(name) for name in first] == [id(name) for name in second]


@given(
    st.lists(
        st.lists(st.sampled_from([b"", b"v", b"vv", b"v" * 130]), min_size=2, max_size=4),
        max_size=12,
    )
)
def test_a_wrong_guess_at_the_cut_is_noticed(values: list[list[bytes]]) -> None:
    """Keys of the same length that are cut in other places."""
    reader = LabelParser(**LIMITS)
    for row in values:
        pairs = [(b"abcd"[at : at + 1], value) for at, value in enumerate(row)]
        key = raw.labels([NAME, *pairs])
        assert outcome(lambda key: checked(reader, key), key) == outcome(careful, key)


ENDS = st.sampled_from([b"", b"c", b"\xff", b"v" * 130])


@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from([b"a", b"bb", b"t", b"u"]), max_size=2), ENDS),
        max_size=12,
    )
)
def test_series_that_end_alike(series: list[tuple[list[bytes], bytes]]) -> None:
    reader = LabelParser(**LIMITS)
    for names, end in series:
        pairs = [NAME, *((name, b"1") for name in names)]
        pairs += [(b"t", b"1"), (b"u", b"2"), (b"v", end)] if end else []
        for key in (raw.labels(pairs), raw.labels(pairs[1:])):
            assert outcome(lambda key: checked(reader, key), key) == outcome(careful, key)


def test_labels_without_some() -> None:
    reader = LabelParser(**LIMITS)
    labels = reader.read(raw.labels([NAME, (b"a", b"1"), (b"b", b"2")]))
    fewer = labels.without({"a", "z"})
    assert fewer == {"__name__": "up", "b": "2"}
    assert fewer.fields == (label_field("__name__", "up"), label_field("b", "2"))
    assert len(labels) == len(labels.fields) == 3


def test_labels_are_a_mapping_however_they_are_asked() -> None:
    pairs = [("__name__", "up"), ("é", "ü"), ("long", "v" * 200), ("z", "1")]
    key = b"".join(label_field(*pair) for pair in pairs)
    reader = LabelParser(labels_max=9, bytes_max=999)
    labels = reader.read(key)
    assert [labels[name] for name, _ in pairs] == [value for _, value in pairs]
    assert [labels.get(name, "-") for name in ("é", "e", "zz", "", "\ud800")] == ["ü", *"----"]
    assert "z" in labels
    assert "up" not in labels
    assert len(labels) == 4
    with pytest.raises(KeyError):
        labels["job"]
    assert list(labels.items()) == pairs == list(zip(labels, labels.values(), strict=True))
    assert labels["é"] == "ü"
    assert labels.get("e") is None
    assert "e" not in labels
    assert labels == reader.read(key) == dict(pairs)
    assert labels != reader.read(key).without({"z"})
    assert repr(labels) == repr(dict(pairs))


@given(
    st.permutations([NAME, (b"a", b"1"), (b"aa", b"2"), (b"b", b"3"), (b"a", b"4")]), st.booleans()
)
def test_a_name_that_is_given_twice_is_noticed_in_any_order(
    pairs: list[tuple[bytes, bytes]], is_twice: bool
) -> None:
    reader = LabelParser(**LIMITS)
    key = raw.labels(pairs if is_twice else [pair for pair in pairs if pair[1] != b"4"])
    assert outcome(lambda key: checked(reader, key), key) == outcome(careful, key)
    assert isinstance(outcome(careful, key), dict) is not is_twice


@pytest.mark.parametrize("count", [127, 128, 129, 300])
def test_many_labels(count: int) -> None:
    reader = LabelParser(labels_max=1_000, bytes_max=99_999)
    pairs = [NAME, *((b"l%03d" % number, b"v") for number in range(count - 1))]
    labels = reader.read(raw.labels(pairs))
    assert len(labels) == len(labels.fields) == count
    assert dict(labels) == dict(parse_labels(raw.labels(pairs), labels_max=1_000))


TEXTS = st.sampled_from([b"1", b"2", b"12", "é".encode(), b"\xff", b"\xc3(", b"", b"v" * 130])


@given(st.lists(st.tuples(st.sampled_from([b"n", b"m", b"nn"]), TEXTS), max_size=20))
def test_a_head_that_is_known_hides_no_fault_of_its_value(rows: list[tuple[bytes, bytes]]) -> None:
    """Values of one length behind one name, of which few are remembered."""
    with mock.patch.object(label_intern, "VALUES_MAX", 1):
        reader = LabelParser(**LIMITS)
        for row in [*rows, *rows]:
            for pairs in ([NAME, row], [row, NAME], [NAME, row, (b"z", b"z")]):
                key = raw.labels(pairs)
                for bytes_ in (key, key[:-1], key + b"x"):
                    said = outcome(lambda key: checked(reader, key), bytes_)
                    assert said == outcome(careful, bytes_)


def test_values_without_end_are_read_and_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_intern, "VALUES_MAX", 10)
    monkeypatch.setattr(label_intern, "HEADS_MAX", 5)
    known = label_intern.LabelInterner()
    for number in range(1_000, 3_000):
        assert known[label_field("id", str(number))] == ("id", str(number))
    assert len(known) == 11
    for number in range(20):
        assert known[label_field(f"n{number:02d}", "v")][0] == f"n{number:02d}"
    assert len(known._heads) <= 5


@given(FIELDS, st.lists(st.sampled_from(["__name__", "job", "long", "e", ""]), max_size=4))
def test_several_values_at_once(key: bytes, names: list[str]) -> None:
    reader = LabelParser(**LIMITS)
    for _ in range(2):
        try:
            labels = reader.read(key)
        except (DecodeError, SeriesFault):
            return
        assert labels.values_of(tuple(names)) == tuple(labels.get(name) for name in names)
        assert labels.name == labels["__name__"]
        fewer = labels.without({"job", "e"})
        assert fewer == {name: labels[name] for name in labels if name not in ("job", "e")}
        assert fewer.values_of(("__name__", "job")) == (labels.name, None)


def test_values_of_the_same_name_of_no_text_and_of_many_names() -> None:
    labels = LabelParser(**LIMITS).read(raw.labels([NAME, (b"job", b"a"), (b"jobs", b"b")]))
    assert labels.values_of(("job", "job", "__name__")) == ("a", "a", "up")
    # A name of 63 bytes has the place in the mask of lengths that no length has.
    assert labels.values_of(("\ud800", "jobs", "x" * 63)) == (None, "b", None)
    many = ("jobs", *(f"n{number}" for number in range(20)), "job")
    assert labels.values_of(many) == ("b", *[None] * 20, "a")
    assert labels.values_of(()) == ()


def test_very_long_names_and_too_many_labels() -> None:
    reader = LabelParser(labels_max=9, bytes_max=99_999)
    for number in range(5):
        name = f"n{number}" + "x" * 2_048
        labels = reader.read(raw.labels([NAME, (name.encode(), b"v")]))
        assert labels.values_of((name, "__name__")) == ("v", "up")
    too_many = raw.labels([NAME, *[(b"n%d" % n, b"v") for n in range(9)]])
    with pytest.raises(SeriesFault, match="over 9 labels"):
        reader.read(too_many)


def test_a_known_head_is_not_enough() -> None:
    known = label_intern.LabelInterner()
    field = label_field("n", "12")
    assert known[field] == ("n", "12")
    for odd in (field[:-1], field + b"3", field[:-2], field[:3], b""):
        with pytest.raises(label_intern.OddFieldError):
            known[odd]
    assert known[label_field("n", "34")] == ("n", "34")


LIKE = st.lists(
    st.tuples(
        st.sampled_from(["up", "a_total", "né", "n" * 201]),
        st.dictionaries(
            st.sampled_from(["job", "instance", "a", "ü"]),
            st.sampled_from(["x", "y", "ÿ", "v" * 130]),
            max_size=4,
        ),
        st.booleans(),
    ),
    max_size=12,
)
ASKED = (("job", "instance", "a"), ("a",), ("ü", "job", "\ud800"))


@given(LIKE, st.data())
def test_what_series_share_is_told_of_each(
    series: list[tuple[str, dict[str, str], bool]], data: st.DataObject
) -> None:
    """Series in a row that share names, values or neither, and what is asked of them in between."""
    reader = LabelParser(labels_max=9, bytes_max=9_999)
    known: list[tuple[SeriesLabels, dict[str, str]]] = []
    for name, others, is_first in series:
        whole = {"__name__": name, **others} if is_first else {**others, "__name__": name}
        key = b"".join(label_field(*item) for item in whole.items())
        known.append((reader.read(key), whole))
        for _ in range(data.draw(st.integers(0, 3))):
            labels, said = data.draw(st.sampled_from([known[-1], known[-1], *known]))
            names = data.draw(st.sampled_from(ASKED))
            assert labels.values_of(names) == tuple(said.get(one) for one in names)
            assert labels.metric_name() == labels.name == said["__name__"]
        with pytest.raises((SeriesFault, DecodeError)):
            reader.read(key + label_field("job", "x") * 2)


def test_values_of_series_in_a_row_are_shared() -> None:
    reader = LabelParser(labels_max=9, bytes_max=999)
    asked = ("job", "instance", "missing")
    told = []
    for number in b"1", b"2", b"3":
        labels = reader.read(
            raw.labels([NAME, (b"job", b"j"), (b"instance", b"i"), (b"n", number)])
        )
        told.append((labels.metric_name(), labels.values_of(asked)))
    assert told[0] == ("up", ("j", "i", None))
    assert all(one[0] is told[0][0] and one[1] is told[0][1] for one in told)


def test_a_name_that_nobody_asked_for_is_not_taken_for_the_one_before() -> None:
    reader = LabelParser(labels_max=128, bytes_max=16 * 1024)
    one, other, last = (
        raw.labels([(b"__name__", name), (b"a", value)])
        for name, value in ((b"up", b"1"), (b"down", b"2"), (b"down", b"3"))
    )
    assert reader.read(one).metric_name() == "up"
    reader.read(other)
    assert reader.read(last).metric_name() == "down"


def test_sets_of_names_are_forgotten() -> None:
    """More of them than are known at once: each series is read as it stands all the same."""
    reader = LabelParser(labels_max=9, bytes_max=9_999)
    kept = reader.read(raw.labels([NAME, (b"first", b"1")]))
    for number in range(5_000):
        labels = reader.read(raw.labels([NAME, (b"n%d" % number, b"v"), (b"z", b"1")]))
        assert labels.values_of((f"n{number}", "z", "first")) == ("v", "1", None)
    again = reader.read(raw.labels([NAME, (b"first", b"2")]))
    assert (again.values_of(("first",)), kept.values_of(("first",))) == (("2",), ("1",))
