"""Remote write 2.0 against 1.0: the same content becomes the same points, whichever brought it.

The decoder of 1.0 is held to the official classes elsewhere, so this holds that of 2.0 to them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from google.protobuf.message import DecodeError as OfficialDecodeError
from hypothesis import given
from hypothesis import strategies as st

from relay.codec.remote_write.v2 import parse_request, parse_series
from relay.pipeline.limits import Limits
from relay.runtime.errors import DecodeError, TooLargeError
from tests.kit.engine_rig import OutputOptions, Rig, RigSink
from tests.kit.remote_write.prompb import RequestV2, WriteRequest
from tests.kit.remote_write.symbolic import T0_MS, Request2, native

DELTA = OutputOptions(temporality="delta")
NAMES = ["up", "a_total", "h_bucket", "h_count", "h_sum", "grün", "latency"]
LABELS = st.dictionaries(
    st.sampled_from(["job", "instance", "code", "le", "zone", "bad name"]),
    st.sampled_from(["", "api", "ns/app", "0.5", "1", "+Inf", "é" * 40]),
    max_size=3,
)
VALUES = st.sampled_from([0.0, -0.0, 1.0, 5.5, float("inf"), float("nan"), 1e300])
TIMES = st.one_of(st.integers(T0_MS, T0_MS + 5), st.sampled_from([0, -1, 2**62]))
EXEMPLARS = st.tuples(
    st.dictionaries(
        st.sampled_from(["trace_id", "span_id", "user"]),
        st.sampled_from(["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "x", "y" * 1100]),
        max_size=2,
    ),
    st.floats(allow_nan=False),
    TIMES,
)
SERIES = st.fixed_dictionaries(
    {
        "labels": st.tuples(st.sampled_from(NAMES), LABELS, st.integers(0, 15)),
        "samples": st.lists(st.tuples(VALUES, TIMES), max_size=3),
        "histograms": st.lists(TIMES, max_size=2),
        "exemplars": st.lists(EXEMPLARS, max_size=2),
    }
)
REQUESTS = st.lists(st.lists(SERIES, max_size=5), min_size=1, max_size=3)


def labels_of(series: dict[str, Any]) -> dict[str, str]:
    """Labels with a name, nearly always."""
    name, rest, odd = series["labels"]
    return {**rest, "__name__": name} if odd else dict(rest)


def as_v1(request: list[dict[str, Any]]) -> bytes:
    """The request by version 1.0."""
    message = WriteRequest()
    for given_series in request:
        series = message.timeseries.add()
        for name, value in labels_of(given_series).items():
            series.labels.add(name=name, value=value)
        _fill(series, given_series)
        for labels, value, timestamp in given_series["exemplars"]:
            exemplar = series.exemplars.add(value=value, timestamp=timestamp)
            for name, text in labels.items():
                exemplar.labels.add(name=name, value=text)
    encoded: bytes = message.SerializeToString()
    return encoded


def as_v2(request: list[dict[str, Any]]) -> bytes:
    """The request by version 2.0."""
    message = Request2()
    for given_series in request:
        series = message.series(labels_of(given_series))
        _fill(series, given_series)
        for exemplar in given_series["exemplars"]:
            message.exemplar(series, *exemplar)
    return message.body


def _fill(series: Any, content: dict[str, Any]) -> None:
    for value, timestamp in content["samples"]:
        series.samples.add(value=value, timestamp=timestamp)
    if not content["samples"]:  # 2.0 allows one of both
        for timestamp in content["histograms"]:
            native(series, timestamp)


def rig_of(*options: OutputOptions) -> Rig:
    """An engine with a sink for each of these options."""
    rig = Rig(Limits(series_max=50))
    rig.export(*[RigSink(f"s{n}", limit=7, options=given) for n, given in enumerate(options)])
    return rig


@given(REQUESTS)
def test_the_same_content_becomes_the_same_points(requests: list[list[dict[str, Any]]]) -> None:
    old, new = rig_of(OutputOptions(), DELTA), rig_of(OutputOptions(), DELTA)
    for number, request in enumerate(requests):
        ours = old.feed(as_v1(request), tick=number)
        theirs = new.feed(as_v2(request), tick=number, protocol="remote_write_v2")
        assert ours.dropped == theirs.dropped
        assert ours.samples == theirs.samples
        assert ours.histograms == theirs.histograms
        assert ours.taken == theirs.taken
        assert ours.exemplars == theirs.exemplars
    for rig in (old, new):
        rig.due(1e6)
        rig.flush()
        rig.engine.router.flush_counters()
    for one, other in zip(old.sinks, new.sinks, strict=True):
        assert one.any_points() == other.any_points()
        assert one.counter.points == other.counter.points == sum(s.count for s in one.sealed)
    assert old.engine.statistics().dropped_samples == new.engine.statistics().dropped_samples


@given(REQUESTS, st.data())
def test_a_damaged_request_leaves_no_trace_or_is_read_like_officially(
    requests: list[list[dict[str, Any]]], data: st.DataObject
) -> None:
    rig = rig_of(OutputOptions(), DELTA)
    for request in requests:
        body = bytearray(as_v2(request))
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
        before = rig.snapshot()
        try:
            rig.feed(bytes(body), protocol="remote_write_v2")
        except (DecodeError, TooLargeError):
            assert rig.snapshot() == before
            continue
        _assert_read_alike(bytes(body))
    rig.due(1e6)
    rig.flush()
    for sink in rig.sinks:
        assert len(sink.any_points()) == sink.held


def _assert_read_alike(body: bytes) -> None:
    try:
        official = RequestV2.FromString(body)
    except OfficialDecodeError:
        return  # groups and invalid UTF-8: the official classes refuse the whole request
    _, spans = parse_request(body)
    assert len(spans) == len(official.timeseries)
    for span, theirs in zip(spans, official.timeseries, strict=True):
        ours = parse_series(body, *span)
        assert ours.refs == list(theirs.labels_refs)
        assert [sample[1:] for sample in ours.samples] == [
            (sample.timestamp, sample.start_timestamp) for sample in theirs.samples
        ]
        assert len(ours.exemplars) == len(theirs.exemplars)
        assert len(ours.histograms) == len(theirs.histograms)
        assert ours.created_ms == theirs.created_timestamp
        assert (ours.metadata is not None) == theirs.HasField("metadata")


def test_every_sample_of_either_version_is_received() -> None:
    rig = rig_of(OutputOptions())
    request = [
        {
            "labels": ("up", {}, 1),
            "samples": [(1.0, T0_MS)],
            "histograms": [],
            "exemplars": [],
        }
    ]
    rig.feed(as_v1(request))
    rig.feed(as_v2(request) * 2, protocol="remote_write_v2")
    received = rig.engine.statistics().received_by_protocol
    assert Counter(received) == {"remote_write_v1": 1, "remote_write_v2": 2}
