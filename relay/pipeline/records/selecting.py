"""Select records by what only they have: severity, trace id, attributes, body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias
from zlib import crc32

from relay.codec.otlp import redact
from relay.codec.otlp.any_value import text_of, texts_of
from relay.codec.otlp.envelope import Envelope
from relay.codec.otlp.record_fields import (
    attributes_of,
    field_of,
    message_of,
    sampled,
    with_severity,
)
from relay.codec.otlp.redact import Places
from relay.selector.records.compile import Attributes, Residual

Ranges: TypeAlias = list[tuple[int, int]]
"""Rows of records: the number of the first one, and of the one behind the last."""

LINE_CHARS_MAX: Final = 64 << 10
"""Line filters look at so many characters of a body."""

STEP_BYTES: Final = 8 << 10
"""Bytes of records that are looked at between two pauses."""
RECORD_COST: Final = 256
"""Bytes that a record counts for besides its own."""
TEST_COST: Final = 64
"""The same of a text or expression that it is compared with: 5 µs at most, where it is short."""


@dataclass(frozen=True, slots=True)
class RecordFields:
    """Numbers of a record's fields; ``body`` and ``trace``, the id of its trace: 0 if it has none.

    ``places`` are for redaction.
    """

    attributes: int
    places: Places
    body: int = 0
    trace: int = 0


LOG_RECORD: Final = RecordFields(6, redact.LOG_RECORD, body=5)  # logs/v1/logs.proto
SPAN: Final = RecordFields(9, redact.SPAN, trace=1)  # trace/v1/trace.proto


def select(
    residual: Residual,
    envelope: Envelope,
    ranges: Ranges,
    fields: RecordFields,
    pause: Callable[[], None],
) -> Ranges:
    """Return the records that meet a residual, in rows. A record that cannot be read meets none."""
    if residual.severity_min:
        ranges = with_severity(envelope, ranges, residual.severity_min, pause)
    if residual.threshold:
        ranges = sampled(envelope, ranges, residual.threshold, pause)
    if not (residual.asks_attributes or residual.lines):
        return ranges
    found: Ranges = []
    cost = 0
    own_cost = RECORD_COST + TEST_COST * residual.tests
    for first, stop in ranges:
        begin = -1
        for number in range(first, stop):
            cost += own_cost + envelope.record_bytes(number, number + 1)
            if cost > STEP_BYTES:
                cost = 0
                pause()
            if _meets(residual, envelope, number, fields, pause):
                if begin < 0:
                    begin = number
            elif begin >= 0:
                found.append((begin, number))
                begin = -1
        if begin >= 0:
            found.append((begin, stop))
    return found


def split_by_share(
    share_max: int,
    envelope: Envelope,
    ranges: Ranges,
    fields: RecordFields,
    pause: Callable[[], None],
) -> tuple[Ranges, Ranges]:
    """Return the records that belong to a share of all, and the others, in rows.

    The CRC of a span's trace id decides, and that of a log record's bytes: the same traces, whole
    ones, and the same records after a restart and at another relay.
    """
    split: tuple[Ranges, Ranges] = [], []
    cost = 0
    for first, stop in ranges:
        begin, side = first, 0
        for number in range(first, stop):
            cost += RECORD_COST + envelope.record_bytes(number, number + 1)
            if cost > STEP_BYTES:
                cost = 0
                pause()
            trace = field_of(envelope, number, fields.trace, pause) if fields.trace else None
            other = int(crc32(trace or envelope.record(number)) >= share_max)
            if other != side:
                if number > begin:
                    split[side].append((begin, number))
                begin, side = number, other
        split[side].append((begin, stop))
    return split


def _meets(
    residual: Residual,
    envelope: Envelope,
    number: int,
    fields: RecordFields,
    pause: Callable[[], None],
) -> bool:
    if residual.lines:
        body = message_of(envelope, number, fields.body, pause)
        line = text_of(body, pause, chars_max=LINE_CHARS_MAX) if body is not None else ""
        if not residual.meets_line(line, pause):
            return False
    if not residual.asks_attributes:
        return True
    pairs = attributes_of(envelope, number, fields.attributes, pause)
    if pairs is None:
        return False
    return residual.meets_attributes(Attributes(texts_of(pairs, "a record", pause)), pause)
