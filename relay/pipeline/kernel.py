"""The hot loop: recognise each series of a request and append its points to the batches that want
them.

This is the readable reference. Theory of operation:

* A request is one pass over ``WriteRequest.timeseries``. Senders keep their order, so the series
  that followed the last one before most likely follows it again: its bytes are compared in place,
  with no copy and no hash. The two shapes that a sample nearly always has (a value and a six-byte
  time; a time alone, because protobuf leaves a zero value out) are taken as slices; any other shape
  goes to the careful decoder.
* A request is *atomic*: whatever makes it undecodable is found before anything of it leaves,
  because batches remember where the request found them (:class:`Touch`) and are put back, and full
  batches stay in the intake until the caller takes them.
* What is counted per sample is counted per stretch of samples with the same plan.

``times`` maps the encoded time of a sample to its OTLP encoding. Only six-byte varints are kept:
those are the times from 1971 to 2109, all of which OTLP can express.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from relay.errors import DecodeError, TooLargeError
from relay.pipeline.plans import Plan
from relay.pipeline.series import Series
from relay.pipeline.table import SeriesTable
from relay.wire.batch import OpenBatch, SealedBatch
from relay.wire.otlp import VALUE_TAG, MetricGroup, Run, stale_prefix
from relay.wire.protobuf import read_length, read_varint, skip_field
from relay.wire.remote_write import METADATA_FIELD, SeriesParts, parse_series

STALE = b"\x02\x00\x00\x00\x00\x00\xf0\x7f"
"""The stale marker as it travels: NaN with payload 2, little-endian."""

_ZERO = bytes(8)
_VALUE_HEAD = b"\x12\x10\x09"  # TimeSeries.samples (2), 16 bytes: value (1, fixed64), then time
_TIME_HEAD = b"\x12\x07\x10"  # the same without the zero value: 7 bytes, timestamp (2)
_SERIES_TAG = 0x0A  # WriteRequest.timeseries (1)

_TIME_MS_MAX = (2**63 - 1) // 1_000_000
"""OTLP times are unsigned, but most readers keep nanoseconds in a signed 64-bit integer."""

_TIMES_MAX = 65_536
"""Entries of the time memo before it is emptied: some 10 MB at the worst."""

Resolve = Callable[[bytes], Series]
"""Looks a series up by its bytes, or makes it; returns it ready, with ``fault`` set where it is
bad."""


@dataclass(slots=True)
class Touch:
    """Where a request found a batch: enough to put it back."""

    batch: OpenBatch
    arena: bytearray
    arena_bytes: int
    runs: list[Run]
    runs_count: int
    count: int
    oldest: int
    opened_at: float
    sealed: int

    def undo(self) -> None:
        """Put the batch back to what it was."""
        batch = self.batch
        del self.arena[self.arena_bytes :]
        del self.runs[self.runs_count :]
        batch.arena = self.arena
        batch.runs = self.runs
        batch.group = None
        batch.count = self.count
        batch.oldest = self.oldest
        batch.opened_at = self.opened_at
        batch.sealed = self.sealed


@dataclass(slots=True)
class Intake:
    """What one request brought. ``request`` is its position, ``now`` its arrival on the wall clock,
    s."""

    request: int
    now: float
    tallies: list[tuple[Plan, int]] = field(default_factory=list)
    """Good samples, by plan, in stretches."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Samples that went no further, by reason."""
    examples: list[str] = field(default_factory=list)
    """What was wrong with the first few of them."""
    touches: list[Touch] = field(default_factory=list)
    sealed: list[tuple[OpenBatch, SealedBatch]] = field(default_factory=list)
    exemplars: int = 0
    careful: int = 0
    """Entries of the body that took the careful way."""
    expansion_bytes: int = 0
    has_metadata: bool = False
    learned: bool = False
    """Whether it taught something that is needed to read others: a type, an object's labels."""

    @property
    def samples(self) -> int:
        """Good samples of the request."""
        return sum(count for _, count in self.tallies)

    @property
    def wanted(self) -> bool:
        """Whether anything of the request goes on its way, or changes how others are read."""
        return bool(self.touches) or self.learned

    def drop(self, reason: str, count: int, example: str) -> None:
        """Record samples that go no further."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(f"{example}: {reason}")

    def withhold(self, wants: Callable[[OpenBatch], bool]) -> list[tuple[OpenBatch, int]]:
        """Take back what the request did to batches that do not want it; returns them, and how
        many points that were."""
        spared = [touch for touch in self.touches if not wants(touch.batch)]
        if not spared:
            return []
        points = {touch.batch: touch.batch.count - touch.count for touch in spared}
        kept = []
        for batch, sealed in self.sealed:
            if batch in points:
                points[batch] += sealed.count
            else:
                kept.append((batch, sealed))
        self.sealed = kept
        self.touches = [touch for touch in self.touches if touch.batch not in points]
        for touch in spared:
            touch.undo()
        return list(points.items())

    def undo(self) -> None:
        """Take everything back that the request did to batches."""
        for touch in self.touches:
            touch.undo()
        self.touches.clear()
        self.sealed.clear()
        self.tallies.clear()


CAREFUL_MAX = 500_000
"""Entries of one request that are not a known series with one sample: fifty times vmagent's largest
block. Each costs some ten microseconds, during which nobody else is served, and a body of 32 MiB
has room for sixteen million empty ones."""

EXPANSION_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of points that series with several samples may become in one request.

Every point repeats its series' attributes: without a bound, one series with 16 KiB of labels and a
million samples in 10 MiB would become 16 GiB. vmagent's largest block, all of one series with 440
bytes of labels, becomes 5 MiB."""

