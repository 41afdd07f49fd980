"""The hot loop: recognise each series of a request and append its points to the batches that want
them.

This is the readable reference. Theory of operation:

* A request is one pass over ``WriteRequest.timeseries``. Senders keep their order, so the series
  that followed the last one before most likely follows it again: its bytes are compared in place,
  with no copy and no hash. The two shapes that a sample nearly always has (a value and a six-byte
  time; a time alone, because protobuf leaves a zero value out) are taken as slices; any other shape
  goes to the careful decoder.
* A request is *atomic*: whatever makes it undecodable is found before anything of it leaves,
  because what a request found is remembered (:mod:`relay.pipeline.intake`), batches are put back,
  and full batches stay in the intake until the caller takes them.
* What is counted per sample is counted per stretch of samples with the same plan.

``times`` maps the encoded time of a sample to its OTLP encoding. Only six-byte varints are kept:
those are the times from 1971 to 2109, all of which OTLP can express.
"""

from __future__ import annotations

from relay.errors import DecodeError
from relay.pipeline.careful import (
    Resolution,
    append_sample,
    count_careful,
    count_expansion,
    point_bytes,
    take_exemplars,
    take_histograms,
)
from relay.pipeline.intake import Extra, Intake, enter, leave, seal
from relay.pipeline.plans import Plan
from relay.pipeline.series import Series
from relay.pipeline.table import SeriesTable
from relay.wire.exemplars import parse_exemplar
from relay.wire.otlp import VALUE_TAG, stale_prefix
from relay.wire.otlp_points import STALE, Exemplar
from relay.wire.protobuf import read_length, read_varint, skip_field
from relay.wire.remote_write import METADATA_FIELD, SeriesParts, parse_series

_ZERO = bytes(8)
_VALUE_HEAD = b"\x12\x10\x09"  # TimeSeries.samples (2), 16 bytes: value (1, fixed64), then time
_TIME_HEAD = b"\x12\x07\x10"  # the same without the zero value: 7 bytes, timestamp (2)
_SERIES_TAG = 0x0A  # WriteRequest.timeseries (1)

_TIME_MS_MAX = (2**63 - 1) // 1_000_000
"""OTLP times are unsigned, but most readers keep nanoseconds in a signed 64-bit integer."""

_TIMES_MAX = 65_536
"""Entries of the time memo before it is emptied: some 10 MB at the worst."""


def encode_time(timestamp_ms: int) -> bytes | None:
    """The OTLP time and the tag of the value behind it; None where OTLP cannot express the time.

    Zero means "unknown" in OTLP and consumers should refuse it; negative times do not exist there.
    """
    if 0 < timestamp_ms <= _TIME_MS_MAX:
        return (timestamp_ms * 1_000_000).to_bytes(8, "little") + VALUE_TAG
    return None


