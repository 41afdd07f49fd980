"""Split an encoded OTLP request in two, for endpoints that find it too large.

* Every point is in exactly one half, points keep their order, and the halves differ by at most one
  point. A metric with points on both sides is in both halves, as are its scope and resource. Of
  logs and traces, "points" are records and spans.
* Messages beside the cut are copied as bytes; only the path to it is parsed.
  All fields off that path (names, units, temporality, schema URLs) are repeated in both halves.
* Field numbers are from opentelemetry-proto (``metrics/v1/metrics.proto``, ``logs/v1/logs.proto``,
  ``trace/v1/trace.proto``).
"""

from __future__ import annotations

from typing import Final

from relay.codec.protobuf import BYTES, field_bytes, iter_fields, varint

Path = tuple[frozenset[int], ...]
"""Field numbers that lead to the points, by depth; a message below the last is a point."""

METRICS: Final[Path] = (
    frozenset({1}),  # ExportMetricsServiceRequest.resource_metrics
    frozenset({2}),  # ResourceMetrics.scope_metrics
    frozenset({2}),  # ScopeMetrics.metrics
    frozenset({5, 7, 9, 10, 11}),  # Metric.{gauge,sum,histogram,exponential_histogram,summary}
    frozenset({1}),  # data_points, in each of the five
)

RECORDS: Final[Path] = (
    frozenset({1}),  # ExportLogsServiceRequest.resource_logs, of traces resource_spans
    frozenset({2}),  # ResourceLogs.scope_logs, ResourceSpans.scope_spans
    frozenset({2}),  # ScopeLogs.log_records, ScopeSpans.spans
)


def count_points(data: bytes, path: Path = METRICS) -> int:
    """Count the data points of a request. Raise DecodeError."""
    return _count(data, 0, len(data), path)


def split_request(
    data: bytes, path: Path = METRICS
) -> tuple[tuple[bytes, int], tuple[bytes, int]] | None:
    """Split a request of n points into ((first half, its points), (second half, its points)).

    The first half has the odd point. Return None for fewer than two points. Raise DecodeError for
    bytes that are no such request.
    """
    points = count_points(data, path)
    if points < 2:
        return None
    wanted = (points + 1) // 2
    first, second = _cut(data, 0, len(data), path, wanted)
    return (first, wanted), (second, points - wanted)


def _count(data: bytes, start: int, stop: int, path: Path) -> int:
    if not path:
        return 1
    return sum(
        _count(data, payload, end, path[1:])
        for number, wire_type, _, payload, end in iter_fields(data, start, stop)
        if wire_type == BYTES and number in path[0]
    )


def _cut(data: bytes, start: int, stop: int, path: Path, wanted: int) -> tuple[bytes, bytes]:
    """Cut a message after its ``wanted`` first points; ``wanted`` must be between 1 and n - 1."""
    first: list[bytes] = []
    second: list[bytes] = []
    for number, wire_type, tag_at, payload, end in iter_fields(data, start, stop):
        whole = data[tag_at:end]
        if wire_type != BYTES or number not in path[0]:
            first.append(whole)
            second.append(whole)
            continue
        points = _count(data, payload, end, path[1:])
        if points <= wanted:
            first.append(whole)
            wanted -= points
        elif not wanted:
            second.append(whole)
        else:
            tag = varint(number << 3 | BYTES)
            before, behind = _cut(data, payload, end, path[1:], wanted)
            first.append(field_bytes(tag, before))
            second.append(field_bytes(tag, behind))
            wanted = 0
    return b"".join(first), b"".join(second)