EXAMPLES_MAX = 5
"""Faults that are spelled out per request; the rest is only counted."""


def encode_time(timestamp_ms: int) -> bytes | None:
    """The OTLP time and the tag of the value behind it; None where OTLP cannot express the time.

    Zero means "unknown" in OTLP and consumers should refuse it; negative times do not exist there.
    """
    if 0 < timestamp_ms <= _TIME_MS_MAX:
        return (timestamp_ms * 1_000_000).to_bytes(8, "little") + VALUE_TAG
    return None


def consume(  # noqa: C901, PLR0912, PLR0915 - the hot loop: a call per sample would double its cost
    table: SeriesTable, body: bytes, intake: Intake, resolve: Resolve, times: dict[bytes, bytes]
) -> None:
    """Append every good sample of a decompressed WriteRequest to the batches of its series' routes.

    Raises DecodeError where the body is not a WriteRequest, TooLargeError for more than
    :data:`CAREFUL_MAX` entries that need care. Then, and whenever the caller cannot
    accept the request after all, :meth:`Intake.undo` puts every batch back.
    """
    last = table.root
    generation = table.generation
    tallies = intake.tallies
    plan: Plan | None = None
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
                last.next = series = resolve(series.key)
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
            series, points = _decode(body, start, pos, last, intake, resolve, times)
            generation = table.generation
            if series is None:
                continue
            if len(points) > 1:
                _count_expansion(series, len(points), intake)
            if series.plan is plan:
                samples += len(points)
            else:
                if plan is not None:
                    tallies.append((plan, samples))
                plan = series.plan
                samples = len(points)
            last = series
            for stamp, value in points:
                _append(series, stamp, value, intake)
            continue

        last = series
        if series.plan is plan:
            samples += 1
        else:
            if plan is not None:
                tallies.append((plan, samples))
            plan = series.plan
            samples = 1
        for batch, group, prefix in series.routes:
            if batch.group is not group:
                _enter(batch, group, intake)
            arena = batch.arena
            arena += prefix if value != STALE else stale_prefix(prefix)
            arena += stamp
            arena += value
            batch.count += 1
            if batch.count == batch.limit:
                _seal(batch, intake)
    if plan is not None:
        tallies.append((plan, samples))
    for touch in intake.touches:
        _leave(touch.batch)


