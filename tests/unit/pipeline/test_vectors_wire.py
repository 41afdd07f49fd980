"""Vectors 17 to 35 and 38 to 43 of the remote-write reference, each by its number.

The rest: 1 to 16, 36, 37, 44, 49 and 50 are in ``test_vectors_kinds``, and 45 to 48, which a
listener answers, in ``tests/contract/test_sender_answers``.
"""

from __future__ import annotations

import math
import struct
import tracemalloc
from typing import Any

import pytest

from relay.codec.remote_write.v1 import WriteProtocol
from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.limits import Limits
from relay.runtime.errors import DecodeError
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.oracle.any_points import AnyPoint, bits
from tests.kit.remote_write import raw
from tests.kit.remote_write.prompb import WriteRequest
from tests.kit.remote_write.symbolic import T0_MS, Request2, native

V2: WriteProtocol = "remote_write_v2"
T0_NS = T0_MS * 1_000_000
STALE_NAN = struct.unpack("<d", bytes.fromhex("020000000000f07f"))[0]
ORDINARY_NAN = struct.unpack("<d", bytes.fromhex("010000000000f87f"))[0]
LATENCY = {"__name__": "latency", "job": "api"}
UP = {"__name__": "up", "job": "api"}


def export(
    *bodies: bytes, protocol: WriteProtocol = V2
) -> tuple[list[AnyPoint], list[BatchTransaction]]:
    """What comes out of an engine with one sink that takes everything."""
    rig = Rig()
    sink = rig.export(RigSink("s", limit=10_000))
    intakes = [rig.feed(body, protocol=protocol) for body in bodies]
    rig.flush()
    rig.engine.router.flush_counters()
    assert sink.counter.points == sum(sealed.count for sealed in sink.sealed)
    return sink.any_points(), intakes


def one(**given: Any) -> tuple[list[AnyPoint], BatchTransaction]:
    """One native histogram like vector 17 but for what is given, by 2.0 and by 1.0 alike."""
    request = Request2()
    native(request.series(LATENCY), **given)
    points, (transaction,) = export(request.body)
    older = WriteRequest()
    series = older.timeseries.add()
    for name, value in LATENCY.items():
        series.labels.add(name=name, value=value)
    native(series, **given)
    older_points, (older_intake,) = export(older.SerializeToString(), protocol="remote_write_v1")
    assert points == older_points
    assert transaction.dropped == older_intake.dropped
    return points, transaction


def taken(transaction: BatchTransaction) -> tuple[int, int, int]:
    """What the Written headers will say."""
    return (
        transaction.samples - transaction.histograms,
        transaction.histograms,
        transaction.exemplars - transaction.exemplars_refused,
    )


def test_vector_17_native_histogram() -> None:
    (point,), transaction = one()
    assert point.identity[:3] == ("exponential_histogram", False, "cumulative")
    assert point.name == "latency"
    assert point.resource == (("service.name", "api"),)
    # Offset -3, counts 3, 5, 0, 0, 1, 0, 3, 2.
    buckets = ((-3, 3), (-2, 5), (1, 1), (3, 3), (4, 2))
    assert point.data == (18, bits(42.5), 0, 4, 1e-128, buckets, ())
    assert (point.time_ns, point.start_ns, point.flags) == (T0_NS, 0, 0)
    assert taken(transaction) == (0, 1, 0)


def test_vector_18_nan_observations_are_in_no_bucket() -> None:
    (point,), _ = one(count=20, sum=ORDINARY_NAN)
    assert point.data[0] == 18
    points, transaction = one(count=20)  # no NaN in the sum, so the count is wrong
    assert (points, transaction.dropped) == ([], {"histogram_invalid": 1})
    points, transaction = one(count=17, sum=ORDINARY_NAN)
    assert (points, transaction.dropped) == ([], {"histogram_invalid": 1})


