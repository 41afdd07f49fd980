"""Preview an Exporter: count the series of the running relay that it would take now.

* The series table is looked at in slices of :data:`SLICE_S`, between requests, which
  are served first after each slice.
* Each of the table's dictionaries is looked at as it was at one moment, and a series stays in one
  dictionary: a series that is there all the time counts exactly once. One that comes or goes during
  the preview counts if it was there at its dictionary's moment and was not forgotten before its
  turn came.
* A series is the exporter's project's by the rule of :mod:`relay.pipeline.routing.tenancy`, as it
  was found when the series came; no other is read.
* Samples a minute are estimated from the arrivals of a sample of the matching series
  (:mod:`relay.control.preview.arrivals`), records by :mod:`relay.control.preview.record_rates`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, Protocol

from relay.codec.remote_write.v1 import parse_labels
from relay.config.exporter.types import Exporter, OtlpHttp
from relay.control.explain import written
from relay.control.preview.arrivals import LOOK_S, Arrivals, ArrivalWatch
from relay.control.preview.question import LABELS_MAX, Question, read_values
from relay.control.preview.record_rates import MEASURE_S, RecordRates
from relay.control.preview.records import SelectedRecords
from relay.control.preview.result import PreviewResult, Selected, top_metrics
from relay.control.preview.scan import FIRST_MAX, NAMES_MAX, NamePlan, SelectedSeries, SeriesScan
from relay.control.time_slicing import SLICE_S
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.metrics.otlp.labels import HIDDEN
from relay.pipeline.routing.tenancy import ACCOUNT_LABELS, ANYWHERE, IngestPath
from relay.runtime.event_loop import give_way, run_in_thread, yield_to_loop
from relay.selector.resources.compiler import Compiler

MEASURE_S_MAX: Final = 120.0
"""Longest measurement of samples a minute; s."""
_SEED: Final = 0x9E3779B97F4A7C15


class _Keys(IntEnum):
    """Forms of the keys of series, by what they hold besides what selectors see."""

    PLAIN = 0
    WITH_ACCOUNTS = 1
    OTLP = 2


_HIDDEN: Final = {
    _Keys.PLAIN: frozenset[str](),
    _Keys.WITH_ACCOUNTS: ACCOUNT_LABELS,
    _Keys.OTLP: HIDDEN,
}


class EngineTurns(Protocol):
    """Tells when the engine is between two requests."""

    async def settled(self) -> None:
        """Return between two requests; the next one starts when the caller next suspends."""


@dataclass(frozen=True, slots=True)
class PreviewProgress:
    """Series looked at, of about how many; or seconds measured, of at most how many."""

    step: str
    done: float
    of: float


PreviewEvent = PreviewProgress | PreviewResult


class Preview:
    """One preview of an exporter beside its stored version, if there is one.

    Run :meth:`count` once, then :meth:`measure` where samples a minute are wanted.
    """

    def __init__(
        self,
        engine: MetricsPipeline,
        turns: EngineTurns,
        exporter: Exporter,
        stored: Exporter | None = None,
        *,
        compiler: Compiler | None = None,
        watch: ArrivalWatch | None = None,
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._turns = turns
        self._question = Question(exporter, stored, compiler or Compiler(), engine.inventory)
        self._watch = watch or ArrivalWatch(engine.table)
        self._tick = tick
        self._scans: dict[_Keys, SeriesScan] = {}
        self._seen = 0
        self._result: PreviewResult | None = None
        self.records: tuple[SelectedRecords, ...] = ()
        """Of sources of logs and traces: to be set before :meth:`count`."""
        self.record_rates = RecordRates(exporter, ())
        """Of these, to be set before :meth:`measure`."""

    async def count(self) -> AsyncIterator[PreviewEvent]:
        """Yield progress, then the result without samples a minute."""
        await self._turns.settled()
        # Held until the end: series are recognised by being of the same types.
        types = self._engine.types.of(self._question.exporter.project)
        question = self._question
        for number, keys in enumerate(_Keys):
            self._scans[keys] = SeriesScan(
                types,
                question.stream_plan if keys is _Keys.OTLP else self._plan(keys),
                read_values,
                question.lists,
                seed=_SEED + number,
                names_max=NAMES_MAX,
            )
        told_at = self._tick()
        parts = self._engine.table.parts()
        for origin, part in parts:
            await self._turns.settled()
            scan, series, at = self._scans[_keys_of(origin)], part(), 0
            while at < len(series):
                at = scan.run(series, at, SLICE_S)
                await give_way(SLICE_S)
                await self._turns.settled()
            self._seen += len(series)
            if self._tick() - told_at >= LOOK_S:
                told_at = self._tick()
                yield PreviewProgress("series", self._seen, self._engine.table.active)
        yield PreviewProgress("series", self._seen, self._seen)
        self._result = await run_in_thread(self._sum_up)
        yield self._result

    def _plan(self, keys: _Keys) -> Callable[[str], NamePlan]:
        origin = ANYWHERE._replace(by_labels=keys is _Keys.WITH_ACCOUNTS)
        return lambda name: self._question.plan(name, origin)

    def _sum_up(self) -> PreviewResult:
        """Return the result; to be called in a thread, as there may be many metric names."""
        question = self._question
        sources = len(question.exporter.sources)
        counts: list[list[tuple[str, int]]] = [[] for _ in range(sources + 1)]
        masks = [lists[0] for lists in question.lists[: sources + 1]]
        for name, by_mask in self._names().items():
            yield_to_loop()
            for found, wanted in zip(counts, masks, strict=True):
                series = sum(count for mask, count in by_mask.items() if mask & wanted)
                if series:
                    found.append((name, series))
        has_more = any(scan.unnamed for scan in self._scans.values())
        selected = [self._selected(number) for number in range(len(question.lists))]
        for number, found in enumerate(counts):
            yield_to_loop()
            selected[number] = replace(
                selected[number],
                top=top_metrics(found),
                metrics=len(found),
                has_more_metrics=has_more,
            )
        names = [source.name for source in question.exporter.sources]
        for number, name in enumerate(names):
            if question.deltas[number]:
                selected[number] = replace(
                    selected[number],
                    deltas=question.deltas[number],
                    without_deltas=_without_deltas(question.exporter, name),
                )
        total, added, removed = selected[sources:]
        has_stored = question.stored is not None
        return PreviewResult(
            question.exporter.id,
            sum(scan.seen for scan in self._scans.values()),
            tuple(zip(names, selected[:sources], strict=True)),
            total,
            added if has_stored else None,
            removed if has_stored else None,
            records=self.records,
        )

    def _names(self) -> dict[str, dict[int, int]]:
        """Return the number of series by mask of each metric name, of all scans together."""
        found: dict[str, dict[int, int]] = {}
        for scan in self._scans.values():
            for name, counts in scan.by_name():
                yield_to_loop()
                sums = found.setdefault(name, {})
                for mask, count in counts.items():
                    sums[mask] = sums.get(mask, 0) + count
        return found

    def _of(self, number: int) -> list[SelectedSeries]:
        return [scan.selected[number] for scan in self._scans.values()]

    def _selected(self, number: int) -> Selected:
        first: list[tuple[str, bytes, int]] = []
        for keys, scan in self._scans.items():
            first += [(name, key, keys.value) for name, key in scan.selected[number].first]
        first.sort()
        count = sum(one.count for one in self._of(number))
        shown = tuple(_shown(key, _Keys(keys)) for _, key, keys in first[:FIRST_MAX])
        return Selected(count, shown)

    async def measure(
        self, seconds_max: float, *, look_s: float = LOOK_S
    ) -> AsyncIterator[PreviewEvent]:
        """Watch the arrivals of the sampled series; yield progress, then the result with rates.

        Ends as soon as the interval of every sampled series is known. Previews of one engine that
        measure at the same time share a ``watch``.
        """
        result = self._result
        assert result is not None, "there is nothing to measure before the counts"
        numbers = range(len(result.sources) + 1)
        sampled = [one for number in numbers for of in self._of(number) for one in of.sampled]
        await self._turns.settled()
        arrivals, records = Arrivals(self._watch, sampled, self._tick()), self.record_rates
        records.begin()
        try:
            while arrivals.watched_s < min(seconds_max, MEASURE_S_MAX) and not (
                arrivals.settled and (not records.measures or arrivals.watched_s >= MEASURE_S)
            ):
                await asyncio.sleep(look_s)
                await self._turns.settled()
                arrivals.look(self._tick())
                yield PreviewProgress("seconds", arrivals.watched_s, seconds_max)
        finally:
            records.close()
            arrivals.close()
        of_records = records.per_minute(arrivals.watched_s)
        rates = [self._rate(number, arrivals) for number in numbers]
        yield replace(
            result,
            sources=tuple(
                (name, replace(one, samples_per_minute=rate))
                for (name, one), rate in zip(result.sources, rates[:-1], strict=True)
            ),
            total=replace(result.total, samples_per_minute=rates[-1]),
            records=tuple(
                replace(one, per_minute=rate.records, bytes_per_minute=rate.bytes)
                if (rate := of_records.get((one.signal, one.source))) is not None
                else one
                for one in result.records
            ),
            measured_s=arrivals.watched_s,
        )

    def _rate(self, number: int, arrivals: Arrivals) -> float | None:
        """Return the samples a minute of one group of series: those of each scan by its share."""
        total = 0.0
        for one in self._of(number):
            mean = arrivals.per_minute(one.sampled)
            if mean is not None:
                total += mean * one.count
            elif one.count:
                return None
        return total

    def __repr__(self) -> str:
        return f"<Preview of {self._question.exporter.id}, {self._seen} series seen>"


def _keys_of(origin: IngestPath) -> _Keys:
    if origin.is_otlp:
        return _Keys.OTLP
    return _Keys.WITH_ACCOUNTS if origin.by_labels else _Keys.PLAIN


def _without_deltas(exporter: Exporter, source: str) -> tuple[str, ...]:
    """Return the sinks of a source that take cumulative values only."""
    return tuple(
        sink.name
        for sink in exporter.sinks
        if source in sink.sources
        and not (isinstance(sink.endpoint, OtlpHttp) and sink.endpoint.temporality == "delta")
    )


def _shown(key: bytes, keys: _Keys) -> str:
    """Return a series in PromQL form, without labels that are not for its owner."""
    labels = dict(parse_labels(key, labels_max=LABELS_MAX))
    hidden = _HIDDEN[keys]
    return written({name: text for name, text in labels.items() if name not in hidden})
