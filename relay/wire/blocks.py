"""Points that come together again and again, with all that stands between their times and values.

A *block* is what a stretch of known series brings to one batch of the metrics of one scope
(:mod:`relay.pipeline.stretches`, interpreted build only). Its points stand metric by metric, so
that where no metric of it has other points in the request, all of it goes there as it is. Else it
is cut into its metrics.

What most prefixes of a block end with, the labels of a target, is kept once for all of them: to
fetch each series' own from memory costs more than to copy it.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from relay.wire.otlp import POINT_TAIL_BYTES, MetricGroup
from relay.wire.protobuf import varint

_PARTS: Final = 3
"""Pieces of a point: what is its own (before a metric's first one, how the metric begins, too);
what all prefixes end with, and the time; the value."""
_ENDS, _VALUES = slice(1, None, _PARTS), slice(2, None, _PARTS)
_POINT_ROOM: Final = 128
"""Bytes that a point takes in a block beside its pieces, measured."""
_METRIC_TAG = b"\x12"  # ScopeMetrics.metrics (2)


def begin_metric(group: MetricGroup, points_bytes: int) -> bytes:
    """What stands before the points of a metric; behind them stands the group's ``data_tail``."""
    data_bytes = points_bytes + len(group.data_tail)
    head = group.head + group.data_tag + varint(data_bytes)
    return _METRIC_TAG + varint(len(head) + data_bytes) + head


def common_end(texts: Sequence[bytes]) -> bytes:
    """The most that all of these end with."""
    reversed_ = [text[::-1] for text in texts]
    low, high = min(reversed_), max(reversed_)  # whatever lies between begins like both
    size = 0
    for one, other in zip(low, high, strict=False):
        if one != other:
            break
        size += 1
    return low[:size][::-1]


class _Metric(NamedTuple):
    """One metric of a block: from where to where its points stand in it, and how many."""

    group: MetricGroup
    first: int
    stop: int
    points: int


class Block:
    """See the module's rules. ``points``: of each its place in the stretch, group, and prefix, as
    they come; all groups are of one scope.

    ``metrics`` are in order of first appearance; ``places`` are those of the points, in this order.
    ``size`` is the points' bytes, ``room`` what the block itself takes beside the prefixes.
    """

    __slots__ = (
        "_end",
        "_frame",
        "_pick",
        "count",
        "groups",
        "metrics",
        "places",
        "room",
        "scope",
        "size",
    )

    def __init__(self, points: Sequence[tuple[int, MetricGroup, bytes]]) -> None:
        self.scope = points[0][1].scope
        self.count = len(points)
        self.size = 0
        by_group: dict[MetricGroup, list[tuple[int, bytes]]] = {}
        for place, group, prefix in points:
            by_group.setdefault(group, []).append((place, prefix))
        self.groups = frozenset(by_group)
        self.metrics: list[_Metric] = []
        self._frame: list[bytes] = []
        self._end = common_end([prefix for _, _, prefix in points])
        self.places: list[int] = []
        lead = b""
        start = 0
        for group, members in by_group.items():
            size = sum([len(prefix) for _, prefix in members]) + POINT_TAIL_BYTES * len(members)
            lead += begin_metric(group, size)
            start += len(lead)
            self.metrics.append(_Metric(group, start, start + size, len(members)))
            start += size
            self.size += size
            for place, prefix in members:
                self.places.append(place)
                self._frame += (lead + prefix[: len(prefix) - len(self._end)], b"", b"")
                lead = b""
            lead = group.data_tail
        self._frame.append(lead)
        self.room = sum(map(len, self._frame)) + len(self._end) + _POINT_ROOM * self.count
        # Of a single place it would pick no tuple: then that stands there twice.
        self._pick = itemgetter(*self.places, *self.places[: self.count == 1])

    def fill(self, stamp: bytes | None, stamps: Sequence[bytes], values: Sequence[bytes]) -> bytes:
        """The metrics, encoded, with these times, as :func:`relay.wire.otlp.encode_time` has them,
        and values: those of all series of the stretch. ``stamp``: the time of all of the block's,
        where they share one that is known."""
        frame = self._frame  # always the same: to copy it would touch every piece once more
        count = self.count
        if stamp is not None:
            frame[_ENDS] = [self._end + stamp] * count
        else:
            frame[_ENDS] = map(self._end.__add__, self._pick(stamps)[:count])
        frame[_VALUES] = self._pick(values)[:count]
        return b"".join(frame)

    def __repr__(self) -> str:
        return f"<Block of {self.count} points in {len(self.metrics)} metrics>"