@pytest.mark.parametrize(("schema", "overflow"), [(8, 262145), (0, 1025), (-4, 65)])
def test_vector_19_overflow_bucket(schema: int, overflow: int) -> None:
    spans, deltas = [(overflow - 1, 2)], [3, -1]
    (point,), _ = one(schema=schema, spans=spans, deltas=deltas, zero=0, count=5)
    assert point.data[0] == 3
    assert point.data[5] == ((overflow - 2, 3),)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"reset_hint": 3}, "histogram_gauge"),
        ({"count_float": 18.0}, "histogram_float"),
        ({"zero_count_float": 4.0}, "histogram_float"),
        ({"positive_counts": [1.0]}, "histogram_float"),
        ({"schema": 9}, "histogram_schema"),
        ({"schema": -5}, "histogram_schema"),
    ],
)
def test_vector_20_what_otlp_has_no_word_for(change: dict[str, Any], reason: str) -> None:
    request = Request2()
    histogram = native(request.series(LATENCY))
    for field, value in change.items():
        if field == "positive_counts":
            histogram.positive_counts.extend(value)
        else:
            setattr(histogram, field, value)
    points, (transaction,) = export(request.body)
    assert (points, transaction.dropped) == ([], {reason: 1})
    assert taken(transaction) == (0, 0, 0)


def custom(bounds: list[float], **given: Any) -> tuple[list[AnyPoint], BatchTransaction]:
    """A native histogram with custom buckets."""
    request = Request2()
    histogram = native(request.series(LATENCY), schema=-53, zero=0, **given)
    histogram.zero_threshold = 0
    histogram.custom_values.extend(bounds)
    points, (transaction,) = export(request.body)
    return points, transaction


def test_vector_21_custom_buckets() -> None:
    (point,), _ = custom([1, 2], spans=[(1, 2)], deltas=[3, -1], count=5)
    assert point.identity.kind == "histogram"
    assert point.data == (5, bits(42.5), (1.0, 2.0), (0, 3, 2))
    (point,), _ = custom([], spans=[(0, 1)], deltas=[3], count=3)
    assert point.data == (3, bits(42.5), (), (3,))


@pytest.mark.parametrize(
    ("bounds", "given"),
    [
        ([1, 1], {"spans": [(1, 2)], "deltas": [3, -1], "count": 5}),
        ([2, 1], {"spans": [(1, 2)], "deltas": [3, -1], "count": 5}),
        ([1, math.inf], {"spans": [(1, 2)], "deltas": [3, -1], "count": 5}),
        ([math.nan], {"spans": [(0, 1)], "deltas": [5], "count": 5}),
        ([1, 2], {"spans": [(2, 2)], "deltas": [3, -1], "count": 5}),
        ([1, 2], {"spans": [(-1, 2)], "deltas": [3, -1], "count": 5}),
        ([1, 2], {"spans": [(1, 2)], "deltas": [3, -1], "count": 6}),
    ],
)
def test_vector_21_custom_buckets_that_contradict(
    bounds: list[float], given: dict[str, Any]
) -> None:
    points, transaction = custom(bounds, **given)
    assert (points, transaction.dropped) == ([], {"histogram_invalid": 1})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"spans": [(0, 4)]}, "histogram_invalid"),
        ({"spans": [(0, 6)]}, "histogram_invalid"),
        ({"spans": []}, "histogram_invalid"),
        ({"deltas": [3, -4, 0, 0, 0]}, "histogram_invalid"),
        ({"spans": [(0, 2), (-1, 3)]}, "histogram_invalid"),
        ({"spans": [(0, 4_294_967_295), (0, 1)]}, "histogram_invalid"),
        ({"spans": [(-2_147_483_648, 5)]}, "histogram_too_large"),
        ({"spans": [(-2_000_000_000, 4), (1_000_000_000, 1)]}, "histogram_too_large"),
    ],
)
def test_vector_22_hostile_spans(given: dict[str, Any], reason: str) -> None:
    request = Request2()
    native(request.series(LATENCY), **given)
    request.series(UP, (1.0, T0_MS))
    rig = Rig()
    sink = rig.export(RigSink("s", limit=100))
    rig.feed(request.body, protocol=V2)  # what is made once is not what the spans take
    tracemalloc.start()
    try:
        transaction = rig.feed(request.body, protocol=V2)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
    rig.flush()
    assert transaction.dropped == {reason: 1}
    assert [point.name for point in sink.any_points()] == ["up", "up"]


