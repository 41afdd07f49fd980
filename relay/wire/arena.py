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

Mark = tuple[int, int, int, int]
"""How much there was: points, their bytes, closed runs, and one figure more for the arena."""


class Arena:
    """See the module's rules. The points behind the last closed run belong to the run to come.

    ``count`` is how many points there are, and ``size`` their bytes as encoded, without what groups
    them.
    """

    __slots__ = ("count", "pieces", "runs", "size")

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        self.pieces: list[bytes] = []
        """What the points are when joined, cut anywhere."""
        self.runs: list[tuple[MetricGroup, int]] = []
        """The group of a run, and the number of pieces before its end."""

    def add(self, prefix: bytes, stamp: bytes, value: bytes) -> None:
        """Append a number point: ``stamp`` is its time, as :func:`relay.wire.otlp.encode_time` has
        it, ``value`` the eight bytes of a double."""
        self.pieces += (prefix, stamp, value)
        self.count += 1
        self.size += len(prefix) + POINT_TAIL_BYTES

    def add_finished(self, points: bytes, count: int = 1) -> None:
        """Append points that are encoded as a whole."""
        self.pieces.append(points)
        self.count += count
        self.size += len(points)

    def close_run(self, group: MetricGroup) -> None:
        """Say what the points since the last run belong to."""
        self.runs.append((group, len(self.pieces)))

    def mark(self) -> Mark:
        """How much there is now, for :meth:`cut`."""
        return self.count, self.size, len(self.runs), len(self.pieces)

    def cut(self, mark: Mark) -> None:
        """Forget what came after ``mark``."""
        self.count, self.size, runs, pieces = mark
        del self.runs[runs:]
        del self.pieces[pieces:]

    def room(self) -> int:
        """Bytes that it takes in memory, roughly, beside what series have of their own."""
        return self.size

    def encode(self) -> bytes:
        """The ExportMetricsServiceRequest of all points, whose runs must be closed.

        One Metric per group, one ScopeMetrics per scope and one ResourceMetrics per resource come
        out, each in order of first appearance. Within a metric, points keep their order.
        """
        pieces = self.pieces
        stretches: dict[MetricGroup, list[bytes]] = {}
        start = 0
        for group, end in self.runs:
            if group in stretches:
                stretches[group] += pieces[start:end]
            elif end > start:
                stretches[group] = pieces[start:end]
            start = end
        assert start == len(pieces), "runs must tile the arena"
        tree: dict[ResourceGroup, dict[ScopeGroup, list[MetricGroup]]] = {}
        for group in stretches:
            tree.setdefault(group.scope.resource, {}).setdefault(group.scope, []).append(group)
        parts: list[bytes] = []
        for resource, scopes in tree.items():
            resource_parts = [resource.encoded]
            resource_size = len(resource.encoded)
            for scope, groups in scopes.items():
                scope_parts = [scope.encoded]
                scope_size = len(scope.encoded)
                for group in groups:
                    points = b"".join(stretches[group])
                    tail = group.data_tail
                    data_size = len(points) + len(tail)
                    data_head = group.data_tag + varint(data_size)
                    metric_size = len(group.head) + len(data_head) + data_size
                    head = b"\x12" + varint(metric_size)
                    scope_parts += (head, group.head, data_head, points, tail)
                    scope_size += len(head) + metric_size
                scope_head = b"\x12" + varint(scope_size)
                resource_parts.append(scope_head)
                resource_parts += scope_parts
                resource_size += len(scope_head) + scope_size
            parts.append(b"\x0a" + varint(resource_size))
            parts += resource_parts
        return b"".join(parts)

    def __repr__(self) -> str:
        return f"<Arena {self.count} points in {len(self.runs)} runs>"
