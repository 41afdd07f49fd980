"""Number points out of an official ExportMetricsServiceRequest, and which ones had to come out.

:func:`flatten` takes a request apart into points, refusing what OTLP's data model forbids;
:func:`assert_same` compares them with those that had to come out.
:mod:`tests.kit.oracle.any_points` does the same for points of every kind. Nothing of
``relay.pipeline`` or ``relay.codec`` may be imported here.
"""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

Pairs = tuple[tuple[str, str], ...]

NO_RECORDED_VALUE = 1  # DataPointFlags
TIME_NS_MAX = 2**63 - 1  # readers keep it in an int64


class Identity(NamedTuple):
    """What a metric's name is, apart from where it comes from."""

    kind: str
    monotonic: bool
    unit: str
    description: str
    prometheus_type: str


class Point(NamedTuple):
    """One number point with all that OTLP says about it; ``value_bits`` are the double's own.

    ``scope`` is its name, its version, and its attributes, if it has any.
    """

    resource: Pairs
    scope: tuple[Any, ...]
    name: str
    identity: Identity
    attributes: Pairs
    time_ns: int
    value_bits: int
    flags: int
    start_ns: int = 0


RESOURCE_PART_BYTES = 24 * 1024
"""Resources up to this size are not written in parts."""

Alternatives = tuple[Point, ...]
"""One point that must come out, in one or two acceptable forms."""


def flatten(request: ExportMetricsServiceRequest) -> list[Point]:
    """Every point of a request, in order. AssertionError where OTLP's data model is broken.

    A resource comes again only if it is large, and no metric of it does.
    """
    points: list[Point] = []
    assert request.resource_metrics, "empty envelope"
    sizes: dict[Pairs, int] = defaultdict(int)
    parts: dict[Pairs, int] = defaultdict(int)
    identities = []
    for resource_metrics in request.resource_metrics:
        _no_unknown(resource_metrics, resource_metrics.resource)
        resource = _pairs(resource_metrics.resource.attributes)
        sizes[resource] += resource_metrics.ByteSize()
        parts[resource] += 1
        assert resource_metrics.scope_metrics, "empty resource"
        scopes = []
        for scope_metrics in resource_metrics.scope_metrics:
            _no_unknown(scope_metrics, scope_metrics.scope)
            said = _pairs(scope_metrics.scope.attributes)
            scope = (scope_metrics.scope.name, scope_metrics.scope.version, *said)
            scopes.append(scope)
            assert scope_metrics.metrics, "empty scope"
            for metric in scope_metrics.metrics:
                identity = _identity_of(metric)
                identities.append((resource, scope, metric.name, identity))
                data = getattr(metric, identity.kind)
                assert data.data_points, "metric without points"
                context = (resource, scope, metric.name, identity)
                points += [_point(*context, point) for point in data.data_points]
        _unique(scopes, "scope")
    _unique(identities, "metric")
    for resource, count in parts.items():
        assert count == 1 or sizes[resource] > RESOURCE_PART_BYTES, "resource in parts"
    return points


def decode(body: bytes) -> list[Point]:
    """:func:`flatten` of a body as it is sent, before compression."""
    return flatten(ExportMetricsServiceRequest.FromString(body))


def _identity_of(metric: Any) -> Identity:
    assert metric.name
    kind = metric.WhichOneof("data")
    assert kind in ("gauge", "sum"), kind
    data = getattr(metric, kind)
    _no_unknown(metric, data)
    monotonic = False
    if kind == "sum":
        assert data.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
        monotonic = data.is_monotonic
    metadata = dict(_pairs(metric.metadata))
    prometheus_type = metadata.pop("prometheus.type", "")
    assert not metadata
    return Identity(kind, monotonic, metric.unit, metric.description, prometheus_type)


def _point(
    resource: Pairs, scope: tuple[Any, ...], name: str, identity: Identity, point: Any
) -> Point:
    _no_unknown(point)
    assert point.WhichOneof("value") == "as_double", "a value must be present"
    assert 0 < point.time_unix_nano <= TIME_NS_MAX
    assert point.start_time_unix_nano <= point.time_unix_nano
    for exemplar in point.exemplars:
        assert len(exemplar.trace_id) in (0, 16)
        assert exemplar.WhichOneof("value") == "as_double"
    attributes = _pairs(point.attributes)
    (bits,) = struct.unpack("<Q", struct.pack("<d", point.as_double))
    return Point(
        resource,
        scope,
        name,
        identity,
        attributes,
        point.time_unix_nano,
        bits,
        point.flags,
        point.start_time_unix_nano,
    )


def _pairs(attributes: Iterable[Any]) -> Pairs:
    pairs = []
    for attribute in attributes:
        assert attribute.key
        assert attribute.value.WhichOneof("value") == "string_value"
        pairs.append((attribute.key, attribute.value.string_value))
    _unique([key for key, _ in pairs], "attribute key")
    return tuple(sorted(pairs))


def _unique(items: Sequence[Any], what: str) -> None:
    repeated = [item for item, count in Counter(items).items() if count > 1]
    assert not repeated, f"{what} repeated: {repeated[:3]}"


def _no_unknown(*messages: Any) -> None:
    for message in messages:
        assert not len(UnknownFieldSet(message)), f"unknown fields in {type(message).__name__}"


def assert_same(expected: Sequence[Alternatives], actual: Sequence[Point]) -> None:
    """Assert that the same points came out, and those of every stream in the order expected.

    Order counts within a stream (resource, scope, name, identity and attributes) whose points came
    in order of time; others may have been put in order. ``actual`` is in the order of leaving.
    """
    left = Counter(actual)
    open_choices: list[Alternatives] = []
    for alternatives in expected:
        if len(alternatives) > 1:
            open_choices.append(alternatives)
        else:
            left[alternatives[0]] -= 1
    for alternatives in open_choices:
        chosen = next((point for point in alternatives if left[point] > 0), alternatives[0])
        left[chosen] -= 1
    missing = [point for point, count in left.items() if count < 0]
    extra = [point for point, count in left.items() if count > 0]
    assert not missing, f"{len(missing)} points missing; extra: {extra[:2]}; missing: {missing[:2]}"
    assert not extra, f"{len(extra)} points too many: {extra[:3]}"
    _assert_order(expected, actual)


def _assert_order(expected: Sequence[Alternatives], actual: Sequence[Point]) -> None:
    wanted: dict[Any, list[Point]] = defaultdict(list)
    for alternatives in expected:
        for point in alternatives:
            wanted[_stream(point)].append(point)
    got: dict[Any, list[Point]] = defaultdict(list)
    for point in actual:
        got[_stream(point)].append(point)
    for stream, points in got.items():
        times = [point.time_ns for point in wanted[stream]]
        if times != sorted(times):
            continue
        source = iter(wanted[stream])
        for point in points:
            assert any(candidate == point for candidate in source), f"out of order: {point}"


def _stream(point: Point) -> Any:
    return point[:5]