def test_vector_23_stale_markers_and_other_nans() -> None:
    request = Request2()
    request.series(UP, (STALE_NAN, T0_MS), (ORDINARY_NAN, T0_MS + 1))
    native(request.series(LATENCY), sum=STALE_NAN, count=0, spans=[], deltas=[], zero=0)
    points, (transaction,) = export(request.body)
    stale, nan, histogram = points
    assert (stale.flags, stale.data) == (1, bits(STALE_NAN))
    assert (nan.flags, nan.data) == (0, bits(ORDINARY_NAN))
    assert (histogram.flags, histogram.identity.kind) == (1, "exponential_histogram")
    assert histogram.data[:2] == (0, None)
    assert taken(transaction) == (2, 1, 0)


def test_vector_23_a_stale_marker_ends_the_kind_that_there_was() -> None:
    request = Request2()
    series = request.series(LATENCY)
    histogram = native(series, schema=-53, zero=0, spans=[(1, 2)], deltas=[3, -1], count=5)
    histogram.custom_values.extend([1, 2])
    native(series, T0_MS + 1, sum=STALE_NAN, count=0, spans=[], deltas=[], zero=0)
    points, _ = export(request.body)
    assert [(p.identity.kind, p.flags) for p in points] == [("histogram", 0), ("histogram", 1)]


def test_vector_24_infinities_and_zeros() -> None:
    request = Request2()
    request.series(UP, (math.inf, T0_MS), (-math.inf, T0_MS + 1), (0.0, T0_MS + 2))
    points, _ = export(request.body)
    assert [point.value for point in points] == [math.inf, -math.inf, 0.0]
    # A sender that writes the bytes of -0.0 keeps its sign; the official classes do.
    request = Request2()
    request.series(UP, (-0.0, T0_MS))
    assert b"\x09" + bits(-0.0).to_bytes(8, "little") in request.body
    points, _ = export(request.body)
    assert points[0].data == bits(-0.0)


@pytest.mark.parametrize("timestamp", [0, -1])
def test_vector_25_no_time(timestamp: int) -> None:
    request = Request2()
    request.series(UP, (0.0, timestamp), (5.0, T0_MS))
    native(request.series(LATENCY), timestamp)
    points, (transaction,) = export(request.body)
    assert [point.value for point in points] == [5.0]
    assert transaction.dropped == {"timestamp": 2}
    assert taken(transaction) == (1, 0, 0)