def _append(series: Series, stamp: bytes, value: bytes, intake: Intake) -> None:
    """What the loop does with one sample, for the shapes that are not worth inlining."""
    for batch, group, prefix in series.routes:
        if batch.group is not group:
            _enter(batch, group, intake)
        batch.arena += prefix if value != STALE else stale_prefix(prefix)
        batch.arena += stamp
        batch.arena += value
        batch.count += 1
        if batch.count == batch.limit:
            _seal(batch, intake)


def _decode(
    body: bytes,
    start: int,
    stop: int,
    last: Series,
    intake: Intake,
    resolve: Resolve,
    times: dict[bytes, bytes],
) -> tuple[Series | None, list[tuple[bytes, bytes]]]:
    """Decode one TimeSeries with care; return its series and its points as (time, value).

    None for the series where nothing of it can be used; that is recorded in the intake.
    """
    _count_careful(intake)
    usual = _decode_usual(body, start, stop, resolve, times)
    if usual is not None:
        if last.generation >= 0:
            last.next = usual[0]
        return usual
    parts = parse_series(body, start, stop)
    intake.exemplars += parts.exemplars
    if not parts.samples and not parts.histograms:
        # Exemplars travel in series of their own; there is nothing to route.
        return None, []
    series = resolve(parts.key)
    if series.fault:
        intake.drop(series.fault, len(parts.samples) + parts.histograms, f"series at byte {start}")
        return None, []
    if last.generation >= 0:
        # A series that was just forgotten must not keep others alive.
        last.next = series
    if parts.histograms:
        intake.drop("native_histogram", parts.histograms, series.name)
    points = []
    samples = parts.samples if len(parts.samples) < 2 else _in_order(parts, series, intake)
    for value, timestamp_ms in samples:
        stamp = encode_time(timestamp_ms)
        if stamp is None:
            intake.drop("timestamp", 1, f"{series.name} at {timestamp_ms} ms")
        else:
            points.append((stamp, value))
            if 1 << 35 <= timestamp_ms < 1 << 42:
                _remember(times, timestamp_ms, stamp)
    return series, points


def _decode_usual(
    body: bytes, start: int, stop: int, resolve: Resolve, times: dict[bytes, bytes]
) -> tuple[Series, list[tuple[bytes, bytes]]] | None:
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
        series = resolve(body[start:tail])
    except DecodeError:
        return None  # the careful way tells what is wrong, and where
    return None if series.fault else (series, [(stamp, value)])


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
    _count_careful(intake)
    if number == METADATA_FIELD:
        intake.has_metadata = True
    return -1, skip_field(body, tag & 7, after, end)


def _count_careful(intake: Intake) -> None:
    intake.careful += 1
    if intake.careful > CAREFUL_MAX:
        raise TooLargeError(f"over {CAREFUL_MAX} entries that need care in one request")


def _count_expansion(series: Series, points: int, intake: Intake) -> None:
    intake.expansion_bytes += points * sum(len(route[2]) for route in series.routes)
    if intake.expansion_bytes > EXPANSION_BYTES_MAX:
        raise TooLargeError(
            f"series with several samples become over {EXPANSION_BYTES_MAX} bytes of points"
        )


def _enter(batch: OpenBatch, group: MetricGroup, intake: Intake) -> None:
    """Begin a run of ``group``; on the request's first touch, remember how the batch was."""
    if batch.request != intake.request:
        assert batch.group is None
        intake.touches.append(
            Touch(
                batch,
                batch.arena,
                len(batch.arena),
                batch.runs,
                len(batch.runs),
                batch.count,
                batch.oldest,
                batch.opened_at,
                batch.sealed,
            )
        )
        batch.request = intake.request
    elif batch.group is not None:
        batch.runs.append((batch.group, len(batch.arena)))
    if not batch.count:
        batch.oldest = intake.request
        batch.opened_at = intake.now
    batch.group = group


def _seal(batch: OpenBatch, intake: Intake) -> None:
    sealed = batch.seal()
    assert sealed is not None
    intake.sealed.append((batch, sealed))


def _leave(batch: OpenBatch) -> None:
    """Close the run that the request left open, so that the next request starts one of its own."""
    if batch.group is not None:
        batch.runs.append((batch.group, len(batch.arena)))
        batch.group = None
