"""The hot path of remote write 2.0 against the slow derivation: tables of strings in any order,
metadata and start times, whole and damaged requests."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.kit.oracle.bodies_check import check_bodies
from tests.kit.remote_write import raw

T = raw.T0_MS
TEXTS = (
    *(b"", b"__name__", b"up", b"a_total", b"h_bucket", b"h_count", b"h_sum", b"le", b"0.5"),
    *(b"+Inf", b"job", b"api", b"code", b"200", b"l" * 127, b"l" * 128, b"v" * 150, b"w" * 20_000),
    *(
        b"\xff\xfe",
        b"Counts what is up.",
        b"s",
        b"target_info",
        b"instance",
        b"h:1",
        b"web",
        b"pod",
    ),
)
REFS = {text: number for number, text in enumerate(TEXTS)}
POOL = [
    [(b"__name__", b"up"), (b"job", b"api")],
    [(b"__name__", b"up"), (b"job", b"web")],
    [(b"__name__", b"up"), (b"job", b"api"), (b"le", b"0.5")],
    [(b"__name__", b"up"), (b"pod", b"api")],
    [(b"__name__", b"up"), (b"instance", b"h:1"), (b"job", b"api")],
    [(b"__name__", b"a_total"), (b"code", b"200")],
    [(b"__name__", b"a_total"), (b"code", b"")],
    [(b"__name__", b"a_total"), (b"l" * 127, b"v" * 150)],
    [(b"__name__", b"a_total"), (b"l" * 128, b"v" * 150)],
    [(b"__name__", b"h_bucket"), (b"le", b"0.5")],
    [(b"__name__", b"h_bucket"), (b"le", b"+Inf")],
    [(b"__name__", b"h_count")],
    [(b"__name__", b"h_sum")],
    [(b"__name__", b"target_info"), (b"instance", b"h:1"), (b"job", b"api")],
    [(b"job", b"api")],
    [(b"__name__", b"up"), (b"job", b"\xff\xfe")],
    [(b"__name__", b"up"), (b"job", b"w" * 20_000)],
    [(b"__name__", b"up"), (b"__name__", b"a_total")],
]
"""Labels that come again, so that series are recognised; the last ones are faulty."""

TIMES = st.integers(T, T + 3) | st.integers(-(2**63), 2**63 - 1) | st.integers(1 << 34, 1 << 43)
VALUES = st.sampled_from([None, 0, raw.STALE, raw.NAN, raw.bits_of(3.0)]) | st.integers(
    0, 2**64 - 1
)
METADATA = st.sampled_from(
    [
        b"",
        b"\x08\x01",
        b"\x08\x03\x18\x13\x20\x14",  # histogram, help, unit
        b"\x18\x13\x08\x02",
        b"\x08\x05\x18\x7f",  # help nowhere
        b"\x0a\x01",  # no varint
        b"\x08",  # cut off
    ]
)


def refs(pairs: raw.Labels, *, renamed: dict[bytes, int]) -> bytes:
    """References to labels, packed, by the numbers that the texts have."""
    return b"".join(raw.varint(renamed[text]) for pair in pairs for text in pair)


def sample(bits: int | None, time_ms: int | None, start_ms: int | None = None) -> bytes:
    """A Sample; None leaves a part out."""
    value = b"" if bits is None else b"\x09" + bits.to_bytes(8, "little")
    time = b"" if time_ms is None else b"\x10" + raw.varint(time_ms)
    start = b"" if start_ms is None else b"\x18" + raw.varint(start_ms)
    return value + time + start


@st.composite
def series_v2(draw: st.DrawFn, renamed: dict[bytes, int]) -> bytes:
    """One TimeSeries field, mostly as senders write it."""
    found = refs(draw(st.sampled_from(POOL)), renamed=renamed)
    parts = [raw.message(1, found)]
    start = draw(st.none() | st.none() | TIMES)
    parts.append(raw.message(2, sample(draw(VALUES), draw(TIMES), start)))
    if draw(st.booleans()):
        parts.append(raw.message(5, draw(METADATA)))
    odd = draw(st.integers(0, 19))
    if odd == 0:
        parts[0] = raw.message(1, found + draw(st.sampled_from([b"\x01", b"\x01\x7f", b"\x81"])))
    elif odd == 1:
        parts[0] = draw(st.sampled_from([b"", raw.message(1, b""), b"\x08\x01\x08\x02"]))
    elif odd == 2:
        parts.append(raw.message(2, sample(draw(VALUES), draw(TIMES))))
    elif odd == 3:
        parts.append(raw.message(4, b"\x0a\x02\x0a\x0b\x11" + bytes(8) + b"\x18" + raw.varint(T)))
    elif odd == 4:
        parts.append(raw.message(3, b"\x08\x03\x30\x03\x78" + raw.varint(T)))
    elif odd == 5:
        parts.append(b"\x30" + raw.varint(draw(TIMES)))
    elif odd == 6:
        parts = draw(st.permutations(parts))
    elif odd == 7:
        parts[1] = raw.message(2, sample(draw(VALUES), draw(TIMES)), length_size=3)
    return raw.message(5, b"".join(parts), length_size=draw(st.sampled_from([0, 0, 0, 3, 6])))


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request with a table of its own, in most cases before the series."""
    numbers = list(range(len(TEXTS)))
    if draw(st.booleans()):
        numbers[1:] = draw(st.permutations(numbers[1:]))
    table = [TEXTS[number] for number in numbers]
    if not draw(st.integers(0, 9)):
        table.append(draw(st.sampled_from(TEXTS)))
    if draw(st.booleans()):
        table[1:1] = [b"padding %d" % n for n in range(draw(st.sampled_from([1, 130, 17_000])))]
    renamed = {text: number for number, text in enumerate(table)}
    fields = [raw.message(4, text) for text in table]
    found = draw(st.lists(series_v2(renamed), max_size=8))
    odd = draw(st.integers(0, 9))
    if odd == 0:
        return b"".join([*found, *fields])
    if odd == 1:
        return b"".join([*fields, *found, b"\x0a\x01x"])  # a field of version 1.0
    return b"".join([*fields, *found])


