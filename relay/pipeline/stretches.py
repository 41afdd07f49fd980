"""Many known series at a time, for the interpreted build: what Python does in one call is cheap.

A *stretch* is up to :data:`LENGTH_MAX` series that followed one another, each with one sample of a
usual shape. All that lies between their values and times is known, so a :class:`struct.Struct`
takes the whole stretch apart in one call, one comparison of tuples recognises it, and one list of
pieces goes to each batch. Rules:

* A stretch is only ever a shortcut: wherever it does not fit exactly (another series, another
  shape, a stale marker, a time that is new), the kernel goes on sample by sample.
* It may be used while the table has the generation that it was made at: then so do its series, or
  they are forgotten, and it with the first of them.
* A series is in one stretch at most, so that where stretches begin does not depend on where in a
  request one is first looked for. One that is met without those before it waits for the next
  stretch; when the table's generation moves, all are made anew.
* All of its series have one plan, and no handlers.
* What is remembered is bounded and forgotten all at once: then it is soon learnt again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from struct import Struct
from typing import Final, NamedTuple

from relay.pipeline.intake import Intake, enter, seal
from relay.pipeline.memo import Memo
from relay.pipeline.plans import Plan
from relay.pipeline.series import Series
from relay.pipeline.unusual import TIME_HEAD, VALUE_HEAD, ZERO
from relay.wire.batch import OpenBatch
from relay.wire.blocks import Block
from relay.wire.otlp import MetricGroup, ResourceGroup, ScopeGroup
from relay.wire.otlp_points import STALE
from relay.wire.remote_write import SERIES_TAG

LENGTH_MAX: Final = 256
"""Series of a stretch: one that stays away costs so many others their shortcut, once."""
LENGTH_MIN: Final = 4
"""Fewer are not worth it; so many must have been recognised in a row before one is looked for."""

_PARTS = 3
_HEADS, _VALUES, _TIMES = (slice(part, None, _PARTS) for part in range(_PARTS))
"""Of what a stretch is taken apart into."""

_Place = tuple[int, MetricGroup, bytes]
"""A point of a stretch: which of its series has it, its group, its prefix."""


class _Times(NamedTuple):
    """The times of a stretch's samples, encoded: of each, and of each section the one that all of
    it share, or None."""

    stamps: list[bytes]
    shared: list[bytes | None]


class _Share:
    """What some batches get of a stretch, all of them the same: the points, and the blocks that
    they make, scope by scope, each with the section that it is in, or -1."""

    __slots__ = ("_batches", "_blocks", "_in_order", "_points", "room")

    def __init__(
        self, points: tuple[_Place, ...], batches: list[OpenBatch], sections: list[int]
    ) -> None:
        self._points = points
        self._batches = batches
        by_scope: dict[ScopeGroup, list[_Place]] = {}
        for point in points:
            by_scope.setdefault(point[1].scope, []).append(point)
        self._blocks: list[tuple[Block, int]] = []
        self.room = 0
        for of_scope in by_scope.values():
            block = Block(of_scope)
            section, *others = {sections[place] for place in block.places}
            self._blocks.append((block, -1 if others else section))
            self.room += block.room
        placed = [place for block, _ in self._blocks for place in block.places]
        self._in_order = placed == [place for place, _, _ in points]

    def append(self, times: _Times, values: Sequence[bytes], intake: Intake) -> None:
        """Append the points to every batch, sealing it wherever it is full."""
        stamps, shared = times
        filled: list[tuple[Block, bytes]] = []
        for block, section in self._blocks:
            stamp = shared[section] if section >= 0 else None
            filled.append((block, block.fill(stamp, stamps, values)))
        count = len(self._points)
        for batch in self._batches:
            if batch.count + count < batch.limit:
                enter(batch, self._points[0][1], intake)
                for block, encoded in filled:
                    batch.arena.add_block(block, encoded)
                batch.count += count
                batch.group = None  # blocks are runs, and closed
            elif self._in_order:
                self._divide(batch, filled, stamps, values, intake)
            else:
                _append_singly(batch, self._points, stamps, values, intake)

    def _divide(
        self,
        batch: OpenBatch,
        filled: list[tuple[Block, bytes]],
        stamps: list[bytes],
        values: Sequence[bytes],
        intake: Intake,
    ) -> None:
        """Append the points to a batch that has no room for all: blocks, and where there is no room
        for all of one, metrics, as many as there is room for."""
        at = 0
        for block, encoded in filled:
            if batch.count + block.count <= batch.limit:
                enter(batch, block.metrics[0].group, intake)
                batch.arena.add_block(block, encoded)
                batch.count += block.count
                batch.group = None
                if batch.count == batch.limit:
                    seal(batch, intake)
                at += block.count
                continue
            for group, first, stop, count in block.metrics:
                if batch.count + count <= batch.limit:
                    if batch.group is not group:
                        enter(batch, group, intake)
                    batch.arena.add_points(encoded[first:stop], count)
                    batch.count += count
                    if batch.count == batch.limit:
                        seal(batch, intake)
                else:
                    points = self._points[at : at + count]
                    _append_singly(batch, points, stamps, values, intake)
                at += count


def _append_singly(
    batch: OpenBatch,
    points: Sequence[_Place],
    stamps: list[bytes],
    values: Sequence[bytes],
    intake: Intake,
) -> None:
    for place, group, prefix in points:
        if batch.group is not group:
            enter(batch, group, intake)
        batch.arena.add(prefix, stamps[place], values[place])
        batch.count += 1
        if batch.count == batch.limit:
            seal(batch, intake)


class Stretch:
    """See the module's rules. ``zeros`` are the places of samples without a value: it is 0.

    ``sections`` are of one target each, whose samples mostly have the same time. ``room`` is what
    it takes of bytes that are somewhere else, too.
    """

    __slots__ = (
        "count",
        "generation",
        "heads",
        "layout",
        "members",
        "plan",
        "room",
        "sections",
        "shares",
        "zeros",
    )

    def __init__(
        self, members: list[Series], heads: list[bytes], widths: list[int], generation: int
    ) -> None:
        self.generation = generation
        self.members = tuple(members)
        self.plan = members[0].plan
        self.count = len(members)
        self.heads = tuple(heads)
        fields = zip(heads, widths, strict=True)
        self.layout = Struct("<" + "".join(f"{len(head)}s{width}s7s" for head, width in fields))
        self.zeros = tuple(place for place, width in enumerate(widths) if not width)
        self.sections: list[slice] = []
        numbers: list[int] = []
        for number, (_, run) in enumerate(groupby(members, _resource_of)):
            start = len(numbers)
            numbers += [number for _ in run]
            self.sections.append(slice(start, len(numbers)))
        by_batch: dict[OpenBatch, list[_Place]] = {}
        for place, member in enumerate(members):
            for batches, group, prefix in member.routes:
                for batch in batches:
                    by_batch.setdefault(batch, []).append((place, group, prefix))
        # Sinks that want the same series, each with as many lanes, get the same.
        by_points: dict[tuple[_Place, ...], list[OpenBatch]] = {}
        for batch, points in by_batch.items():
            by_points.setdefault(tuple(points), []).append(batch)
        self.shares = [_Share(points, batches, numbers) for points, batches in by_points.items()]
        self.room = self.layout.size + sum([share.room for share in self.shares])

    def read_times(self, times: tuple[bytes, ...], memo: Memo) -> _Times | None:
        """What the samples' times are; None where one of them is not usual."""
        stamps: list[bytes] = []
        shared: list[bytes | None] = []
        for section in self.sections:
            own = times[section]
            stamp = memo.stamps[own[0]]
            if stamp is None:
                return None
            if own.count(own[0]) == len(own):
                stamps += [stamp] * len(own)
                shared.append(stamp)
                continue
            for time in own:
                stamp = memo.stamps[time]
                if stamp is None:
                    return None
                stamps.append(stamp)
            shared.append(None)
        return _Times(stamps, shared)

    def __repr__(self) -> str:
        return f"<Stretch of {self.count} series>"


