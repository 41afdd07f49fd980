"""The hot path against the slow derivation: known and new series in any order, whole and damaged
bodies, over the full range of times and values."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.codec.remote_write.v1 import WriteProtocol
from tests.kit.oracle.bodies_check import check_bodies
from tests.kit.remote_write import any_writes, raw

T = raw.T0_MS
POOL = [
    [(b"__name__", b"up"), (b"job", b"api")],
    [(b"__name__", b"up"), (b"job", b"api"), (b"instance", b"h:1")],
    [(b"__name__", b"a_total"), (b"code", b"200")],
    [(b"__name__", b"a"), (b"long", b"v" * 150)],
    [(b"__name__", b"h_bucket"), (b"le", b"0.5")],
    [(b"__name__", b"h_bucket"), (b"le", b"+Inf")],
    [(b"__name__", b"h_count")],
    [(b"__name__", b"h_sum")],
]
"""Labels that come again, so that series are recognised."""

Pairs = list[tuple[bytes, bytes]]

BITS = st.integers(0, 2**64 - 1) | st.sampled_from([0, raw.STALE, raw.NAN, raw.MINUS_ZERO])
TIMES = st.integers(-(2**63), 2**63 - 1) | st.integers(1 << 34, 1 << 43)


@st.composite
def usual_series(draw: st.DrawFn) -> bytes:
    """A series as senders write it, with any value and any time."""
    pairs = draw(st.sampled_from(POOL))
    bits, time_ms = draw(BITS) or None, draw(TIMES) or None
    return raw.message(1, raw.labels(pairs) + raw.sample(bits, time_ms))


@st.composite
def damaged_bodies(draw: st.DrawFn) -> list[bytes]:
    """A few bodies, some of them twice, some cut off or with a byte changed."""
    part = (
        usual_series()
        | usual_series()
        | any_writes.raw_series(pool=POOL)
        | any_writes.raw_requests()
    )
    body = st.lists(part, max_size=12).map(b"".join)
    found = draw(st.lists(body, min_size=1, max_size=3))
    found += draw(st.lists(st.sampled_from(found), max_size=2))
    at = draw(st.integers(0, len(found) - 1))
    spoilt = found[at]
    if spoilt and draw(st.booleans()):
        where = draw(st.integers(0, len(spoilt) - 1))
        if draw(st.booleans()):
            found[at] = spoilt[:where]
        else:
            found[at] = spoilt[:where] + bytes([draw(st.integers(0, 255))]) + spoilt[where + 1 :]
    return found


MANY = [[(b"__name__", b"m%d" % (n // 3)), (b"code", b"%d" % n)] for n in range(40)]
"""Enough series to be recognised many at a time, and to come in no order at all."""
TARGETS, MIXED = (
    [
        [
            (b"__name__", b"m%d_total" % (n % 14 // 3)),
            (b"code", b"%d" % n),
            (b"instance", b"h%d" % at),
        ]
        for n, at in enumerate(targets)
    ]
    for targets in ([n // 14 for n in range(40)], [n % 3 for n in range(40)])
)
"""As many, of several targets: one behind the other, and by turns."""


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Requests of mostly the same series, in the same order or in none, with small changes."""
    pool = draw(st.sampled_from([MANY, TARGETS, MIXED]))
    alike = draw(st.sampled_from([1, 14, 16, len(pool)]))  # how many have one time
    orders = [list(range(len(pool)))] * draw(st.integers(3, 6))
    if draw(st.booleans()):
        orders = [draw(st.permutations(order)) for order in orders]
    zeros = draw(st.frozensets(st.integers(0, len(pool) - 1), max_size=9))
    found = []
    for number, order in enumerate(orders):
        parts = []
        for place in order:
            time_ms = T + number * 15_000 + place // alike
            bits = None if place in zeros else raw.bits_of(float(place + 1))
            parts.append(raw.message(1, raw.labels(pool[place]) + raw.sample(bits, time_ms)))
        for _ in range(draw(st.integers(0, 3))):
            parts = _changed(draw, parts, pool)
        found.append(b"".join(parts))
    return found