@st.composite
def bodies_v2(draw: st.DrawFn) -> list[bytes]:
    """A few requests, some of them twice, some cut off or with a byte changed."""
    found = draw(st.lists(requests(), min_size=1, max_size=3))
    found += draw(st.lists(st.sampled_from(found), max_size=2))
    at = draw(st.integers(0, len(found) - 1))
    spoilt = found[at]
    if spoilt and draw(st.integers(0, 3)) == 0:
        where = len(spoilt) - 1 - draw(st.integers(0, min(200, len(spoilt) - 1)))
        changed = bytes([draw(st.integers(0, 255))]) + spoilt[where + 1 :]
        found[at] = spoilt[:where] + (changed if draw(st.booleans()) else b"")
    return found


SYMBOLS = b"".join(raw.message(4, text) for text in TEXTS)


def request_v2(*given_samples: bytes) -> bytes:
    """Samples of the first series of the pool, one after the other, with metadata."""
    head = raw.message(1, refs(POOL[0], renamed=REFS))
    metadata = raw.message(5, b"\x08\x02\x18\x13")
    parts = [raw.message(5, head + raw.message(2, each) + metadata) for each in given_samples]
    return SYMBOLS + b"".join(parts)


def succession(*numbers: int) -> bytes:
    """A sample of each of these series of the pool."""
    parts = [
        raw.message(
            5, raw.message(1, refs(POOL[each], renamed=REFS)) + raw.message(2, sample(1, T))
        )
        for each in numbers
    ]
    return SYMBOLS + b"".join(parts)


KNOWN = request_v2(sample(1, T), sample(2, T + 1))


@given(bodies_v2())
@example([KNOWN, KNOWN, request_v2(sample(3, T + 2, T - 5), sample(None, T + 3, T + 4))])
@example([KNOWN, KNOWN[:-1], KNOWN[:-9], KNOWN[:-13], KNOWN + b"\x2a\xff\xff\xff\xff\x7f"])
@example([succession(5, 0), succession(5, 0), succession(5, 1), succession(5, 0)])
@example([succession(5, 0), succession(5, 0), succession(5, 3), succession(5, 0)])
@example([succession(0, 5, 0), succession(0, 5, 0), succession(0, 5, 3)])
@example([succession(5, 2), succession(5, 2), succession(5, 0), succession(5, 2)])
@example([KNOWN, request_v2(b""), request_v2(b"\x10"), request_v2(b"\x09" + bytes(8))])
def test_any_requests_of_the_second_version(found: list[bytes]) -> None:
    check_bodies(found, "remote_write_v2")


@pytest.mark.parametrize("shift", range(64))
def test_every_bit_of_a_time_and_a_value(shift: int) -> None:
    found = [
        request_v2(*(sample(bits, time_ms, start_ms) for start_ms in (None, T - 1, 1 << shift)))
        for bits in (1 << shift, (1 << 64) - (1 << shift))
        for time_ms in ((1 << shift) - 1, 1 << shift, T | 1 << shift % 42)
    ]
    check_bodies(found, "remote_write_v2")
