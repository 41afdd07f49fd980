"""Split an encoded ExportMetricsServiceRequest in two, for endpoints that find it too large.

* Every point is in exactly one half, points keep their order, and the halves differ by at most one
  point. A metric with points on both sides is in both halves, as are its scope and resource.
* Messages beside the cut are copied as bytes; only the path to it, four messages deep, is parsed.
  All fields off that path (names, units, temporality, schema URLs) are repeated in both halves.
* Field numbers are from opentelemetry-proto, ``metrics/v1/metrics.proto``.
"""

from __future__ import annotations

from relay.codec.protobuf import BYTES, field_bytes, iter_fields, varint

_PATH: tuple[frozenset[int], ...] = (
    frozenset({1}),  # ExportMetricsServiceRequest.resource_metrics
    frozenset({2}),  # ResourceMetrics.scope_metrics
    frozenset({2}),  # ScopeMetrics.metrics
    frozenset({5, 7, 9, 10, 11}),  # Metric.{gauge,sum,histogram,exponential_histogram,summary}
    frozenset({1}),  # data_points, in each of the five
)
"""Field numbers that lead to the points, by depth; a message below the last is a point."""


def count_points(data: bytes) -> int:
    """Count the data points of an ExportMetricsServiceRequest. Raise DecodeError."""
    return _count(data, 0, len(data), 0)


def split_request(data: bytes) -> tuple[tuple[bytes, int], tuple[bytes, int]] | None:
    """Split a request of n points into ((first half, its points), (second half, its points)).

    The first half has the odd point. Return None for fewer than two points. Raise DecodeError for
    bytes that are no such request.
    """
    points = count_points(data)
    if points < 2:
        return None
    wanted = (points + 1) // 2
    first, second = _cut(data, 0, len(data), 0, wanted)
    return (first, wanted), (second, points - wanted)


def _count(data: bytes, start: int, stop: int, depth: int) -> int:
    if depth == len(_PATH):
        return 1
    path = _PATH[depth]
    return sum(
        _count(data, payload, end, depth + 1)
        for number, wire_type, _, payload, end in iter_fields(data, start, stop)
        if wire_type == BYTES and number in path
    )


def _cut(data: bytes, start: int, stop: int, depth: int, wanted: int) -> tuple[bytes, bytes]:
    """Cut a message after its ``wanted`` first points; ``wanted`` must be between 1 and n - 1."""
    path = _PATH[depth]
    first: list[bytes] = []
    second: list[bytes] = []
    for number, wire_type, tag_at, payload, end in iter_fields(data, start, stop):
        whole = data[tag_at:end]
        if wire_type != BYTES or number not in path:
            first.append(whole)
            second.append(whole)
            continue
        points = _count(data, payload, end, depth + 1)
        if points <= wanted:
            first.append(whole)
            wanted -= points
        elif not wanted:
            second.append(whole)
        else:
            tag = varint(number << 3 | BYTES)
            before, behind = _cut(data, payload, end, depth + 1, wanted)
            first.append(field_bytes(tag, before))
            second.append(field_bytes(tag, behind))
            wanted = 0
    return b"".join(first), b"".join(second)