def _changed(draw: st.DrawFn, parts: list[bytes], pool: list[Pairs]) -> list[bytes]:
    """One of the things that happen to a stream."""
    at = draw(st.integers(0, len(parts) - 1))
    labels = raw.labels(draw(st.sampled_from(pool)))
    exemplar = raw.label(b"trace_id", b"0af7") + b"\x18" + raw.varint(T)
    instead = draw(
        st.sampled_from(
            [
                [],  # it stays away
                [parts[at], parts[0]],
                [parts[at], parts[at - 1]] * 9,  # two by turns
                [raw.message(1, labels + raw.sample(raw.STALE, T))],
                [raw.message(1, labels + raw.sample(None, T))],
                [parts[at], raw.message(1, labels + raw.message(3, exemplar))],
                [parts[at], raw.metadata("m3", 1)],
                [parts[at], raw.series([(b"__name__", b"new"), (b"n", b"%d" % at)], (1.0, T))],
                [raw.message(1, labels + raw.sample(1, 1 << 50))],
                [raw.message(1, labels + raw.sample(1, T) + raw.sample(2, T + 1))],
            ]
        )
    )
    return [*parts[:at], *instead, *parts[at + 1 :]] or parts


KNOWN = raw.series(POOL[0], (1.0, T)) + raw.series(POOL[1], (2.0, T))


@given(damaged_bodies())
@example([KNOWN, KNOWN, raw.message(1, raw.labels(POOL[0]) + raw.sample(1, 1 << 41))])
@example([KNOWN, KNOWN, KNOWN[:-1], KNOWN[:2], KNOWN[:1], b"\x0a\xff", b"\x0a\xff\xff\xff\xff\x7f"])
@example([b"\x0a" + b"\xff" * 9 + b"\x01" + KNOWN])  # a length of 2**64 - 1
@example([raw.series(POOL[0], (1.0, T), (2.0, T + 1)), raw.series(POOL[0], (1.0, T + 2))])
def test_any_bodies_of_the_first_version(found: list[bytes]) -> None:
    check_bodies(found, "remote_write_v1")


@given(streams())
def test_streams_of_known_series(found: list[bytes]) -> None:
    check_bodies(found, "remote_write_v1")


@given(st.lists(st.binary(max_size=80), max_size=3))
def test_any_bytes(found: list[bytes]) -> None:
    protocols: tuple[WriteProtocol, ...] = ("remote_write_v1", "remote_write_v2")
    for protocol in protocols:
        check_bodies(found, protocol)


LABEL_NAMES = st.sampled_from([b"job", b"instance", b"code", b"le", b"quantile", b"__name__", b""])
LABEL_NAMES |= st.sampled_from([b"__type__", b"__unit__", b"otel_scope_name", b"otel_scope_x"])
LABEL_NAMES |= st.sampled_from([b"service.name", b"\xc3\x9cber", b"\xff", b"z" * 200])
LABEL_VALUES = st.sampled_from([b"a/b", b"a", b"\xc3\xa9", b"\xc3", b"", b"counter", b"0.5"]) | (
    st.sampled_from((1, 110, 120, 122, 123, 124, 125, 126, 127, 128, 600)).map(lambda n: b"v" * n)
)


@st.composite
def new_series(draw: st.DrawFn) -> bytes:
    """A series whose labels nobody has seen, in any order, good or not."""
    name = draw(st.sampled_from([b"up", b"a_total", b"h_bucket", b"h_sum", b"b_info", b"s"]))
    pairs = draw(st.lists(st.tuples(LABEL_NAMES, LABEL_VALUES), max_size=8))
    if draw(st.booleans()):
        pairs = sorted(dict(pairs).items())
    if draw(st.integers(0, 20)) == 0:
        pairs += [(b"n%d" % number, b"v") for number in range(130)]
    pairs.insert(draw(st.integers(0, len(pairs))), (b"__name__", name))
    return raw.series(pairs, (1.0, T))


@given(st.lists(new_series(), min_size=1, max_size=12))
def test_new_series_of_any_labels(found: list[bytes]) -> None:
    sent = [b"".join(found), *found]
    assert check_bodies(sent, "remote_write_v1").compared == len(sent)


@pytest.mark.parametrize("shift", range(64))
def test_every_bit_of_a_time_and_a_value(shift: int) -> None:
    """An ``unsigned char`` that is shifted as a 32-bit ``int`` loses what is above."""
    found = [
        raw.message(1, raw.labels(pairs) + raw.sample(bits, time_ms))
        for pairs in POOL[:2]
        for bits in (1 << shift, (1 << 64) - (1 << shift))
        for time_ms in ((1 << shift) - 1, 1 << shift, T | 1 << shift % 42)
    ]
    check_bodies(found, "remote_write_v1")
