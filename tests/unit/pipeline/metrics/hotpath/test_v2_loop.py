"""Remote write 2.0 in the pipeline: metadata of series, and bodies made to become too much."""

from __future__ import annotations

import tracemalloc

import pytest

from relay.codec.remote_write.v1 import SeriesFault
from relay.codec.remote_write.v2 import REFS_MAX, Symbols, parse_request, parse_series
from relay.pipeline.metrics.hotpath import slow_path
from relay.pipeline.metrics.metadata.metric_types import family_of
from relay.runtime.errors import DecodeError, TooLargeError
from tests.kit.engine_rig import NUMBERS, Rig, RigSink
from tests.kit.oracle.any_points import AnyPoint
from tests.kit.remote_write import raw
from tests.kit.remote_write.symbolic import T0_MS, Request2, native

COUNTER, GAUGE, HISTOGRAM, SUMMARY = 1, 2, 3, 5


def feed(rig: Rig, request: Request2) -> None:
    """Ingest a request of 2.0."""
    rig.feed(request.body, protocol="remote_write_v2")


def points_of(*requests: Request2) -> list[AnyPoint]:
    """What comes out of an engine with one sink that takes numbers."""
    rig = Rig()
    sink = rig.export(RigSink("s", limit=1000, options=NUMBERS))
    for request in requests:
        feed(rig, request)
    rig.flush()
    return sink.any_points()


def test_metadata_types_its_own_series_at_once() -> None:
    request = Request2()
    request.series(
        {"__name__": "lat_seconds_count"}, (1.0, T0_MS), metadata=(HISTOGRAM, "Latency.", "seconds")
    )
    request.series({"__name__": "temp"}, (1.0, T0_MS), metadata=(GAUGE, "", "celsius"))
    request.series({"__name__": "hits_total"}, (1.0, T0_MS), metadata=(COUNTER, "Hits.", ""))
    identities = {point.name: point.identity for point in points_of(request)}
    assert identities["lat_seconds_count"] == (
        "sum",
        True,
        "cumulative",
        "",
        "Latency.",
        "histogram",
    )
    assert identities["temp"] == ("gauge", False, "", "Cel", "", "gauge")
    assert identities["hits_total"] == ("sum", True, "cumulative", "", "Hits.", "counter")


def test_metadata_of_a_native_histogram() -> None:
    request = Request2()
    labels = {"__name__": "latency"}
    native(request.series(labels, metadata=(HISTOGRAM, "Latency.", "seconds")))
    rig = Rig()
    sink = rig.export(RigSink("s", limit=10))
    feed(rig, request)
    rig.flush()
    (point,) = sink.any_points()
    assert point.identity[3:] == ("s", "Latency.", "histogram")


def test_a_series_that_is_typed_later_is_resolved_once_more() -> None:
    first, second = Request2(), Request2()
    first.series({"__name__": "jobs"}, (1.0, T0_MS))
    second.series({"__name__": "jobs"}, (2.0, T0_MS + 1), metadata=(COUNTER, "Jobs.", ""))
    kinds = [point.identity.kind for point in points_of(first, second)]
    assert kinds == ["gauge", "sum"]


@pytest.mark.parametrize(
    ("name", "kind", "family"),
    [
        ("h_bucket", HISTOGRAM, "h"),
        ("h_count", HISTOGRAM, "h"),
        ("h", HISTOGRAM, "h"),
        ("s_sum", SUMMARY, "s"),
        ("hits_total", COUNTER, "hits_total"),
        ("x_count", GAUGE, "x_count"),
        ("x_count", 0, "x_count"),
        ("_count", HISTOGRAM, "_count"),
        ("x_count", 99, "x_count"),
    ],
)
def test_families(name: str, kind: int, family: str) -> None:
    assert family_of(name, kind) == family


def test_references_unpacked_and_packed_are_the_same() -> None:
    body = raw.message(1, b"\x01\x02") + b"\x08\x03" + b"\x08\x80\x01" + raw.message(1, b"\x05")
    assert parse_series(body, 0, len(body)).refs == [1, 2, 3, 128, 5]


def test_too_many_references() -> None:
    body = raw.message(1, b"\x01" * (REFS_MAX + 1))
    with pytest.raises(DecodeError):
        parse_series(body, 0, len(body))


def test_labels_of_references_are_bounded_before_they_are_made() -> None:
    symbols = Symbols([b"", b"name", b"x" * 1_000_000])
    tracemalloc.start()
    try:
        with pytest.raises(SeriesFault) as fault:
            symbols.key([1, 2] * 2000, bytes_max=16_384)
        assert fault.value.reason == "too_large"
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_symbols_and_series_are_bounded_in_number() -> None:
    with pytest.raises(TooLargeError):
        parse_request(b"\x22\x00" * 11, entries_max=10)
    with pytest.raises(TooLargeError):
        parse_series(b"\x12\x00" * 11, 0, 22, entries_max=10)


def test_a_few_bytes_that_become_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A series costs 25 bytes and repeats 16 kB of labels: refused, and nothing of it stays."""
    monkeypatch.setattr(slow_path, "EXPANSION_BYTES_MAX", 1 << 20)
    request = Request2()
    for n in range(100):
        request.series({"__name__": "m", "long": "x" * 16_000}, (1.0, T0_MS + n))
    assert len(request.body) < 20_000
    rig = Rig()
    rig.export(RigSink("s", limit=1000))
    before = rig.snapshot()
    with pytest.raises(TooLargeError):
        feed(rig, request)
    assert rig.snapshot() == before


def test_gaps_of_native_histograms_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_path, "BUCKETS_MAX", 100_000)
    request = Request2()
    for n in range(10):
        spans = [(0, 4), (15_000, 1)]
        native(request.series({"__name__": "m", "n": str(n)}), spans=spans, schema=8)
    rig = Rig()
    rig.export(RigSink("s", limit=1000))
    before = rig.snapshot()
    with pytest.raises(TooLargeError):
        feed(rig, request)
    assert rig.snapshot() == before