def test_vector_26_a_time_beyond_nanoseconds() -> None:
    request = Request2()
    request.series(UP, (1.0, 1 << 62), (2.0, (2**63 - 1) // 1_000_000))
    native(request.series(LATENCY), 1 << 62)
    points, (transaction,) = export(request.body)
    assert [point.time_ns for point in points] == [9_223_372_036_854_000_000]
    assert transaction.dropped == {"timestamp": 2}


def test_vector_27_empty_label_value_and_name() -> None:
    request = Request2()
    request.series({**UP, "zone": ""}, (1.0, T0_MS))
    request.series({**UP, "": "x"}, (1.0, T0_MS))
    points, (transaction,) = export(request.body)
    assert [point.attributes for point in points] == [()]
    assert transaction.dropped == {"empty_label_name": 1}


def test_vector_28_duplicate_label() -> None:
    request = Request2()
    request.series(UP, (1.0, T0_MS)).labels_refs.extend(request.refs({"job": "other"}))
    request.series(LATENCY, (2.0, T0_MS))
    points, (transaction,) = export(request.body)
    assert [point.name for point in points] == ["latency"]
    assert transaction.dropped == {"duplicate_label": 1}
    assert taken(transaction) == (1, 0, 0)


def test_vector_29_unsorted_labels() -> None:
    request = Request2()
    request.series({"__name__": "m", "a": "1", "b": "2"}, (1.0, T0_MS))
    request.series({"b": "2", "a": "1", "__name__": "m"}, (2.0, T0_MS + 1))
    first, second = export(request.body)[0]
    assert first[:5] == second[:5]


def test_vector_30_missing_name() -> None:
    request = Request2()
    for labels in (UP, {"job": "api"}, LATENCY, {"__name__": "x"}):
        request.series(labels, (1.0, T0_MS))
    request.series({"__name__": "", "job": "api"}, (1.0, T0_MS))
    points, (transaction,) = export(request.body)
    assert len(points) == 3
    assert transaction.dropped == {"missing_name": 2}
    assert taken(transaction) == (3, 0, 0)


def test_vector_31_references_that_point_nowhere() -> None:
    request = Request2()
    request.series(UP, (1.0, T0_MS)).labels_refs.append(1)
    request.series(UP, (1.0, T0_MS)).labels_refs.extend([1, 99])
    request.series(UP, (1.0, T0_MS)).labels_refs.extend([4_294_967_295, 0])
    request.series(UP, (2.0, T0_MS))
    points, (transaction,) = export(request.body)
    assert [point.value for point in points] == [2.0]
    assert transaction.dropped == {"symbol_refs": 3}


def test_vector_31_a_first_symbol_that_is_not_empty() -> None:
    """Kept: only a help or unit of reference 0 could be misread, and those are none."""
    request = Request2(symbols=["__name__", "up"])
    request.message.timeseries.add(labels_refs=[0, 1]).samples.add(value=1, timestamp=T0_MS)
    request.message.timeseries[0].metadata.type = 2
    (point,), _ = export(request.body)
    assert (point.name, point.identity.description, point.identity.unit) == ("up", "", "")


def test_vector_32_a_body_of_2_0_under_the_type_of_1_0() -> None:
    request = Request2()
    request.series(UP, (1.0, T0_MS))
    points, (transaction,) = export(request.body, protocol="remote_write_v1")
    assert (points, transaction.samples, transaction.dropped) == ([], 0, {})


def test_vector_33_samples_and_histograms_in_one_series() -> None:
    request = Request2()
    native(request.series(LATENCY, (1.0, T0_MS)))
    request.series(UP, (1.0, T0_MS))
    points, (transaction,) = export(request.body)
    assert [point.name for point in points] == ["up"]
    assert transaction.dropped == {"samples_and_histograms": 2}
    assert taken(transaction) == (1, 0, 0)


def test_vector_34_out_of_order() -> None:
    request = Request2()
    request.series(UP, *[(float(n), T0_MS + n) for n in (3, 1, 2)])
    series = request.series(LATENCY)
    for n in (3, 1, 2):
        native(series, T0_MS + n)
    points, _ = export(request.body)
    for name in ("up", "latency"):
        times = [point.time_ns for point in points if point.name == name]
        assert times == [T0_NS + n * 1_000_000 for n in (1, 2, 3)]


def test_vector_35_the_same_time_twice() -> None:
    request = Request2()
    request.series(UP, (1.0, T0_MS), (2.0, T0_MS), (2.0, T0_MS))
    series = request.series(LATENCY)
    for total in (1.0, 2.0):
        native(series, sum=total)
    points, (transaction,) = export(request.body)
    assert points[0].value == 2.0
    assert points[1].data[1] == bits(2.0)
    assert len(points) == 2
    assert transaction.dropped == {"duplicate_timestamp": 3}


def test_vector_38_start_times() -> None:
    start = T0_MS - 60_000
    request = Request2()
    request.series(UP, (1.0, T0_MS, start), (2.0, T0_MS + 1))
    request.series({"__name__": "late"}, (1.0, T0_MS, T0_MS + 1))  # a start to come is none
    request.series({"__name__": "rc3_total"}, (1.0, T0_MS), created_ms=start)
    native(request.series(LATENCY)).start_timestamp = start
    native(request.series({"__name__": "rc3"}, created_ms=start))
    points, _ = export(request.body)
    starts = {(point.name, point.time_ns - T0_NS): point.start_ns for point in points}
    assert starts == {
        ("up", 0): start * 1_000_000,
        ("up", 1_000_000): 0,
        ("late", 0): 0,
        ("rc3_total", 0): start * 1_000_000,
        ("latency", 0): start * 1_000_000,
        ("rc3", 0): start * 1_000_000,
    }


TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_vector_39_exemplars() -> None:
    request = Request2()
    series = request.series({"__name__": "hits_total"}, (5.0, T0_MS))
    request.exemplar(
        series, {"trace_id": TRACE.upper(), "span_id": SPAN, "user": "é"}, 0.5, T0_MS - 1
    )
    request.exemplar(series, {"trace_id": "abc123", "span_id": "0" * 16}, 0.7, T0_MS)
    (point,), (transaction,) = export(request.body)
    good, odd = point.exemplars
    assert good == ((T0_MS - 1) * 1_000_000, 0.5, TRACE, SPAN, (("user", "é"),))
    assert odd == (T0_NS, 0.7, "", "", (("span_id", "0" * 16), ("trace_id", "abc123")))
    assert transaction.dropped == {}
    assert taken(transaction) == (1, 0, 2)


def test_vector_39_exemplars_of_a_native_histogram() -> None:
    request = Request2()
    series = request.series(LATENCY)
    native(series)
    native(series, T0_MS + 1)
    request.exemplar(series, {"trace_id": TRACE}, 0.5, T0_MS)
    points, (transaction,) = export(request.body)
    assert [[e.trace_id for e in point.exemplars] for point in points] == [[], [TRACE]]
    assert taken(transaction) == (0, 2, 1)


def test_vector_40_exemplars_without_samples() -> None:
    request = Request2()
    request.exemplar(request.series(UP), {"trace_id": TRACE}, 0.5, T0_MS)
    points, (transaction,) = export(request.body)
    assert (points, transaction.dropped) == ([], {})
    assert taken(transaction) == (0, 0, 1)


def test_vector_40_metadata_alone_and_an_empty_body() -> None:
    metadata = WriteRequest()
    metadata.metadata.add(type=1, metric_family_name="hits", help="Hits.")
    for body, protocol in [
        (metadata.SerializeToString(), "remote_write_v1"),
        (b"", "remote_write_v1"),
        (b"", "remote_write_v2"),
    ]:
        points, (transaction,) = export(body, protocol=protocol)  # type: ignore[arg-type]
        assert (points, transaction.dropped) == ([], {})


def test_vector_41_utf8_names() -> None:
    request = Request2()
    request.series({"__name__": "resource cpu.usage", "job name": "é"}, (1.0, T0_MS))
    (point,), _ = export(request.body)
    assert (point.name, point.attributes) == ("resource cpu.usage", (("job name", "é"),))


def test_vector_42_invalid_utf8() -> None:
    request = Request2()
    request.series({**UP, "zone": "XX"}, (1.0, T0_MS))
    request.series(UP, (2.0, T0_MS))
    points, (transaction,) = export(request.body.replace(b"XX", b"\xff\xfe"))
    assert [point.value for point in points] == [2.0]
    assert transaction.dropped == {"invalid_utf8": 1}


def test_vector_43_limits() -> None:
    rig = Rig(Limits(labels_max=64, series_bytes_max=4096))
    sink = rig.export(RigSink("s", limit=10))
    request = Request2()
    request.series({**UP, "long": "x" * (1 << 20)}, (1.0, T0_MS))
    request.series({**UP, **{f"label{n}": "x" for n in range(200)}}, (1.0, T0_MS))
    request.series(UP, (2.0, T0_MS))
    transaction = rig.feed(request.body, protocol=V2)
    rig.flush()
    assert [point.value for point in sink.any_points()] == [2.0]
    assert transaction.dropped == {"too_large": 1, "too_many_labels": 1}


@pytest.mark.parametrize("protocol", ["remote_write_v1", "remote_write_v2"])
def test_what_is_no_protobuf_is_refused(protocol: WriteProtocol) -> None:
    with pytest.raises(DecodeError):
        export(raw.series([(b"__name__", b"up")], (1.0, T0_MS))[:-1], protocol=protocol)
