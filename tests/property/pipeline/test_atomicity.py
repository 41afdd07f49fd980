"""A request that is refused leaves no trace, wherever in it the fault stands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.message import DecodeError as OfficialDecodeError
from hypothesis import given
from hypothesis import strategies as st

from relay.pipeline.limits import Limits
from relay.runtime.errors import DecodeError, TooLargeError
from tests.kit.engine_rig import NUMBERS, Rig, RigSink, named
from tests.kit.oracle.number_points import assert_same, decode
from tests.kit.oracle.slow_otlp import SlowRelay
from tests.kit.remote_write import any_writes, raw
from tests.kit.remote_write.prompb import RawWriteRequest

UP = [(b"__name__", b"up"), (b"job", b"api")]
TOTAL = [(b"__name__", b"a_total"), (b"job", b"api"), (b"code", b"200")]
OTHER = [(b"__name__", b"other"), (b"x", b"1")]
T = raw.T0_MS
BEFORE = raw.series(UP, (1.0, T)) + raw.series(TOTAL, (2.0, T)) + raw.series(UP, (3.0, T + 1))
REQUEST = b"".join(
    [
        raw.series(UP, (4.0, T + 2)),
        raw.series(TOTAL, (0.0, T + 2)),
        raw.series(OTHER, (5.0, T + 2), (6.0, T + 3)),
        raw.message(1, raw.labels(UP) + raw.message(3, b"\x11" + bytes(8)) + raw.sample(7, T + 4)),
        raw.message(1, raw.labels([(b"nameless", b"1")]) + raw.sample(7, T + 4)),
        raw.message(1, raw.sample(8, T + 5, time_size=8) + raw.labels(TOTAL)),
        raw.series(UP, (9.0, T + 6)),
    ]
)
AFTER = raw.series(UP, (10.0, T + 7)) + raw.series(OTHER, (11.0, T + 7))
REFUSED = (DecodeError, TooLargeError)


def prepared() -> Rig:
    """An engine in the middle of its work: a batch open, one nearly full, one of each request."""
    rig = Rig(Limits(series_max=4))
    rig.export(
        RigSink("wide", limit=100, timeout_s=5.0, options=NUMBERS),
        RigSink("narrow", limit=4, timeout_s=7.0, options=NUMBERS),
        RigSink("at-once", limit=3, timeout_s=0.0, options=NUMBERS),
        RigSink("lanes", limit=2, shards=3, options=NUMBERS),
    )
    rig.export(
        RigSink("some", limit=100, timeout_s=9.0, options=NUMBERS),
        exporter="y",
        sources={"up": named("up")},
    )
    rig.feed(BEFORE, tick=1.0)
    return rig


def assert_goes_on_right(rig: Rig) -> None:
    """After a refusal: good requests as if nothing had been, deadlines as they were set."""
    oracle = SlowRelay()
    expected = oracle.take(RawWriteRequest.FromString(BEFORE)).points
    rig.feed(AFTER, tick=3.0)
    expected += oracle.take(RawWriteRequest.FromString(AFTER)).points
    wide, some = rig.sinks[0], rig.sinks[-1]
    rig.due(5.9)
    assert not wide.sealed
    rig.due(6.0)  # 5 s after the first point, which came at 1.0
    assert len(wide.sealed) == 1
    rig.due(9.9)
    assert not some.sealed
    rig.due(10.0)
    assert len(some.sealed) == 1
    rig.flush()
    rig.engine.statistics()
    for sink in rig.sinks[:-1]:
        assert_same(expected, sink.points())
        assert sink.counter.points == len(expected)
    assert_same([point for point in expected if point[0].name == "up"], some.points())
    for sink in rig.sinks:
        for sealed in sink.sealed:
            rig.engine.offsets.release(sealed.oldest)
    offsets = rig.engine.offsets.statistics()
    assert offsets.holds == 0
    assert offsets.low == offsets.next


def refuse(rig: Rig, body: bytes) -> bool:
    """Feed a body that may be refused; if it is, assert that there is no trace. Return whether."""
    before = rig.snapshot()
    low = rig.engine.offsets.low
    try:
        rig.feed(body, tick=2.0)
    except REFUSED:
        assert rig.snapshot() == before
        now = rig.engine.offsets.statistics()
        assert now.low == (low if now.holds else now.next)
        return True
    return False


def accepted_by_official(body: bytes) -> bool:
    """Whether the official parser takes the body."""
    try:
        RawWriteRequest.FromString(body)
    except OfficialDecodeError:
        return False
    return True


def test_every_truncation() -> None:
    """Cut at a field's end it is a shorter request, anywhere else it is refused and forgotten."""
    rig = prepared()
    refused = 0
    for cut in range(len(REQUEST)):
        body = REQUEST[:cut]
        if accepted_by_official(body):
            continue
        assert refuse(rig, body), f"cut at {cut} was accepted"
        refused += 1
    assert refused == len(REQUEST) - 7  # seven series: seven ends, of which the whole is not tried
    assert_goes_on_right(rig)


