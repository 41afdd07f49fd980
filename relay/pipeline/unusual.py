"""The careful way through a WriteRequest: whatever is not a known series with one common sample.

Both builds of :mod:`relay.pipeline.kernel` come here for it, so its errors and its counts are the
same in both.
"""

from __future__ import annotations

from relay.errors import DecodeError
from relay.pipeline.careful import Resolution, count_careful, take_exemplars, take_histograms
from relay.pipeline.intake import Extra, Intake
from relay.pipeline.memo import Memo
from relay.pipeline.series import Series
from relay.wire.exemplars import parse_exemplar
from relay.wire.otlp import encode_time
from relay.wire.otlp_points import Exemplar
from relay.wire.protobuf import read_length, read_varint, skip_field
from relay.wire.remote_write import METADATA_FIELD, SERIES_TAG, SeriesParts, parse_series

ZERO = bytes(8)
VALUE_HEAD = b"\x12\x10\x09"  # TimeSeries.samples (2), 16 bytes: value (1, fixed64), then time
TIME_HEAD = b"\x12\x07"  # the same without the zero value: 7 bytes, timestamp (2)


def decode_series(
    body: bytes,
    start: int,
    stop: int,
    last: Series,
    intake: Intake,
    resolution: Resolution,
    memo: Memo,
) -> tuple[Series | None, list[tuple[bytes, bytes, Extra | None]]]:
    """Decode one TimeSeries; return its series and its points as (time, value, extra).

    None for the series where it has no good samples; what else it has is recorded in the intake.
    """
    usual = find_usual(body, start, stop, last, intake, resolution, memo)
    if usual is None:
        return decode_carefully(body, start, stop, last, intake, resolution)
    series, stamp, value = usual
    return series, [(stamp, value, None)]


def decode_carefully(
    body: bytes, start: int, stop: int, last: Series, intake: Intake, resolution: Resolution
) -> tuple[Series | None, list[tuple[bytes, bytes, Extra | None]]]:
    """As :func:`decode_series`, for what :func:`find_usual` did not take."""
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
    if exemplars and points:
        stamp, value, _ = points[-1]
        points[-1] = (stamp, value, Extra(exemplars=exemplars))
    return series, points


def find_usual(
    body: bytes,
    start: int,
    stop: int,
    last: Series,
    intake: Intake,
    resolution: Resolution,
    memo: Memo,
) -> tuple[Series, bytes, bytes] | None:
    """The series, time and value of labels with one common sample behind them, which is all that
    nearly every TimeSeries is; None for anything else.

    That what stands at the end looks like a sample proves nothing yet. But what stands before it is
    then either exactly label fields, and the sample one, or no series without a fault.
    """
    count_careful(intake)
    tail = stop - 18
    if tail > start and body.startswith(VALUE_HEAD, tail):
        stamp = memo.stamps[body[tail + 11 : stop]]
        value = body[tail + 3 : tail + 11]
    else:
        tail = stop - 9
        stamp = None
        if body.startswith(TIME_HEAD, tail):
            stamp = memo.stamps[body[tail + 2 : stop]]
        value = ZERO
    if stamp is None or tail <= start:
        return None
    try:
        series = resolution.resolve(body[start:tail])
    except DecodeError:
        return None  # the careful way tells what is wrong, and where
    if series.fault:
        return None
    if last.generation >= 0:
        # A series that was just forgotten must not keep others alive.
        last.next = series
    return series, stamp, value


def _in_order(parts: SeriesParts, series: Series, intake: Intake) -> list[tuple[bytes, int]]:
    """Samples by time, one for each time: the last one given.

    Backends refuse what is older than, or contradicts, a point that they have, and some refuse the
    whole request with it (reference, vectors 34 and 35).
    """
    by_time = {timestamp_ms: value for value, timestamp_ms in parts.samples}
    if len(by_time) < len(parts.samples):
        intake.drop("duplicate_timestamp", len(parts.samples) - len(by_time), series.name)
    return [(by_time[timestamp_ms], timestamp_ms) for timestamp_ms in sorted(by_time)]


def other_field(body: bytes, pos: int, end: int, intake: Intake) -> tuple[int, int]:
    """Step over a field that is not a series; return (-1, position behind it).

    A tag is a varint and may be longer than it needs to be: where it turns out to be a series after
    all, return (start, stop) of that. Metadata is noted, for the engine to read.
    """
    tag, after = read_varint(body, pos, end)
    number = tag >> 3
    if not 0 < number < 1 << 29:
        raise DecodeError(f"field number {number}", offset=pos)
    if tag == SERIES_TAG:
        return read_length(body, after, end)
    count_careful(intake)
    if number == METADATA_FIELD:
        intake.has_metadata = True
    return -1, skip_field(body, tag & 7, after, end)
