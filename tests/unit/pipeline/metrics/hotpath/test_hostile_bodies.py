"""Bytes made to be taken for something else: the kernel's short cuts must never believe them."""

from __future__ import annotations

import pytest

from relay.pipeline.limits import Limits
from relay.pipeline.metrics.hotpath import slow_path
from relay.pipeline.metrics.series import lookup
from relay.runtime.errors import DecodeError, OverloadedError, TooLargeError
from tests.kit.engine_rig import NUMBERS, Rig, RigSink
from tests.kit.oracle.number_points import assert_same
from tests.kit.oracle.slow_otlp import SlowRelay
from tests.kit.remote_write import raw
from tests.kit.remote_write.prompb import RawWriteRequest

T = raw.T0_MS
NAME = (b"__name__", b"up")
SHORT = [NAME, (b"a", b"1")]
LONG = [NAME, (b"a", b"1"), (b"b", b"2")]
BITS = raw.bits_of(4.5)
VALUE = b"\x09" + BITS.to_bytes(8, "little")


def feed_bodies(*bodies: bytes, limits: Limits | None = None) -> Rig:
    """Feed the bodies to a fresh engine and assert that they come out as derived slowly."""
    rig, oracle = Rig(limits), SlowRelay()
    sink = rig.export(RigSink("s", limit=1000, options=NUMBERS))
    expected = []
    for body in bodies:
        derived = oracle.take(RawWriteRequest.FromString(body))
        expected += derived.points
        transaction = rig.feed(body)
        assert transaction.dropped == derived.dropped
        assert transaction.samples == len(derived.points)
    rig.flush()
    assert_same(expected, sink.points())
    return rig


def one(pairs: raw.Labels, at: int = 0, value: float = 4.5) -> bytes:
    """A request of one common series."""
    return raw.series(pairs, (value, T + at))


def test_a_key_that_begins_another() -> None:
    """Whichever was learned first, and whichever the link guesses."""
    feed_bodies(one(SHORT), one(LONG, 1), one(SHORT, 2), one(LONG, 3))
    feed_bodies(
        one(LONG) + one(SHORT), one(SHORT, 1) + one(LONG, 1), one(LONG, 2) + one(LONG, 2, 1.5)
    )


def test_a_message_shorter_than_the_guessed_key() -> None:
    """The guessed key goes on behind the message's end: its last label is the next message."""
    twofold = (raw.message(1, b"x"), b"\x10\x05")  # as a series: a label and a sample
    pairs = [*SHORT, twofold]
    split = raw.message(1, raw.labels(SHORT)) + raw.label(*twofold)
    assert split.endswith(raw.labels(pairs))
    rig = feed_bodies(one(pairs), split, one(pairs, 1), split + one(pairs, 2))
    assert rig.engine.statistics().dropped_samples == {"missing_name": 2}


def test_a_series_without_samples_that_is_known() -> None:
    feed_bodies(one(SHORT), raw.message(1, raw.labels(SHORT)), one(SHORT, 1))


def test_a_label_value_that_holds_a_sample() -> None:
    """The bytes behind the known key look like a sample but stand in a label."""
    spoof = raw.sample(BITS, T)
    feed_bodies(
        one([NAME]),
        one([NAME, (b"x", spoof)], 1),
        one([NAME, (spoof, b"x")], 2),
        one([(b"x", raw.labels([NAME]) + spoof), NAME], 3),
    )


def test_a_key_equal_to_another_key_and_its_sample() -> None:
    """As a field of the series' own the sample is a sample, twice of it two."""
    key = raw.labels(SHORT)
    both = key + raw.sample(BITS, T)
    feed_bodies(
        one(SHORT),
        raw.message(1, both + raw.sample(BITS, T + 1)),
        raw.message(1, both + raw.label(b"b", b"2")),
        raw.message(1, both),
    )


@pytest.mark.parametrize("name", [b"\xff", b"\xff\xfe", b"\x00", b"\x0a", b"\x12\x10\x09"])
def test_first_labels_of_odd_bytes(name: bytes) -> None:
    feed_bodies(*[one([(name, b"v"), NAME], at) for at in range(3)])
    feed_bodies(*[one([(b"v", name), NAME], at) for at in range(3)])


@pytest.mark.parametrize("time_size", range(6, 11))
@pytest.mark.parametrize("at", [T, 2**35 - 1, 2**35, 2**42 - 1, 2**42, 1, 0, -1])
def test_padded_times(at: int, time_size: int) -> None:
    """Over-long varints mean what they mean, known time or not."""
    odd = raw.message(1, raw.labels(SHORT) + raw.sample(BITS, at, time_size=time_size))
    common = raw.message(1, raw.labels(SHORT) + raw.sample(BITS, at))
    feed_bodies(common, odd, common, odd + odd)


@pytest.mark.parametrize("at", [2**28, 2**34, 2**35 - 1, 2**42, 2**43 - 1])
def test_times_of_five_and_seven_bytes(at: int) -> None:
    feed_bodies(*[raw.message(1, raw.labels(SHORT) + raw.sample(BITS, at)) for _ in range(3)])


