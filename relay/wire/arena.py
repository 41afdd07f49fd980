"""The points of one batch while it grows, and the request that they become.

Rules:

* A number point is the prefix of its series, its time and its value. On raw memory that is a
  reference and two words, however long the labels are and however many sinks want the same series;
  labels are copied once, into the request.
* Points stay in the order in which they came. *Runs* say which :class:`MetricGroup` each stretch
  of them belongs to, so that grouping the points of one metric, one scope and one resource costs a
  step per run, not per point.
* What a request appended can be cut off again (:meth:`Arena.cut`), until it is encoded.

This is the readable reference; ``arena.pyx`` is the same on raw memory (:mod:`relay.hot_path`).
"""

from __future__ import annotations

from relay.wire.otlp import POINT_TAIL_BYTES, MetricGroup, ResourceGroup, ScopeGroup
from relay.wire.protobuf import varint

Run = tuple[MetricGroup, int]
"""The group of a stretch of points, and of how many pieces they are."""

_RESOURCE_TAG = b"\x0a"  # ExportMetricsServiceRequest.resource_metrics (1)
_SCOPE_TAG = b"\x12"  # ResourceMetrics.scope_metrics (2)
_METRIC_TAG = b"\x12"  # ScopeMetrics.metrics (2)


class Arena:
    """See the module's rules. The points behind the last closed run belong to the run to come.

    ``count`` is how many points there are, and ``size`` their bytes as encoded, without what groups
    them.
    """

    __slots__ = ("closed", "count", "pieces", "runs", "size")

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        self.pieces: list[bytes] = []
        """What the points are when joined, cut anywhere."""
        self.runs: list[Run] = []
        self.closed = 0
        """How many of the pieces are in runs."""

    def add(self, prefix: bytes, stamp: bytes, value: bytes) -> None:
        """Append a number point: ``stamp`` is its time, as :func:`relay.wire.otlp.encode_time` has
        it, ``value`` the eight bytes of a double."""
        self.pieces += (prefix, stamp, value)
        self.count += 1
        self.size += len(prefix) + POINT_TAIL_BYTES

    def add_finished(self, point: bytes) -> None:
        """Append a point that is encoded as a whole."""
        self.pieces.append(point)
        self.count += 1
        self.size += len(point)

    def close_run(self, group: MetricGroup) -> None:
        """Say what the points since the last run belong to."""
        self.runs.append((group, len(self.pieces) - self.closed))
        self.closed = len(self.pieces)

    def closed_runs(self) -> int:
        """How many runs there are, for :meth:`cut`."""
        assert self.closed == len(self.pieces), "a request begins with a run of its own"
        return len(self.runs)

    def closed_rest(self) -> int:
        """One figure more for :meth:`cut`."""
        return self.closed

    def cut(self, count: int, size: int, runs: int, rest: int) -> None:
        """Be again what :attr:`count`, :attr:`size`, :meth:`closed_runs` and :meth:`closed_rest`
        said."""
        self.count, self.size, self.closed = count, size, rest
        del self.runs[runs:]
        del self.pieces[self.closed :]

    def room(self) -> int:
        """Bytes that it takes in memory, roughly, beside what series have of their own."""
        return self.size

    def equals(self, other: Arena) -> bool:
        """Whether both were given the same points of the same groups, and so become the same
        request. False where that is only not seen at once."""
        return self.pieces == other.pieces and self.runs == other.runs

    def encode(self) -> bytes:
        """The ExportMetricsServiceRequest of all points, whose runs must be closed.

        One Metric per group, one ScopeMetrics per scope and one ResourceMetrics per resource come
        out, each in order of first appearance. Within a metric, points keep their order.
        """
        assert self.closed == len(self.pieces), "runs must tile the arena"
        points: dict[MetricGroup, list[bytes]] = {}
        start = 0
        for group, count in self.runs:
            stretch = self.pieces[start : start + count]
            start += count
            if group in points:
                points[group] += stretch
            elif stretch:
                points[group] = stretch
        scopes: dict[ScopeGroup, list[bytes]] = {}
        resources: dict[ResourceGroup, list[list[bytes]]] = {}
        for group, stretch in points.items():
            scope = group.scope
            parts = scopes.get(scope)
            if parts is None:
                parts = scopes[scope] = [scope.encoded]
                resources.setdefault(scope.resource, []).append(parts)
            data = b"".join(stretch)
            data_size = len(data) + len(group.data_tail)
            head = group.head + group.data_tag + varint(data_size)
            parts += (
                _METRIC_TAG + varint(len(head) + data_size) + head,
                data,
                group.data_tail,
            )
        message: list[bytes] = []
        for resource, in_resource in resources.items():
            sizes = [sum(map(len, parts)) for parts in in_resource]
            heads = [_SCOPE_TAG + varint(size) for size in sizes]
            whole = len(resource.encoded) + sum(sizes) + sum(map(len, heads))
            message += (_RESOURCE_TAG + varint(whole), resource.encoded)
            for head, parts in zip(heads, in_resource, strict=True):
                message.append(head)
                message += parts
        return b"".join(message)

    def __repr__(self) -> str:
        return f"<Arena {self.count} points in {len(self.runs)} runs>"
