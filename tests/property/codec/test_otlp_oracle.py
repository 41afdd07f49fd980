"""The OTLP encoder and splitter against the official opentelemetry-proto classes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest as Request,
)

from relay.codec.otlp.groups import MetricGroup, ResourceGroup, ScopeGroup
from relay.codec.otlp.metrics import VALUE_TAG, MetricIdentity, point_prefix, stale_prefix
from relay.codec.otlp.point_buffer import PointBuffer
from relay.codec.otlp.split import count_points, split_request
from tests.kit.examples import examples

STALE_BITS = 0x7FF0000000000002
SPECIAL_BITS = [
    STALE_BITS,
    0x7FF8000000000001,  # Prometheus' ordinary NaN
    0xFFF8000000000000,
    0x7FF0000000000000,  # infinities
    0xFFF0000000000000,
    0x8000000000000000,  # -0.0
    0,
]

# No deadline and no speed check: a busy machine is not a fault of the code.
usual = examples(60)

texts = st.text(max_size=6) | st.just("x" * 200)  # some longer than a one-byte length
attributes = st.dictionaries(texts, texts, max_size=3)
uint64s = st.integers(0, 2**64 - 1)
value_bits = st.sampled_from(SPECIAL_BITS) | uint64s


@dataclass(frozen=True)
class Point:
    """A number point, in and out: ``flags`` is 1 where no value was recorded."""

    attributes: tuple[tuple[str, str], ...]
    time_ns: int
    bits: int
    flags: int


@dataclass
class Stream:
    """A metric of a scope of a resource: what it was made from, and its group."""

    resource: int
    scope: int
    identity: MetricIdentity
    group: MetricGroup


points = st.builds(
    Point,
    attributes=attributes.map(lambda pairs: tuple(pairs.items())),
    time_ns=st.integers(1, 2**64 - 1),  # 0 is no time: see encode_time
    bits=value_bits,
    flags=st.integers(0, 1),
)

identities = st.builds(
    MetricIdentity,
    name=texts,
    kind=st.sampled_from(["gauge", "sum"]),
    monotonic=st.booleans(),
    unit=texts,
    description=texts,
    prometheus_type=texts,
)


@dataclass
class Batch:
    """``scopes`` are (resource, name, version, attributes), ``arrivals`` are (stream, point)."""

    resources: list[dict[str, str]]
    scopes: list[tuple[int, str, str, dict[str, str]]]
    streams: list[Stream]
    arrivals: list[tuple[int, Point]]


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    resources = draw(st.lists(attributes, min_size=1, max_size=2))
    resource_groups = [ResourceGroup(item.items()) for item in resources]
    scopes = []
    scope_groups = []
    for _ in range(draw(st.integers(1, 3))):
        resource = draw(st.integers(0, len(resources) - 1))
        name, version, pairs = draw(st.tuples(texts, texts, attributes))
        scopes.append((resource, name, version, pairs))
        scope_groups.append(ScopeGroup(resource_groups[resource], name, version, pairs.items()))
    streams = []
    for identity in draw(st.lists(identities, min_size=1, max_size=4)):
        scope = draw(st.integers(0, len(scopes) - 1))
        group = MetricGroup(scope_groups[scope], identity)
        streams.append(Stream(scopes[scope][0], scope, identity, group))
    chosen = st.tuples(st.integers(0, len(streams) - 1), points)
    return Batch(resources, scopes, streams, draw(st.lists(chosen, max_size=12)))


def fill(batch: Batch) -> PointBuffer:
    """Write a batch's points into an arena in their order of arrival, as the kernel does."""
    point_buffer = PointBuffer()
    for stream, point in batch.arrivals:
        prefix = point_prefix(point.attributes)
        point_buffer.add(
            stale_prefix(prefix) if point.flags else prefix,
            struct.pack("<Q", point.time_ns) + VALUE_TAG,
            struct.pack("<Q", point.bits),
        )
        point_buffer.close_run(batch.streams[stream].group)
    return point_buffer


def pairs_of(items: Any) -> dict[str, str]:
    found = {item.key: item.value.string_value for item in items}
    assert len(found) == len(items)
    assert all(item.value.WhichOneof("value") == "string_value" for item in items)
    return found


def read_point(point: Any) -> Point:
    assert point.WhichOneof("value") == "as_double"
    assert not point.start_time_unix_nano
    (bits,) = struct.unpack("<Q", struct.pack("<d", point.as_double))
    pairs = tuple((item.key, item.value.string_value) for item in point.attributes)
    return Point(pairs, point.time_unix_nano, bits, point.flags)


def first_seen(arrivals: list[Any]) -> list[Any]:
    return list(dict.fromkeys(arrivals))


