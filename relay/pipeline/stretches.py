"""Many known series at a time, for the interpreted build: what Python does in one call is cheap.

A *stretch* is up to :data:`LENGTH_MAX` series that followed one another, each with one sample of a
usual shape. All that lies between their values and times is known, so the whole stretch is read and
compared at once (:mod:`relay.pipeline.outline`), and a few blocks of encoded metrics
(:mod:`relay.wire.blocks`) go to each batch. Rules:

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
from typing import Final, NamedTuple

from relay.pipeline.intake import Intake, enter, seal
from relay.pipeline.memo import Memo
from relay.pipeline.outline import SAMPLE_HEADS, TIME_BYTES, Outline, Place, Samples
from relay.pipeline.plans import Plan
from relay.pipeline.series import Series
from relay.pipeline.unusual import ZERO
from relay.wire.batch import OpenBatch
from relay.wire.blocks import Block
from relay.wire.otlp import MetricGroup, ResourceGroup, ScopeGroup
from relay.wire.otlp_points import STALE
from relay.wire.remote_write import SERIES_TAG

LENGTH_MAX: Final = 256
"""Series of a stretch: one that stays away costs so many others their shortcut, once."""
LENGTH_MIN: Final = 4
"""Fewer are not worth it; so many must have been recognised in a row before one is looked for."""
PATIENCE: Final = 4
"""How often in a row something else may stand where a stretch was, until another one is made."""

_Place = tuple[int, MetricGroup, bytes]
"""A point of a stretch: which of its series has it, its group, its prefix."""


class _Times(NamedTuple):
    """The times of a stretch's samples, encoded: of each, and of each section the one that all of
    it share, or None."""

    stamps: list[bytes]
    shared: Sequence[bytes | None]


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
    ``room`` is what it takes of bytes that are somewhere else, too. ``missed``: how often in a row
    something else stood there."""

    __slots__ = (
        "_sections",
        "count",
        "generation",
        "members",
        "missed",
        "outline",
        "plan",
        "room",
        "shares",
        "zeros",
    )

    def __init__(self, members: list[Series], places: list[Place], generation: int) -> None:
        self.generation = generation
        self.missed = 0
        self.members = tuple(members)
        self.plan = members[0].plan
        self.count = len(members)
        self.zeros = [at for at, place in enumerate(places) if not place.width]
        self._sections: list[slice] = []
        numbers: list[int] = []
        for number, (_, run) in enumerate(groupby(members, _resource_of)):
            start = len(numbers)
            numbers += [number for _ in run]
            self._sections.append(slice(start, len(numbers)))
        self.outline = Outline(places, self._sections)
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
        self.room = self.outline.room + sum([share.room for share in self.shares])

    def convert_times(self, samples: Samples, memo: Memo) -> _Times | None:
        """The times that were read; None where one of them is not usual."""
        found = list(map(memo.stamps.__getitem__, samples.times))
        if None in found:
            return None
        stamps: list[bytes] = found  # type: ignore[assignment]  # None is not among them
        if not samples.shared:
            return _Times(stamps, [None] * len(self._sections))
        every: list[bytes] = []
        for section, stamp in zip(self._sections, stamps, strict=True):
            every += [stamp] * (section.stop - section.start)
        return _Times(every, stamps)

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
        if memo.is_poor:
            memo.earn(LENGTH_MIN)  # it was asked for when so many were taken singly
            return None
        stretch = _make(series, body, pos, generation, memo)
        if stretch is None:
            return None
    elif stretch.members[0] is not series:
        return None
    samples = stretch.outline.read(body, pos)
    if samples is None:
        # Others came between, or a value became 0, and may be as it was the next time.
        stretch.missed += 1
        if stretch.missed < PATIENCE or memo.is_poor:
            memo.earn(stretch.count)
            return None
        memo.drop(stretch)
        stretch = _make(series, body, pos, generation, memo)
        if stretch is None:
            return None
        samples = stretch.outline.read(body, pos)
        assert samples is not None, "it was made of what stands there"
    stretch.missed = 0
    values: Sequence[bytes] = samples.values
    if STALE in values:
        return None
    times = stretch.convert_times(samples, memo)
    if times is None:
        return None
    if stretch.zeros:
        values = list(values)
        for place in stretch.zeros:
            values[place] = ZERO
    for share in stretch.shares:
        share.append(times, values, intake)
    memo.earn(2 * stretch.count)
    return stretch


def _make(first: Series, body: bytes, pos: int, generation: int, memo: Memo) -> Stretch | None:
    """The stretch of known series that stands at ``pos``, remembered; None where it is none."""
    plan: Plan = first.plan
    members: dict[Series, Place] = {}
    series: Series | None = first
    while series is not None and len(members) < LENGTH_MAX and series not in members:
        if series.generation != generation or series.plan is not plan or plan.handled:
            break
        place = _place(series, body, pos)
        if place is None:
            break
        members[series] = place
        pos += place.size
        series = series.next
    memo.pay(len(members))
    if len(members) < LENGTH_MIN:
        return None
    count = len(members)
    if series is not None and count == LENGTH_MAX:
        count = _whole(list(members), series)
    stretch = Stretch(list(members)[:count], list(members.values())[:count], generation)
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


def _place(series: Series, body: bytes, pos: int) -> Place | None:
    """Where a series with one usual sample stands, if that is at ``pos``."""
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
    for width, head in SAMPLE_HEADS.items():
        if start + size - tail == len(head) + width + TIME_BYTES and body.startswith(head, tail):
            return Place(body[pos:start], series.key, width)
    return None
