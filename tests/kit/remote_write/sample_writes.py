"""Requests written as people read metrics: ``http_requests_total{code="200"} 5``."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping

from tests.kit.remote_write.prompb import RawWriteRequest

T0_MS = 1_700_000_000_000
T0_NS = T0_MS * 1_000_000
TYPES = {
    "counter": 1,
    "gauge": 2,
    "histogram": 3,
    "gaugehistogram": 4,
    "summary": 5,
    "info": 6,
    "stateset": 7,
    "unknown": 0,
}

_SAMPLE = re.compile(r"(\S+?)(?:\{(.*)\})?\s+(\S+)(?:\s+@(\d+))?")
_LABEL = re.compile(r'([^=,\s]+)="([^"]*)"')


def write(*lines: str, at_ms: int = T0_MS, types: Mapping[str, str] | None = None) -> bytes:
    """A body with one sample a line, at ``at_ms`` or at the milliseconds behind an ``@``.

    ``StaleNaN`` is the stale marker. ``types`` is metadata: family to type, with the unit behind a
    blank where there is one.
    """
    request = RawWriteRequest()
    for line in lines:
        match = _SAMPLE.fullmatch(line)
        assert match, line
        name, labels, value, time = match.groups()
        series = request.timeseries.add()
        pairs = [("__name__", name), *_LABEL.findall(labels or "")]
        for key, text in pairs:
            series.labels.add(name=key.encode(), value=text.encode())
        sample = series.samples.add(timestamp=int(time or at_ms))
        sample.value = 0x7FF0000000000002 if value == "StaleNaN" else _bits(float(value))
    for family, described in (types or {}).items():
        kind, _, unit = described.partition(" ")
        request.metadata.add(
            type=TYPES[kind], metric_family_name=family.encode(), unit=unit.encode()
        )
    return bytes(request.SerializeToString())


def histogram(
    name: str, labels: str, buckets: Iterable[tuple[str, float]], total: float, count: float
) -> list[str]:
    """The lines of a classic histogram; ``labels`` as in ``write``, without ``le``."""
    comma = "," if labels else ""
    lines = [f'{name}_bucket{{{labels}{comma}le="{bound}"}} {value}' for bound, value in buckets]
    return [*lines, f"{name}_sum{{{labels}}} {total}", f"{name}_count{{{labels}}} {count}"]


def _bits(value: float) -> int:
    bits: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    return bits
