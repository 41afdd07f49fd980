"""Write the text of a scrape.

* prometheus-client chooses the format and writes everything but the samples of metrics with one row
  per source or sink: with 10,000 sinks those are 300,000 lines, which it is too slow for.
* A sample's line is the same in every format that the library offers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from io import BytesIO
from itertools import islice

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from relay.runtime.event_loop import yield_to_loop
from relay.telemetry.metric_spec import MetricSpec, buckets_of
from relay.telemetry.metrics import CATALOGUE
from relay.telemetry.snapshot import Snapshot

_AT_A_TIME = 500
_TYPE_LINE = re.compile(rb"# TYPE ([^ ]+) .*\n")
_OF_AN_EXPORTER = "exporter"
"""First label of every metric with one row per source or sink."""

_NOTHING = Snapshot()


def expose(snapshot: Snapshot, others: CollectorRegistry, *, accept: str) -> tuple[bytes, str]:
    """Return the text of the catalogue and ``others``, and its content type, by ``Accept``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(snapshot, others))
    encode, content_type = choose_encoder(accept)
    # Grows in place: parts and whole together would be twice as much.
    page = BytesIO()
    page.writelines(_filled_in(encode(registry), snapshot))
    return page.getvalue(), content_type


class _Families(Collector):
    """Collect ``others``, and the catalogue without samples of per-source and per-sink metrics."""

    def __init__(self, snapshot: Snapshot, others: CollectorRegistry) -> None:
        self._snapshot = snapshot
        self._others = others

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        for spec in CATALOGUE:
            yield spec.family(_NOTHING if _has_many(spec) else self._snapshot)
            yield_to_loop()
        yield from self._others.collect()


def _has_many(spec: MetricSpec) -> bool:
    return spec.labels[:1] == (_OF_AN_EXPORTER,)


def _filled_in(text: bytes, snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the text with the missing samples inserted, each metric's after its head."""
    many = {spec.name.encode(): spec for spec in CATALOGUE if _has_many(spec)}
    known = _Known()
    written = 0
    for line in _TYPE_LINE.finditer(text):
        # OpenMetrics omits a counter's suffix in its head.
        spec = many.get(line[1]) or many.get(line[1] + b"_total")
        if spec is not None:
            yield text[written : line.end()]
            lines = _lines(spec, snapshot, known)
            # In chunks: all lines together may be 30 MB, and the event loop needs its turns.
            while some := "".join(islice(lines, _AT_A_TIME)):
                yield some.encode()
                yield_to_loop()
            written = line.end()
    yield text[written:]


def _lines(spec: MetricSpec, snapshot: Snapshot, known: _Known) -> Iterator[str]:
    """Yield the sample lines of a metric."""
    if spec.kind == "histogram":
        yield from _histogram_lines(spec, snapshot, known)
        return
    name, owner, others = spec.name, known[spec.labels[:2]], known[spec.labels[2:]]
    if not spec.labels[2:]:
        for values, value in spec.rows(snapshot):
            shown = value if type(value) is int else _shown(value)
            yield f"{name}{{{owner[values]}}} {shown}\n"
        return
    for values, value in spec.rows(snapshot):
        shown = value if type(value) is int else _shown(value)
        yield f"{name}{{{owner[values[:2]]},{others[values[2:]]}}} {shown}\n"


def _histogram_lines(spec: MetricSpec, snapshot: Snapshot, known: _Known) -> Iterator[str]:
    name, owner = spec.name, known[spec.labels]
    for values, distribution in spec.distributions(snapshot):
        labels, count = owner[values], 0
        for bound, count in buckets_of(distribution):
            yield f'{name}_bucket{{{labels},le="{bound}"}} {count}\n'
        yield f"{name}_count{{{labels}}} {count}\n"
        yield f"{name}_sum{{{labels}}} {_shown(distribution.sum_s)}\n"


def _shown(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


class _Pairs(dict[tuple[str, ...], str]):
    """Cache formatted label pairs of fixed label names, by their values."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self._names = names

    def __missing__(self, values: tuple[str, ...]) -> str:
        pairs = zip(self._names, values, strict=True)
        found = self[values] = ",".join([f'{name}="{_escaped(value)}"' for name, value in pairs])
        return found


class _Known(dict[tuple[str, ...], _Pairs]):
    """Cache a :class:`_Pairs` for each tuple of label names."""

    def __missing__(self, names: tuple[str, ...]) -> _Pairs:
        found = self[names] = _Pairs(names)
        return found


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
