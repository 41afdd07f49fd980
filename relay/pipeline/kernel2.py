"""The loop of remote write 2.0: every series' labels are looked up, none recognised in place.

A request of this version brings its own table of strings, and its series refer to it by numbers
that mean something else in the next request. So there are no bytes to compare; the labels are
written out as remote write 1.0 has them and looked up, some five times the cost of a sample that
is recognised. Everything behind that is the same as in :mod:`relay.pipeline.kernel`. Rules:

* A series holds samples or histograms, never both (specification, "Protobuf Message"): where it
  does, it is refused, and the rest of the request is kept.
* Metadata travels with its series and is learned before the series is resolved.
* A start time goes with its sample where it is not later than the sample itself. Senders before
  2.0-rc.4 give one for the whole series.
"""

from __future__ import annotations

from relay.pipeline.careful import (
    Resolution,
    append_sample,
    count_careful,
    count_expansion,
    point_bytes,
    take_exemplars,
    take_histograms,
)
from relay.pipeline.intake import Extra, Intake, leave
from relay.pipeline.series import Series
from relay.wire.otlp import encode_time
from relay.wire.otlp_points import Exemplar
from relay.wire.remote_write import SeriesFault
from relay.wire.remote_write2 import (
    Sample2,
    SeriesParts2,
    Symbols,
    parse_metadata,
    parse_request,
    parse_series,
)

KEY_BYTES_MAX = 1024 * 1024
"""Labels of a series, encoded; beyond any limit that the settings may set for them."""


def consume2(body: bytes, intake: Intake, resolution: Resolution) -> None:
    """Append every good sample of a decompressed 2.0 request to the batches of its series' routes.

    Raises DecodeError where the body is not a Request, TooLargeError for more entries than
    :data:`~relay.pipeline.careful.CAREFUL_MAX`. Then :meth:`Intake.undo` puts every batch back.
    """
    symbols, spans = parse_request(body)
    for start, stop in spans:
        count_careful(intake)
        parts = parse_series(body, start, stop)
        exemplars: tuple[Exemplar, ...] = ()
        if parts.exemplars:
            found = (symbols.exemplar(body, *span) for span in parts.exemplars)
            exemplars = take_exemplars(found, intake)
        if not (parts.samples or parts.histograms or exemplars):
            continue
        series = _find(body, start, parts, symbols, intake, resolution)
        if series is None:
            intake.exemplars_refused += len(exemplars)
            continue
        if parts.histograms:
            take_histograms(
                body,
                parts.histograms,
                series,
                exemplars,
                intake,
                resolution,
                created_ms=parts.created_ms,
            )
        elif parts.samples:
            _take_samples(series, parts, exemplars, intake)
        elif exemplars:
            intake.loose.append((series, exemplars))
    for touch in intake.touches:
        leave(touch.batch)


def _find(
    body: bytes,
    start: int,
    parts: SeriesParts2,
    symbols: Symbols,
    intake: Intake,
    resolution: Resolution,
) -> Series | None:
    """The series, with its metadata learned; None, and recorded, where it cannot be used."""
    reason = ""
    if parts.samples and parts.histograms:
        reason = "samples_and_histograms"
    else:
        try:
            key = symbols.key(parts.refs, bytes_max=KEY_BYTES_MAX)
        except SeriesFault as fault:
            reason = fault.reason
        else:
            count_expansion(len(key), intake)
            if parts.metadata is not None and parts.metadata[0] < parts.metadata[1]:
                name = symbols.name(parts.refs)
                resolution.learn(name, parse_metadata(body, *parts.metadata, symbols))
            series = resolution.resolve(key)
            if not series.fault:
                return series
            reason = series.fault
    count = len(parts.samples) + len(parts.histograms)
    if count:
        intake.drop(reason, count, f"series at byte {start}")
    return None


def _take_samples(
    series: Series, parts: SeriesParts2, exemplars: tuple[Exemplar, ...], intake: Intake
) -> None:
    samples = parts.samples
    if len(samples) > 1:
        samples = _in_order(parts, series, intake)
    good: list[tuple[bytes, bytes, Extra | None]] = []
    for value, timestamp_ms, start_ms in samples:
        stamp = encode_time(timestamp_ms)
        if stamp is None:
            intake.drop("timestamp", 1, f"{series.name} at {timestamp_ms} ms")
            continue
        start = start_ms or parts.created_ms
        extra = Extra(start * 1_000_000) if 0 < start <= timestamp_ms else None
        good.append((stamp, value, extra))
    if not good:
        return
    if exemplars:
        stamp, value, extra = good[-1]
        good[-1] = stamp, value, Extra(extra.start_ns if extra else 0, exemplars)
    count_expansion(len(good) * point_bytes(series, series.plan), intake)
    intake.tallies.append((series.plan, len(good)))
    for stamp, value, extra in good:
        append_sample(series, stamp, value, extra, intake)


def _in_order(parts: SeriesParts2, series: Series, intake: Intake) -> list[Sample2]:
    """Samples by time, the last given for each, as in the other kernel."""
    by_time = {sample[1]: sample for sample in parts.samples}
    if len(by_time) < len(parts.samples):
        intake.drop("duplicate_timestamp", len(parts.samples) - len(by_time), series.name)
    return [by_time[time_ms] for time_ms in sorted(by_time)]