def consume(  # noqa: C901, PLR0912, PLR0915 - the hot loop: a call per sample would double its cost
    table: SeriesTable,
    body: bytes,
    intake: Intake,
    resolution: Resolution,
    times: dict[bytes, bytes],
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
    while pos < end:
        if body[pos] == _SERIES_TAG:
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
            start, pos = _other_field(body, pos, end, intake)
            if start < 0:
                continue

        series = last.next
        stamp = None
        if series is not None and body.startswith(series.key, start):
            if series.generation != generation:
                last.next = series = resolution.resolve(series.key)
                generation = table.generation
            tail = start + len(series.key)
            if pos - tail == 18:
                if body.startswith(_VALUE_HEAD, tail) and body[tail + 11] == 0x10:
                    stamp = times.get(body[tail + 12 : pos])
                    value = body[tail + 3 : tail + 11]
            elif pos - tail == 9 and body.startswith(_TIME_HEAD, tail):
                stamp = times.get(body[tail + 3 : pos])
                value = _ZERO
        if stamp is None or series is None:
            # The careful way: another series than the guess, or a sample of another shape.
            series, points = _decode(body, start, pos, last, intake, resolution, times)
            generation = table.generation
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
        for batch, group, prefix in series.routes:
            if batch.group is not group:
                enter(batch, group, intake)
            batch.arena.pieces += (
                prefix if value != STALE else stale_prefix(prefix),
                stamp,
                value,
            )
            batch.count += 1
            if batch.count == batch.limit:
                seal(batch, intake)
    if plan is not None:
        tallies.append((plan, samples))
    for touch in intake.touches:
        leave(touch.batch)


def _decode(
    body: bytes,
    start: int,
    stop: int,
    last: Series,
    intake: Intake,
    resolution: Resolution,
    times: dict[bytes, bytes],
) -> tuple[Series | None, list[tuple[bytes, bytes, Extra | None]]]:
    """Decode one TimeSeries with care; return its series and its points as (time, value, extra).

    None for the series where it has no good samples; what else it has is recorded in the intake.
    """
    count_careful(intake)
    usual = _decode_usual(body, start, stop, resolution, times)
    if usual is not None:
        if last.generation >= 0:
            last.next = usual[0]
        return usual
    parts = parse_series(body, start, stop)
    exemplars: tuple[Exemplar, ...] = ()
    if parts.exemplars:
        exemplars = take_exemplars(
            (parse_exemplar(body, *span) for span in parts.exemplars), intake
        )
    if not (parts.samples or parts.histograms or exemplars):
        return None, []
    series = resolution.resolve(parts.key)
    if series.fault:
        count = len(parts.samples) + len(parts.histograms)
        intake.exemplars_refused += len(exemplars)
        if count:
            intake.drop(series.fault, count, f"series at byte {start}")
        return None, []
    if not parts.samples and not parts.histograms:
        # Exemplars travel in series of their own, behind the sample that they belong to.
        intake.loose.append((series, exemplars))
        return None, []
    if last.generation >= 0:
        # A series that was just forgotten must not keep others alive.
        last.next = series
    if parts.histograms:
        given = () if parts.samples else exemplars
        take_histograms(body, parts.histograms, series, given, intake, resolution)
    if not parts.samples:
        return None, []
    points: list[tuple[bytes, bytes, Extra | None]] = []
    samples = parts.samples if len(parts.samples) < 2 else _in_order(parts, series, intake)
    for value, timestamp_ms in samples:
        stamp = encode_time(timestamp_ms)
        if stamp is None:
            intake.drop("timestamp", 1, f"{series.name} at {timestamp_ms} ms")
        else:
            points.append((stamp, value, None))
            if 1 << 35 <= timestamp_ms < 1 << 42:
                _remember(times, timestamp_ms, stamp)
    if exemplars and points:
        stamp, value, _ = points[-1]
        points[-1] = (stamp, value, Extra(exemplars=exemplars))
    return series, points


def _decode_usual(
    body: bytes, start: int, stop: int, resolution: Resolution, times: dict[bytes, bytes]
) -> tuple[Series, list[tuple[bytes, bytes, Extra | None]]] | None:
    """As :func:`_decode`, for labels with one common sample behind them; None for anything else.

    That what stands at the end looks like a sample proves nothing yet. But what stands before it is
    then either exactly label fields, and the sample one, or no series without a fault.
    """
    tail = stop - 18
    if tail > start and body.startswith(_VALUE_HEAD, tail) and body[tail + 11] == 0x10:
        stamp = times.get(body[tail + 12 : stop])
        value = body[tail + 3 : tail + 11]
    else:
        tail = stop - 9
        stamp = times.get(body[tail + 3 : stop]) if body.startswith(_TIME_HEAD, tail) else None
        value = _ZERO
    if stamp is None or tail <= start:
        return None
    try:
        series = resolution.resolve(body[start:tail])
    except DecodeError:
        return None  # the careful way tells what is wrong, and where
    return None if series.fault else (series, [(stamp, value, None)])


def _in_order(parts: SeriesParts, series: Series, intake: Intake) -> list[tuple[bytes, int]]:
    """Samples by time, one for each time: the last one given.

    Backends refuse what is older than, or contradicts, a point that they have, and some refuse the
    whole request with it (reference, vectors 34 and 35).
    """
    by_time = {timestamp_ms: value for value, timestamp_ms in parts.samples}
    if len(by_time) < len(parts.samples):
        intake.drop("duplicate_timestamp", len(parts.samples) - len(by_time), series.name)
    return [(by_time[timestamp_ms], timestamp_ms) for timestamp_ms in sorted(by_time)]


def _remember(times: dict[bytes, bytes], timestamp_ms: int, stamp: bytes) -> None:
    if len(times) >= _TIMES_MAX:
        times.clear()
    encoded = bytearray()
    rest = timestamp_ms
    while rest > 127:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    assert len(encoded) == 6
    times[bytes(encoded)] = stamp


def _other_field(body: bytes, pos: int, end: int, intake: Intake) -> tuple[int, int]:
    """Step over a field that is not a series; return (-1, position behind it).

    A tag is a varint and may be longer than it needs to be: where it turns out to be a series after
    all, return (start, stop) of that. Metadata is noted, for the engine to read.
    """
    tag, after = read_varint(body, pos, end)
    number = tag >> 3
    if not 0 < number < 1 << 29:
        raise DecodeError(f"field number {number}", offset=pos)
    if tag == _SERIES_TAG:
        return read_length(body, after, end)
    count_careful(intake)
    if number == METADATA_FIELD:
        intake.has_metadata = True
    return -1, skip_field(body, tag & 7, after, end)