def take_stretch(
    stretch: Stretch | None,
    series: Series,
    body: bytes,
    pos: int,
    generation: int,
    memo: Memo,
    intake: Intake,
) -> Stretch | None:
    """Append the points of the stretch that begins with ``series``, if it stands at ``pos``.

    ``stretch`` is the one that the series is in. Returns the one that was taken, so that the caller
    goes on behind it; None, with nothing done, where there is none.
    """
    if stretch is None or stretch.generation != generation:
        stretch = _make(series, body, pos, generation, memo)
        if stretch is None:
            return None
    elif stretch.members[0] is not series:
        return None
    if len(body) - pos < stretch.layout.size:
        return None
    parts = stretch.layout.unpack_from(body, pos)
    if parts[_HEADS] != stretch.heads:
        # Others came between; what is there now may be a stretch again.
        memo.drop(stretch)
        stretch = _make(series, body, pos, generation, memo)
        if stretch is None:
            return None
        parts = stretch.layout.unpack_from(body, pos)
    values: Sequence[bytes] = parts[_VALUES]
    if STALE in values:
        return None
    times = stretch.read_times(parts[_TIMES], memo)
    if times is None:
        return None
    if stretch.zeros:
        values = list(values)
        for place in stretch.zeros:
            values[place] = ZERO
    for share in stretch.shares:
        share.append(times, values, intake)
    return stretch


