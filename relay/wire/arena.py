"""The points of one batch while it grows, and the request that they become.

Rules:

* A number point is the prefix of its series, its time and its value. On raw memory that is a
  reference and two words, however long the labels are and however many sinks want the same series;
  labels are copied once, into the request.
* Points stay in the order in which they came. *Runs* say which :class:`MetricGroup` each stretch
  of them belongs to, so that grouping the points of one metric, one scope and one resource costs a
  step per run, not per point.
* What a request appended can be cut off again (:meth:`Arena.cut`), until it is encoded.
* In this build many points may come at once, as a block (:mod:`relay.wire.blocks`), which is a run
  of its own.

This is the readable reference; ``arena.pyx`` is the same on raw memory (:mod:`relay.hot_path`).
"""

from __future__ import annotations

from relay.wire.blocks import Block, begin_metric
from relay.wire.otlp import POINT_TAIL_BYTES, MetricGroup, ResourceGroup, ScopeGroup
from relay.wire.protobuf import varint

Run = tuple[MetricGroup, int, int] | tuple[Block, bytes]
"""The group of a stretch of points, and from where to where their pieces are; or a block as
:meth:`Block.fill` made it."""

_RESOURCE_TAG = b"\x0a"  # ExportMetricsServiceRequest.resource_metrics (1)
_SCOPE_TAG = b"\x12"  # ResourceMetrics.scope_metrics (2)


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
        self.add_points(point, 1)

    def add_points(self, points: bytes, count: int) -> None:
        """Append several, one behind the other."""
        self.pieces.append(points)
        self.count += count
        self.size += len(points)

    def add_block(self, block: Block, encoded: bytes) -> None:
        """Append the points of a block, filled, as a run."""
        self.runs.append((block, encoded))
        self.count += block.count
        self.size += block.size

    def close_run(self, group: MetricGroup) -> None:
        """Say what the points since the last run belong to."""
        end = len(self.pieces)
        if end != self.closed:
            self.runs.append((group, self.closed, end))
            self.closed = end

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
        scopes: dict[ScopeGroup, list[Run]] = {}
        for run in self.runs:
            scope = run[0].scope
            if scope in scopes:
                scopes[scope].append(run)
            else:
                scopes[scope] = [run]
        resources: dict[ResourceGroup, list[bytes]] = {}
        for scope, runs in scopes.items():
            metrics = [runs[0][1]] if len(runs[0]) == 2 and len(runs) == 1 else self._metrics(runs)
            size = len(scope.encoded) + sum(map(len, metrics))
            parts = resources.get(scope.resource)
            if parts is None:
                parts = resources[scope.resource] = [scope.resource.encoded]
            parts += (_SCOPE_TAG + varint(size), scope.encoded)
            parts += metrics
        message: list[bytes] = []
        for parts in resources.values():
            message.append(_RESOURCE_TAG + varint(sum(map(len, parts))))
            message += parts
        return b"".join(message)

    def _metrics(self, runs: list[Run]) -> list[bytes]:
        """The metrics of these runs, which are all of one scope, encoded."""
        split = _split(runs)
        metrics: dict[MetricGroup | Block, list[bytes]] = {}
        for run in runs:
            if len(run) == 2:
                block, filled = run
                if split.isdisjoint(block.groups):
                    metrics[block] = [filled]
                else:
                    for group, first, stop, _ in block.metrics:
                        metrics.setdefault(group, []).append(filled[first:stop])
            else:
                group, first, stop = run
                points = self.pieces[first:stop]
                if group in metrics:
                    metrics[group] += points
                else:
                    metrics[group] = points
        encoded: list[bytes] = []
        for metric, pieces in metrics.items():
            if isinstance(metric, Block):
                encoded += pieces
            else:
                data = b"".join(pieces)
                encoded += (begin_metric(metric, len(data)), data, metric.data_tail)
        return encoded

    def __repr__(self) -> str:
        return f"<Arena {self.count} points in {len(self.runs)} runs>"


def _split(runs: list[Run]) -> set[MetricGroup]:
    """The groups that have points in a block and in another run."""
    split: set[MetricGroup] = set()
    if any(len(run) == 2 for run in runs):
        seen = {run[0] for run in runs if len(run) == 3}
        for run in runs:
            if len(run) == 2:
                split |= seen & run[0].groups
                seen |= run[0].groups
    return split
