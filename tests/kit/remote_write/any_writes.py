"""Strategies for bodies of remote write 1.0 in any shape: mostly good, and often odd."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from tests.kit.remote_write.raw import (
    MINUS_ZERO,
    NAN,
    STALE,
    T0_MS,
    Labels,
    bits_of,
    join,
    label,
    message,
    metadata,
    sample,
    varint,
)

NAMES = (
    b"up",
    b"a_total",
    b"a",
    b"h_bucket",
    b"h_count",
    b"h_sum",
    b"b_info",
    "gr\u00fcn".encode(),
)
KINDS = {"a": 1, "up": 2, "h": 3, "b": 6, "b_info": 7, "a_total": 1}
"""Families and their types."""
FAMILIES = tuple(KINDS)

_VALUES = st.one_of(
    st.sampled_from([None, 0, STALE, NAN, MINUS_ZERO, bits_of(1.5)]),
    st.sampled_from([bits_of(float("inf")), bits_of(float("-inf")), STALE | 1 << 63, STALE + 1]),
    st.integers(0, 2**64 - 1),
)
_TIMES = st.one_of(
    st.integers(T0_MS, T0_MS + 9),
    st.sampled_from([None, 0, 1, -1, -(2**63), 2**63 - 1, 2**62]),
    st.sampled_from([2**35 - 1, 2**35, 2**42 - 1, 2**42]),
    st.sampled_from([(2**63 - 1) // 10**6, (2**63 - 1) // 10**6 + 1]),
    st.integers(-(2**63), 2**63 - 1),
)
_EXEMPLARS = st.sampled_from(
    [
        b"\x11" + bytes(8),  # no time
        label(b"trace_id", b"0af7651916cd43dd8448eb211c80319c") + b"\x18" + varint(T0_MS),
        b"\x18" + varint(T0_MS + 1),
    ]
)
_HISTOGRAMS = st.sampled_from(
    [
        b"\x18\x04",  # no time, and a sum of the wrong wire type
        b"\x78" + varint(T0_MS),  # empty
        b"\x08\x03\x30\x03\x78" + varint(T0_MS + 1),  # three in the zero bucket
        b"\x08\x04\x30\x03\x78" + varint(T0_MS + 1),  # its count is wrong
        b"\x70\x03\x78" + varint(T0_MS),  # a gauge histogram
    ]
)
_UNKNOWN = st.sampled_from(
    [
        b"",
        b"",
        b"\x48\x96\x01",  # field 9, varint
        b"\x55abcd",  # field 10, fixed32
        b"\x59abcdefgh",  # field 11, fixed64
        b"\xba\x06\x03xyz",  # field 103, bytes
        b"\x10\x05",  # field 2 as a varint: not its own wire type
    ]
)
_LABEL_PAIRS = st.sampled_from(
    [
        (b"job", b"api"),
        (b"job", b"ns/app"),
        (b"job", b"a/b/c"),
        (b"job", b"ns/"),
        (b"job", b""),
        (b"instance", b"h:1"),
        (b"service.name", b"other"),
        (b"code", b"200"),
        (b"code", b""),
        (b"le", b"0.5"),
        (b"long", b"v" * 150),
        (b"path", "/\u00e9".encode()),
        (b"Zeta", b"1"),
    ]
)
_BAD_LABELS = st.sampled_from(
    [(b"", b"x"), (b"", b""), (b"bad", b"\xff\xfe"), (b"\xc3", b"x"), (b"code", b"again")]
)


@st.composite
def raw_labels(draw: st.DrawFn) -> list[tuple[bytes, bytes]]:
    """Label pairs in any order; mostly good ones."""
    pairs = draw(st.lists(_LABEL_PAIRS, max_size=4, unique_by=lambda pair: pair[0]))
    if draw(st.integers(0, 19)):
        pairs.append((b"__name__", draw(st.sampled_from(NAMES))))
    if not draw(st.integers(0, 7)):
        pairs.append(draw(_BAD_LABELS))
    return draw(st.permutations(pairs))


@st.composite
def raw_series(draw: st.DrawFn, *, pool: Sequence[Labels] = ()) -> bytes:
    """One TimeSeries field in any shape."""
    pairs = draw(st.sampled_from(pool)) if pool else draw(raw_labels())
    moments = draw(st.lists(_TIMES, max_size=3))
    parts = [label(*pair) for pair in pairs]
    for moment in moments:
        padding = draw(st.sampled_from([0, 0, 0, 5, 6, 7, 10]))
        swapped = draw(st.booleans())
        parts.append(sample(draw(_VALUES), moment, time_size=padding, swapped=swapped))
    odd = draw(st.integers(0, 9))
    if odd == 0:
        parts.append(message(3, draw(_EXEMPLARS)))
    elif odd == 1:
        parts.append(message(4, draw(_HISTOGRAMS)))
    elif odd == 2:
        parts.append(draw(_UNKNOWN))
    elif odd == 3:
        parts = draw(st.permutations(parts))
    tag_size, length_size = draw(st.sampled_from([(0, 0), (0, 0), (0, 2), (0, 3), (2, 0)]))
    return message(1, b"".join(parts), tag_size=tag_size, length_size=length_size)


@st.composite
def raw_metadata(draw: st.DrawFn) -> bytes:
    """One MetricMetadata field. A family has always the same help and unit, one type or none."""
    family = draw(st.sampled_from(FAMILIES))
    kind = draw(st.sampled_from([0, KINDS[family], KINDS[family]]))
    return metadata(family, kind, f"help of {family}", "seconds")


def raw_requests(*, with_metadata: bool = True) -> st.SearchStrategy[bytes]:
    """Bodies of series, metadata and unknown fields in any order."""
    part = st.one_of(
        raw_series(), raw_series(), raw_metadata() if with_metadata else raw_series(), _TOP_UNKNOWN
    )
    return st.lists(part, max_size=6).map(join)


_TOP_UNKNOWN = st.sampled_from([b"\x10\x05", b"\x12\x03abc", b"\xba\x06\x03xyz", b"\x0a\x00"])