def _make(first: Series, body: bytes, pos: int, generation: int, memo: Memo) -> Stretch | None:
    """The stretch of known series that stands at ``pos``, remembered; None where it is none."""
    plan: Plan = first.plan
    members: list[Series] = []
    heads: list[bytes] = []
    widths: list[int] = []
    series: Series | None = first
    while series is not None and len(members) < LENGTH_MAX:
        if series.generation != generation or series.plan is not plan or plan.handled:
            break
        found = _head(series, body, pos)
        if found is None:
            break
        head, width = found
        members.append(series)
        heads.append(head)
        widths.append(width)
        pos += len(head) + width + 7
        series = series.next
    if len(members) < LENGTH_MIN:
        return None
    if series is not None and len(members) == LENGTH_MAX:
        count = _whole(members, series)
        del members[count:], heads[count:], widths[count:]
    stretch = Stretch(members, heads, widths, generation)
    memo.keep(stretch)
    return stretch


def _whole(members: list[Series], following: Series) -> int:
    """How many of the first members to take, so that what comes next is another target, or another
    metric at least; not less than half of them."""
    least = len(members) // 2
    for seam in _resource_of, _group_of:
        after = seam(following)
        for count in range(len(members), least, -1):
            before = seam(members[count - 1])
            if before is not after:
                return count
            after = before
    return len(members)


def _resource_of(series: Series) -> ResourceGroup | None:
    group = _group_of(series)
    return None if group is None else group.scope.resource


def _group_of(series: Series) -> MetricGroup | None:
    """Sinks with other options have other groups, which change where this one does."""
    return series.routes[0][1] if series.routes else None


def _head(series: Series, body: bytes, pos: int) -> tuple[bytes, int] | None:
    """What stands before the value of a series with one usual sample, and the value's width."""
    if len(body) - pos < 3 or body[pos] != SERIES_TAG:
        return None
    size = body[pos + 1]
    start = pos + 2
    if size > 127:
        if body[start] > 127:
            return None
        size += (body[start] << 7) - 128
        start += 1
    tail = start + len(series.key)
    if start + size > len(body) or not body.startswith(series.key, start):
        return None
    if start + size - tail == 18 and body.startswith(VALUE_HEAD, tail):
        return body[pos : tail + 3], 8
    if start + size - tail == 9 and body.startswith(TIME_HEAD, tail):
        return body[pos : tail + 2], 0
    return None