def test_every_bit_of_a_time_counts() -> None:
    """A time in a narrow integer would come out wrapped."""
    feed_bodies(*[one(SHORT, at=(1 << bit) - T) for bit in range(43)] * 2)


def test_labels_behind_samples() -> None:
    label, sample = raw.labels(SHORT), raw.sample(BITS, T)
    first, second = raw.label(*NAME), raw.label(b"a", b"1")
    feed_bodies(
        raw.message(1, sample + label),
        one(SHORT, 1),
        raw.message(1, first + sample + second),
        raw.message(1, first + raw.sample(BITS, T + 2)),
        raw.message(1, sample + label + raw.sample(BITS, T + 3)),
    )


LIES = {
    "shorter": b"\x12\x0f" + VALUE + b"\x10" + raw.varint(T),
    "longer": b"\x12\x11" + VALUE + b"\x10" + raw.varint(T),
    "much longer": b"\x12\x7f" + VALUE + b"\x10" + raw.varint(T),
    "no time behind its tag": b"\x12\x0a" + VALUE + b"\x10",
    "value cut": b"\x12\x05" + VALUE[:5],
    "time not ended": b"\x12\x10" + VALUE + b"\x10" + b"\x80" * 6,
    "zero value, time not ended": b"\x12\x07\x10" + b"\xff" * 6,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_sample_lengths_that_lie(lie: bytes) -> None:
    rig = feed_bodies(one(SHORT))
    before = rig.snapshot()
    for pairs in (SHORT, LONG):
        with pytest.raises(DecodeError):
            rig.feed(one(SHORT) + raw.message(1, raw.labels(pairs) + lie))
        assert rig.snapshot() == before


@pytest.mark.parametrize(
    "odd",
    [
        b"\x12\x10" + b"\x10" + raw.varint(T) + VALUE,  # the time first
        b"\x12\x10" + VALUE + b"\x18" + raw.varint(T),  # another field of the same size
        b"\x12\x10" + VALUE + b"\x08" + raw.varint(T),  # the value's number, as a varint
        b"\x12\x10" + b"\x11" + bytes(8) + b"\x10" + raw.varint(T),  # the time's number, fixed
        b"\x12\x10" + VALUE[:8] + b"\x10\x10" + raw.varint(T),
        b"\x12\x07" + b"\x18" + raw.varint(T),
        b"\x1a\x07" + b"\x10" + raw.varint(T),  # an exemplar of a time's size
        b"\x22\x10" + VALUE + b"\x10" + raw.varint(T),  # a histogram of a sample's size
        b"\x92\x00\x0f" + VALUE + b"\x10" + raw.varint(1 << 28),
        b"\x12\x00",
        b"\x12\x02\x10\x05",
        b"\x12\x10\x09" + bytes(8) + b"\x10" + raw.varint(T),  # a zero spelled out
    ],
    ids=lambda odd: odd[:3].hex(),
)
def test_other_fields_of_a_samples_size(odd: bytes) -> None:
    """They fill the message exactly as a common sample would."""
    feed_bodies(one(SHORT), raw.message(1, raw.labels(SHORT) + odd), one(SHORT, 1))


def test_series_tags_and_lengths_longer_than_needed() -> None:
    inner = raw.labels(SHORT) + raw.sample(BITS, T)
    for tag_size in range(1, 6):
        for length_size in range(1, 6):
            odd = raw.message(1, inner, tag_size=tag_size, length_size=length_size)
            feed_bodies(one(SHORT), odd, odd + odd, one(SHORT, 1))


@pytest.mark.parametrize("size", [126, 127, 128, 129, 16382, 16383, 16384, 16385])
def test_messages_around_a_lengths_size(size: int) -> None:
    """The length takes one, two or three bytes."""
    bare = len(raw.message(1, raw.labels([NAME, (b"x", b"v" * 200)]) + raw.sample(BITS, T)))
    for width in range(size - bare + 200 - 8, size - bare + 200 + 8):
        pairs = [NAME, (b"x", b"v" * max(width, 1))]
        feed_bodies(one(pairs), one(pairs, 1), limits=Limits(series_bytes_max=1 << 20))


@pytest.mark.parametrize("known", [False, True], ids=["unknown", "known"])
def test_a_body_that_ends_within_any_header(known: bool) -> None:
    padded = raw.message(1, raw.labels(LONG) + raw.sample(BITS, T), tag_size=2, length_size=3)
    body = one(LONG) + padded + raw.metadata("up", 2, "h" * 130)
    ends = {len(one(LONG)), len(one(LONG) + padded), len(body)}
    rig = feed_bodies(one(LONG)) if known else feed_bodies()
    before = rig.snapshot()
    for cut in set(range(1, len(body))) - ends:
        with pytest.raises(DecodeError):
            rig.feed(body[:cut])
        assert rig.snapshot() == before
    assert rig.engine.types.statistics().families == 0


@pytest.mark.parametrize(
    "body",
    [
        b"\x0b\x0c",
        b"\x0c",
        b"\x1b\x1c",
        b"\x02",
        b"\x00\x00",
        b"\x0e\x00",
        b"\x0f\x00",
        b"\x0a" + b"\xff" * 9 + b"\x01",
        b"\x0a" + b"\x80" * 10 + b"\x01",
        b"\x80" * 10 + b"\x01",
        b"\x80\x80\x80\x80\x80\x01\x00",
    ],
    ids=lambda body: body[:4].hex(),
)
def test_what_is_no_protobuf(body: bytes) -> None:
    rig = feed_bodies(one(SHORT))
    before = rig.snapshot()
    for whole in (body, one(SHORT) + body):
        with pytest.raises(DecodeError):
            rig.feed(whole)
        assert rig.snapshot() == before


def test_a_series_over_a_limit_is_not_kept() -> None:
    """Or a sender could fill the table with what we refuse."""
    rig = Rig(Limits(series_bytes_max=100, labels_max=3))
    sink = rig.export(RigSink("s", limit=1000, options=NUMBERS))
    huge = one([NAME, (b"x", b"v" * 100)])
    many = one([NAME, *[(b"%d" % n, b"v") for n in range(3)]])
    for _ in range(3):
        rig.feed(huge)
    assert rig.engine.statistics().table.active == 0
    for body in (many, one(SHORT)):
        rig.feed(body)
    statistics = rig.engine.statistics()
    assert statistics.dropped_samples == {"too_large": 3, "too_many_labels": 1}
    assert sink.counter.points == 1


def test_a_faulty_series_between_good_ones_breaks_no_link() -> None:
    bad = one([NAME, (b"a", b"1"), (b"a", b"2")])
    bodies = [one(SHORT, at) + bad + one(LONG, at) + bad for at in range(3)]
    rig = feed_bodies(*bodies)
    assert rig.engine.statistics().dropped_samples == {"duplicate_label": 6}


def test_stale_markers_and_their_neighbours() -> None:
    """Exactly one NaN means stale; its neighbours are values."""
    for bits in (raw.STALE, raw.STALE + 1, raw.STALE - 1, raw.STALE | 1 << 63, raw.NAN):
        body = raw.message(1, raw.labels(SHORT) + raw.sample(bits, T))
        rig = feed_bodies(body, body)
        flags = {point.flags for point in rig.sinks[0].points()}
        assert flags == {1 if bits == raw.STALE else 0}


def test_a_series_that_becomes_too_many_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every point repeats the labels: a small body must not become gigabytes."""
    monkeypatch.setattr(slow_path, "EXPANSION_BYTES_MAX", 1 << 20)
    rig = Rig()
    rig.export(RigSink("s", limit=10, options=NUMBERS))
    rig.feed(one(SHORT))
    before = rig.snapshot()
    wide = [*SHORT, (b"wide", b"x" * 10_000)]
    with pytest.raises(TooLargeError):
        rig.feed(raw.series(wide, *[(1.0, T + n) for n in range(200)]))
    assert rig.snapshot() == before
    assert rig.feed(raw.series(wide, *[(1.0, T + n) for n in range(50)])).samples == 50


def test_too_many_new_series_get_further_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is learned stays, so "come back later" comes to an end."""
    monkeypatch.setattr(lookup, "NEW_SERIES_MAX", 10)
    rig = Rig()
    rig.export(RigSink("s", limit=1000, options=NUMBERS))
    body = b"".join(one([*SHORT, (b"n", b"%d" % n)]) for n in range(25))
    for _ in range(2):
        with pytest.raises(OverloadedError):
            rig.feed(body)
    assert rig.feed(body).samples == 25
    assert rig.engine.statistics().received_samples == 25


def test_known_series_with_several_samples_are_not_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the last sample may look like the end of a key, once for each request."""
    monkeypatch.setattr(lookup, "NEW_SERIES_MAX", 10)
    rig = Rig()
    sink = rig.export(RigSink("s", limit=1000))
    for at, some in enumerate((range(10), range(10, 20), range(20))):
        samples = (1.0, T + 2 * at), (2.0, T + 2 * at + 1)
        rig.feed(b"".join(raw.series([NAME, (b"a", b"%d" % n)], *samples) for n in some))
    assert sink.held == 80
    assert rig.engine.statistics().table.created == 20


@pytest.mark.parametrize(
    "pairs", [[(b"job", b"%d")], [NAME, (b"a", b"%d"), (b"b", b"1"), (b"b", b"2")]]
)
def test_only_faulty_series_turn_out_no_others(pairs: raw.Labels) -> None:
    rig = Rig(Limits(series_max=100))
    rig.export(RigSink("s", limit=1000))
    good = b"".join(one([NAME, (b"good", b"%d" % n)]) for n in range(80))
    for _ in range(3):
        rig.feed(good)
    faulty = [
        one([(name, value.replace(b"%d", b"%d" % n)) for name, value in pairs]) for n in range(500)
    ]
    transaction = rig.feed(b"".join(faulty))
    assert sum(transaction.dropped.values()) == 500
    created = rig.engine.statistics().table.created
    rig.feed(good)
    assert rig.engine.statistics().table.created == created