@usual
@given(batches())
def test_a_batch_decodes_officially_to_what_went_in(batch: Batch) -> None:
    request = Request.FromString(fill(batch).encode())
    size = request.ByteSize()
    request.DiscardUnknownFields()
    assert request.ByteSize() == size, "there are fields that OTLP does not have"
    order = first_seen([stream for stream, _ in batch.arrivals])
    resources = first_seen([batch.streams[stream].resource for stream in order])
    assert len(request.resource_metrics) == len(resources)
    for resource, found in zip(resources, request.resource_metrics, strict=True):
        assert pairs_of(found.resource.attributes) == batch.resources[resource]
        of_resource = [s for s in order if batch.streams[s].resource == resource]
        scopes = first_seen([batch.streams[stream].scope for stream in of_resource])
        assert len(found.scope_metrics) == len(scopes)
        for scope, found_scope in zip(scopes, found.scope_metrics, strict=True):
            _, name, version, pairs = batch.scopes[scope]
            assert (found_scope.scope.name, found_scope.scope.version) == (name, version)
            assert pairs_of(found_scope.scope.attributes) == pairs
            streams = [s for s in of_resource if batch.streams[s].scope == scope]
            assert len(found_scope.metrics) == len(streams)
            for stream, metric in zip(streams, found_scope.metrics, strict=True):
                sent = [point for at, point in batch.arrivals if at == stream]
                check_metric(metric, batch.streams[stream].identity, sent)


def check_metric(metric: Any, identity: MetricIdentity, sent: list[Point]) -> None:
    assert metric.name == identity.name
    assert metric.unit == identity.unit
    assert metric.description == identity.description
    source = {"prometheus.type": identity.prometheus_type} if identity.prometheus_type else {}
    assert pairs_of(metric.metadata) == source
    assert metric.WhichOneof("data") == identity.kind
    if identity.kind == "sum":
        assert metric.sum.aggregation_temporality == 2
        assert metric.sum.is_monotonic == identity.monotonic
    data = getattr(metric, identity.kind)
    # Those of one time as they came; a late one may have been put where it belongs.
    found = [read_point(point) for point in data.data_points]
    assert sorted(found, key=lambda one: one.time_ns) == sorted(sent, key=lambda one: one.time_ns)


# Splitting, of requests with every kind of metric

KINDS = ["gauge", "sum", "histogram", "exponential_histogram", "summary"]


@st.composite
def requests(draw: st.DrawFn) -> Any:
    """A request whose points are told apart by their times."""
    request = Request()
    time = 0
    for _ in range(draw(st.integers(0, 2))):
        resource = request.resource_metrics.add(schema_url=draw(texts))
        resource.resource.attributes.add(key=draw(texts)).value.string_value = draw(texts)
        for _ in range(draw(st.integers(0, 2))):
            scope = resource.scope_metrics.add(schema_url=draw(texts))
            scope.scope.name = draw(texts)
            for _ in range(draw(st.integers(0, 3))):
                metric = scope.metrics.add(name=draw(texts), unit=draw(texts))
                metric.metadata.add(key="prometheus.type").value.string_value = draw(texts)
                kind = draw(st.sampled_from(KINDS))
                data = getattr(metric, kind)
                data.SetInParent()
                if kind not in ("gauge", "summary"):
                    data.aggregation_temporality = draw(st.integers(1, 2))
                for _ in range(draw(st.integers(0, 4))):
                    time += 1
                    point = data.data_points.add(time_unix_nano=time)
                    point.attributes.add(key=draw(texts)).value.string_value = draw(texts)
    return request


def flatten(request: Any) -> list[tuple[object, ...]]:
    """Every point with all that wraps it, as bytes, in order."""
    points = []
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                data = type(getattr(metric, kind))()
                data.CopyFrom(getattr(metric, kind))
                inside = list(data.data_points)
                del data.data_points[:]
                wrapper = type(metric)()
                wrapper.CopyFrom(metric)
                getattr(wrapper, kind).CopyFrom(data)
                points += [
                    (
                        resource.resource.SerializeToString(),
                        resource.schema_url,
                        scope.scope.SerializeToString(),
                        scope.schema_url,
                        wrapper.SerializeToString(),
                        point.SerializeToString(),
                    )
                    for point in inside
                ]
    return points


@usual
@given(requests())
def test_two_halves_are_the_whole(request: Any) -> None:
    data = request.SerializeToString()
    whole = flatten(request)
    assert count_points(data) == len(whole)
    halves = split_request(data)
    if len(whole) < 2:
        assert halves is None
        return
    assert halves is not None
    (first, first_points), (second, second_points) = halves
    assert first_points - second_points in (0, 1)
    found = [flatten(Request.FromString(half)) for half in (first, second)]
    assert [len(points) for points in found] == [first_points, second_points]
    assert found[0] + found[1] == whole


@usual
@given(requests())
def test_cutting_on_and_on_ends_in_single_points(request: Any) -> None:
    left = [request.SerializeToString()]
    single = []
    while left:
        data = left.pop()
        halves = split_request(data)
        if halves is None:
            single += flatten(Request.FromString(data))
        else:
            left += [half for half, _ in reversed(halves)]
    assert single == flatten(request)


@usual
@given(batches())
def test_our_own_requests_are_cut_without_a_rest(batch: Batch) -> None:
    data = fill(batch).encode()
    assert count_points(data) == len(batch.arrivals)
    halves = split_request(data)
    if halves is not None:
        found = [flatten(Request.FromString(half)) for half, _ in halves]
        assert found[0] + found[1] == flatten(Request.FromString(data))
