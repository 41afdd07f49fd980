"""Encodes the state of delta streams, to keep it over a restart.

The bytes are MessagePack with a version; what another version wrote is not read. A stream's state
is found again by the digest of its labels and options. A stream that was fed meanwhile stays as it
is.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from relay.codec.otlp.data_points import Buckets, ExponentialPoint, HistogramPoint, NumberPoint
from relay.pipeline.metrics.temporality.delta import Cumulative, DeltaStore
from relay.runtime.errors import DecodeError

VERSION: Final = 1

_Stream = tuple[bytes, float, str, list[Any]]


class _Recollection(msgspec.Struct, frozen=True):
    version: int
    streams: list[_Stream]


def remember(deltas: DeltaStore) -> bytes:
    """Encode all states."""
    streams = [
        (state.key, state.total, *_written(state.last))
        for state in deltas.states()
        if state.last is not None
    ]
    return msgspec.msgpack.encode(_Recollection(VERSION, streams))


def recall(data: bytes, deltas: DeltaStore) -> None:
    """Restore the states encoded by :func:`remember`; raise DecodeError, with nothing restored."""
    try:
        found = msgspec.msgpack.decode(data, type=_Recollection)
        if found.version != VERSION:
            raise DecodeError(f"delta state of version {found.version}, not {VERSION}")
        points = [(key, total, _read(kind, parts)) for key, total, kind, parts in found.streams]
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise DecodeError(f"not a delta state: {error}") from error
    for key, total, point in points:
        deltas.restore(key, total, point)


def _written(point: Cumulative) -> tuple[str, list[Any]]:
    match point:
        case NumberPoint():
            return "number", [point.time_ns, point.value]
        case HistogramPoint():
            return "histogram", [point.time_ns, point.count, point.sum, point.bounds, point.counts]
        case ExponentialPoint():
            ranges = [(b.offset, b.counts) for b in (point.positive, point.negative)]
            return "exponential", [
                *(point.time_ns, point.count, point.sum, point.scale),
                *(point.zero_count, point.zero_threshold, *ranges),
            ]


def _read(kind: str, parts: list[Any]) -> Cumulative:
    if kind == "number":
        time_ns, value = parts
        return NumberPoint(time_ns, value)
    if kind == "histogram":
        time_ns, count, total, bounds, counts = parts
        return HistogramPoint(time_ns, count, total, tuple(bounds), tuple(counts))
    if kind == "exponential":
        *head, positive, negative = parts
        ranges = [Buckets(offset, tuple(counts)) for offset, counts in (positive, negative)]
        time_ns, count, total, scale, zero_count, zero_threshold = head
        return ExponentialPoint(
            time_ns, count, total, scale, zero_count, zero_threshold, ranges[0], ranges[1]
        )
    raise ValueError(f"a stream of kind {kind!r}")
