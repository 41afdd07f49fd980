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

from itertools import groupby
from operator import itemgetter
from struct import Struct
from typing import Final

from relay.pipeline.intake import Intake, enter, seal
from relay.pipeline.memo import Memo
from relay.pipeline.plans import Plan
from relay.pipeline.series import Series
from relay.pipeline.unusual import TIME_HEAD, VALUE_HEAD, ZERO
from relay.wire.arena import Run
from relay.wire.batch import OpenBatch
from relay.wire.otlp import POINT_TAIL_BYTES, MetricGroup
from relay.wire.otlp_points import STALE
from relay.wire.remote_write import SERIES_TAG

LENGTH_MAX: Final = 256
"""Series of a stretch: one that stays away costs so many others their shortcut, once."""
LENGTH_MIN: Final = 4
"""Fewer are not worth it; so many must have been recognised in a row before one is looked for."""

_PARTS = 3
_HEADS, _VALUES, _TIMES = slice(0, None, _PARTS), slice(1, None, _PARTS), slice(2, None, _PARTS)
"""Of what a stretch is taken apart into; the pieces of its points are as many: prefix, time,
value."""


class _Share:
    """What one batch gets of a stretch: which of its series, under which prefixes and groups."""

    __slots__ = ("batch", "count", "pick", "prefixes", "runs", "size", "spans")

    def __init__(self, batch: OpenBatch, points: list[tuple[int, MetricGroup, bytes]]) -> None:
        self.batch = batch
        self.count = len(points)
        self.prefixes = [prefix for _, _, prefix in points]
        self.size = sum(map(len, self.prefixes)) + POINT_TAIL_BYTES * self.count
        places = [place for place, _, _ in points]
        # Of a single place it would pick no tuple: then that stands there twice.
        self.pick = itemgetter(*places, *places[: self.count == 1])
        self.runs: list[Run] = []
        self.spans: list[slice] = []
        start = 0
        for group, run in groupby(group for _, group, _ in points):
            stop = start + _PARTS * len(list(run))
            self.runs.append((group, 1))
            self.spans.append(slice(start, stop))
            start = stop

    def append(self, stamps: list[bytes], values: list[bytes], intake: Intake) -> None:
        """Append the points, sealing the batch wherever it is full."""
        batch = self.batch
        pieces: list[bytes] = [ZERO] * (_PARTS * self.count)
        pieces[_HEADS] = self.prefixes
        pieces[_VALUES] = self.pick(stamps)[: self.count]
        pieces[_TIMES] = self.pick(values)[: self.count]
        if batch.count + self.count < batch.limit:
            enter(batch, self.runs[0][0], intake)
            arena = batch.arena
            arena.pieces += [b"".join(pieces[span]) for span in self.spans]
            arena.runs += self.runs
            arena.closed += len(self.runs)
            arena.count += self.count
            arena.size += self.size
            batch.count += self.count
            batch.group = self.runs[-1][0]
            return
        for (group, _), span in zip(self.runs, self.spans, strict=True):
            for at in range(span.start, span.stop, _PARTS):
                if batch.group is not group:
                    enter(batch, group, intake)
                batch.arena.add(*pieces[at : at + _PARTS])
                batch.count += 1
                if batch.count == batch.limit:
                    seal(batch, intake)


class Stretch:
    """See the module's rules. ``zeros`` are the places of samples without a value: it is 0."""

    __slots__ = ("count", "generation", "heads", "layout", "members", "plan", "shares", "zeros")

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
        by_batch: dict[OpenBatch, list[tuple[int, MetricGroup, bytes]]] = {}
        for place, member in enumerate(members):
            for batches, group, prefix in member.routes:
                for batch in batches:
                    by_batch.setdefault(batch, []).append((place, group, prefix))
        self.shares = tuple(_Share(batch, points) for batch, points in by_batch.items())

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
    values = list(parts[_VALUES])
    if STALE in values:
        return None
    times = parts[_TIMES]
    stamps = [memo.stamps[times[0]]]
    if times.count(times[0]) == len(times):
        stamps *= len(times)
    else:
        stamps = list(map(memo.stamps.__getitem__, times))
    if None in stamps:
        return None
    for place in stretch.zeros:
        values[place] = ZERO
    for share in stretch.shares:
        share.append(stamps, values, intake)  # type: ignore[arg-type]  # None is not among them
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
    stretch = Stretch(members, heads, widths, generation)
    memo.keep(stretch)
    return stretch


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