def mutations() -> Iterator[bytes]:
    """The request with each byte replaced in the ways that change its structure most."""
    for at, byte in enumerate(REQUEST):
        for other in {0x00, 0x07, 0x0B, 0x7F, 0x80, 0xFF, byte ^ 1, byte + 1 & 0xFF} - {byte}:
            yield REQUEST[:at] + bytes((other,)) + REQUEST[at + 1 :]


@pytest.mark.slow
def test_every_mutated_byte() -> None:
    """Refused without a trace, or accepted and then as the official classes read it."""
    rig = prepared()
    refused = accepted = 0
    for body in mutations():
        if refuse(rig, body):
            refused += 1
            continue
        accepted += 1
        if accepted_by_official(body):
            oracle = SlowRelay()
            expected = oracle.take(RawWriteRequest.FromString(BEFORE)).points
            expected += oracle.take(RawWriteRequest.FromString(body)).points
            rig.flush()
            assert_same(expected, rig.sinks[0].points())
        rig = prepared()
    assert refused > 1000
    assert accepted > 1000
    for body in list(mutations())[::17]:  # many refusals on one engine, then on with the work
        if not accepted_by_official(body) and not refuse(rig, body):
            rig = prepared()
    assert_goes_on_right(rig)


BAD_ENDS = st.sampled_from(
    [
        b"\x0a",
        b"\x0a\x80",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a\x7f\x0a",
        b"\x0b",
        b"\x00\x00",
        b"\x1a\x7f",
        b"\x1a\x02\x12\x7f",
        b"\xff",
        b"\xff" * 11,
        b"\x80\x80\x80\x80\x80\x80\x01\x05",
        raw.message(1, b"\x0a\x7f"),
        raw.message(1, raw.labels(UP) + b"\x12\x10\x09"),
        raw.message(1, raw.labels(UP) + b"\x12\x0a\x09" + bytes(9)),
        raw.message(1, raw.message(1, b"\x0a\x7f") + raw.sample(1, T)),
    ]
)


@given(st.lists(st.tuples(any_writes.raw_requests(with_metadata=False), BAD_ENDS), max_size=5))
def test_good_starts_with_bad_ends(requests: list[tuple[bytes, bytes]]) -> None:
    """Whatever was taken in before the fault was found is given back: seals, runs and counts."""
    rig = prepared()
    for good, bad in requests:
        assert refuse(rig, good + bad)
        assert refuse(rig, good + REQUEST + bad)
    assert_goes_on_right(rig)


@given(st.lists(st.tuples(any_writes.raw_requests(with_metadata=False), BAD_ENDS), max_size=4))
def test_refusals_between_good_requests(requests: list[tuple[bytes, bytes]]) -> None:
    """The stream that comes out is that of the good requests alone."""
    rig, oracle = Rig(), SlowRelay()
    sink = rig.export(RigSink("s", limit=3, options=NUMBERS))
    expected = []
    for good, bad in requests:
        assert refuse(rig, good + bad)
        expected += oracle.take(RawWriteRequest.FromString(good)).points
        rig.feed(good)
        assert refuse(rig, good + bad)
    assert {sealed.count for sealed in sink.sealed} <= {3}
    rig.flush()
    assert_same(expected, sink.points())


@given(st.binary(max_size=60) | any_writes.raw_requests().map(lambda body: body[:-1]))
def test_arbitrary_bytes_are_refused_cleanly_or_come_out_as_valid_otlp(body: bytes) -> None:
    rig = prepared()
    if not refuse(rig, body):
        rig.flush()
        for sealed in rig.sinks[0].sealed:
            assert len(decode(sealed.point_buffer.encode())) == sealed.count
        return
    assert_goes_on_right(rig)


def test_too_many_new_series_are_refused_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """TooLargeError comes in the middle, when many points are in their batches."""
    monkeypatch.setattr("relay.pipeline.metrics.hotpath.slow_path.SLOW_PATH_ENTRIES_MAX", 10)
    rig = prepared()
    new = [raw.series([(b"__name__", b"new%d" % n)], (1.5, T + 2)) for n in range(11)]
    known = raw.series(UP, (1.5, T + 2)) * 50
    assert refuse(rig, b"".join(new) + known)
    assert refuse(rig, known + b"".join(new))
    assert_goes_on_right(rig)
    assert not refuse(prepared(), b"".join(new[:5]) + known)
