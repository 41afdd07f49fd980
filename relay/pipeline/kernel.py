"""The hot loop: recognise each series of a request and append its points to the batches that want
them.

This is the readable reference; ``kernel.pyx`` is the same on raw memory (:mod:`relay.hot_path`).
Theory of operation:

* A request is one pass over ``WriteRequest.timeseries``. Senders keep their order, so the series
  that followed the last one before most likely follows it again: its bytes are compared in place,
  with no copy and no hash. The two shapes that a sample nearly always has (a value and a six-byte
  time; a time alone, because protobuf leaves a zero value out) are taken as slices; any other shape
  goes to the careful decoder.
* Where some were recognised in a row, many are tried at a time (:mod:`relay.pipeline.stretches`).
* A request is *atomic*: whatever makes it undecodable is found before anything of it leaves,
  because what a request found is remembered (:mod:`relay.pipeline.intake`), batches are put back,
  and full batches stay in the intake until the caller takes them.
* What is counted per sample is counted per stretch of samples with the same plan.
"""

from __future__ import annotations

from relay.errors import DecodeError
from relay.pipeline.careful import Resolution, append_sample, count_expansion, point_bytes
from relay.pipeline.intake import Intake, enter, leave, seal
from relay.pipeline.memo import Memo
from relay.pipeline.plans import Plan
from relay.pipeline.stretches import LENGTH_MIN, take_stretch
from relay.pipeline.table import SeriesTable
from relay.pipeline.unusual import (
    TIME_HEAD,
    VALUE_HEAD,
    ZERO,
    decode_carefully,
    find_usual,
    other_field,
)
from relay.wire.otlp import POINT_TAIL_BYTES, stale_prefix
from relay.wire.otlp_points import STALE
from relay.wire.protobuf import read_varint
from relay.wire.remote_write import SERIES_TAG


def consume(  # noqa: C901, PLR0912, PLR0915 - the hot loop: a call per sample would double its cost
    table: SeriesTable,
    body: bytes,
    intake: Intake,
    resolution: Resolution,
    memo: Memo,
) -> None:
    """Append every good sample of a decompressed WriteRequest to the batches of its series' routes.

    Raises DecodeError where the body is not a WriteRequest, TooLargeError for more than
    :data:`~relay.pipeline.careful.CAREFUL_MAX` entries that need care. Then, and whenever the
    caller cannot accept the request after all, :meth:`Intake.undo` puts every batch back.
    """
    last = table.root
    generation = table.generation
    tallies = intake.tallies
    deferred = intake.deferred
    plan: Plan | None = None
    handled = False
    samples = 0
    pos = 0
    end = len(body)
    stamps = memo.stamps
    stretches = memo.stretches
    in_row = 0  # guesses that were right
    while pos < end:
        guess = last.next
        if guess is not None and (guess in stretches or in_row >= LENGTH_MIN):
            stretch = take_stretch(stretches.get(guess), guess, body, pos, generation, memo, intake)
            if stretch is not None:
                pos += stretch.outline.size
                last = stretch.members[-1]
                if stretch.plan is plan:
                    samples += stretch.count
                else:
                    if plan is not None:
                        tallies.append((plan, samples))
                    plan = stretch.plan
                    handled = plan.handled
                    samples = stretch.count
                continue
            in_row = 0
        if body[pos] == SERIES_TAG:
            try:
                size = body[pos + 1]
                if size < 128:
                    start = pos + 2
                else:
                    high = body[pos + 2]
                    if high < 128:
                        size += (high << 7) - 128
                        start = pos + 3
                    else:
                        size, start = read_varint(body, pos + 1, end)
            except IndexError:
                raise DecodeError("truncated length", offset=pos + 1) from None
            pos = start + size
            if pos > end:
                raise DecodeError(f"length {size} runs past the end of its message", offset=start)
        else:
            start, pos = other_field(body, pos, end, intake)
            if start < 0:
                continue

        series = guess
        stamp = None
        if series is not None and body.startswith(series.key, start):
            if series.generation != generation:
                last.next = series = resolution.resolve(series.key)
                generation = table.generation
            tail = start + len(series.key)
            if pos - tail == 18:
                if body.startswith(VALUE_HEAD, tail):
                    stamp = stamps[body[tail + 11 : pos]]
                    value = body[tail + 3 : tail + 11]
            elif pos - tail == 9 and body.startswith(TIME_HEAD, tail):
                stamp = stamps[body[tail + 2 : pos]]
                value = ZERO
        if stamp is None or series is None:
            # Another series than the guess, or a sample of another shape.
            in_row = -1  # this one was not guessed
            usual = find_usual(body, start, pos, last, intake, resolution, memo)
            generation = table.generation
            if usual is not None:
                series, stamp, value = usual
        if stamp is None or series is None:
            # The careful way.
            series, points = decode_carefully(body, start, pos, last, intake, resolution)
            generation = table.generation
            in_row = 0
            if series is None:
                continue
            if len(points) > 1:
                count_expansion(len(points) * point_bytes(series, series.plan), intake)
            if series.plan is plan:
                samples += len(points)
            else:
                if plan is not None:
                    tallies.append((plan, samples))
                plan = series.plan
                handled = plan.handled
                samples = len(points)
            last = series
            for stamp, value, extra in points:
                append_sample(series, stamp, value, extra, intake)
            continue

        last = series
        in_row += 1
        if series.plan is plan:
            samples += 1
        else:
            if plan is not None:
                tallies.append((plan, samples))
            plan = series.plan
            handled = plan.handled
            samples = 1
        if handled:
            deferred.append((series.handlers, stamp, value, None))
        for batches, group, prefix in series.routes:
            point = prefix if value != STALE else stale_prefix(prefix), stamp, value
            size = len(point[0]) + POINT_TAIL_BYTES
            for batch in batches:
                if batch.group is not group:
                    enter(batch, group, intake)
                arena = batch.arena
                arena.pieces += point
                arena.count += 1
                arena.size += size
                batch.count += 1
                if batch.count == batch.limit:
                    seal(batch, intake)
    if plan is not None:
        tallies.append((plan, samples))
    leave(intake)
