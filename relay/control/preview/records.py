"""Preview the sources of logs and traces: which of the known resources they take, and how much.

* Resources are those in the pipelines' tables, of the exporter's project: what came since they were
  read, at most since they were idle for the time that series may be.
* What a source asks of each record cannot be counted afterwards; the preview says what it asks, and
  counts what passes of the records that come while it measures. How many log records have no
  severity number is told by the first ones of each resource, and samples of those behind them.
* A resource that comes by several ingest paths is one, with the records of all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from relay.codec.otlp.any_value import AttributeTexts
from relay.config.exporter.records.outputs import sources_of
from relay.config.exporter.types import Exporter
from relay.control.explain_records import resource_text
from relay.control.preview.record_rates import compiled_for
from relay.pipeline.records.entries import ResourceEntry
from relay.pipeline.records.pipeline import RecordsPipeline
from relay.runtime.event_loop import give_way, run_in_thread
from relay.runtime.excerpt import clipped
from relay.selector.records.compile import CompiledRecords, Residual

FIRST_MAX: Final = 10
"""Resources that are shown of each source."""
RENDERED_MAX: Final = 100
"""Resources of a source that are written out to find so many different ones."""
AT_ONCE: Final = 50
"""Resources that are matched before what else waits for the event loop."""
LONG_HEAD_BYTES: Final = 4 << 10
"""Resources that are larger are matched in a thread: regular expressions may take long for them."""
SHOWN_CHARS_MAX: Final = 200
"""Longest name and text of an attribute that is shown."""
SHOWN_ATTRIBUTES_MAX: Final = 50
"""Attributes of a resource that are shown."""


@dataclass(slots=True)
class SelectedRecords:
    """Resources that a source takes records of, and their records.

    ``of_resources`` are those that it may see. ``asks`` is what it asks of records of any of the
    resources, "" for nothing. Of ``sampled`` log records ``without_severity`` had no severity
    number. ``first`` are some of the resources, as selectors. ``per_minute`` are the records that
    it would take, and ``bytes_per_minute`` theirs before compression, None where that was not
    measured.
    """

    source: str
    signal: str
    of_resources: int = 0
    resources: int = 0
    records: int = 0
    asks: str = ""
    sampled: int = 0
    without_severity: int = 0
    first: tuple[str, ...] = ()
    per_minute: float | None = None
    bytes_per_minute: float | None = None

    def document(self) -> dict[str, Any]:
        """Return the form in JSON."""
        rate, bytes_rate = self.per_minute, self.bytes_per_minute
        return {
            "name": self.source,
            "signal": self.signal,
            "ofResources": self.of_resources,
            "resources": self.resources,
            "records": self.records,
            "recordsPerMinute": None if rate is None else round(rate, 1),
            "bytesPerMinute": None if bytes_rate is None else round(bytes_rate),
            "asks": self.asks,
            "sampledRecords": self.sampled,
            "withoutSeverity": self.without_severity,
            "firstResources": list(self.first),
        }


@dataclass(slots=True)
class _Question:
    """A source, what it takes, and what it asks of records of the resources so far."""

    compiled: CompiledRecords
    selected: SelectedRecords
    asked: Residual | None = None


async def preview_records(
    exporter: Exporter,
    pipelines: Iterable[RecordsPipeline],
    settled: Callable[[], Awaitable[None]],
) -> tuple[SelectedRecords, ...]:
    """Return what the exporter's sources of logs and traces take of the known resources."""
    found: list[SelectedRecords] = []
    for pipeline in pipelines:
        asked = [
            _Question(compiled_for(one, exporter, pipeline), SelectedRecords(one.name, one.signal))
            for one in sources_of(exporter, pipeline.signal)
        ]
        if not asked:
            continue
        await settled()
        entries = pipeline.table.entries()
        heads: set[bytes] = set()
        for at, entry in enumerate(entries):
            if not at % AT_ONCE:
                await give_way()
                await settled()
            if entry.project == exporter.project:
                look = partial(_look, entry, asked, is_new=entry.head not in heads)
                if len(entry.head) > LONG_HEAD_BYTES:
                    await run_in_thread(look)
                    await settled()
                else:
                    look()
                heads.add(entry.head)
        for one in asked:
            if one.asked is not None:
                one.selected.asks = one.compiled.asked(one.asked)
            found.append(one.selected)
    return tuple(found)


def _look(entry: ResourceEntry, asked: Iterable[_Question], *, is_new: bool) -> None:
    """Count a resource for each source; unless ``is_new``, its records alone."""
    text = ""
    for one in asked:
        selected = one.selected
        selected.of_resources += is_new
        residual = one.compiled.decide(entry.attributes, entry.attributes)
        if residual is None:
            continue
        selected.resources += is_new
        selected.records += entry.records
        selected.sampled += entry.sampled
        selected.without_severity += entry.without_severity
        one.asked = residual if one.asked is None else one.asked.joined(residual)
        if is_new and len(selected.first) < FIRST_MAX and selected.resources <= RENDERED_MAX:
            text = text or resource_text(_shown(entry.texts))
            # Resources may differ in their schemas alone, or beyond what is shown.
            if text not in selected.first:
                selected.first += (text,)


def _shown(texts: AttributeTexts) -> AttributeTexts:
    """Return what is shown of attributes: a resource may have a MiB of them."""
    return [
        (clipped(name, SHOWN_CHARS_MAX), clipped(text, SHOWN_CHARS_MAX))
        for name, text in texts[:SHOWN_ATTRIBUTES_MAX]
    ]
