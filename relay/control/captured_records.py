"""Explain which records of a captured OTLP request an exporter takes, and why not the others.

Records are selected by what selects them in a pipeline (:mod:`relay.pipeline.records.selecting`).
The reason is the first condition that alone would leave a record out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from relay.codec.otlp.any_value import (
    AttributeTexts,
    resource_attributes,
    scope_attributes,
    value_text,
)
from relay.codec.otlp.envelope import Envelope, scan
from relay.codec.signal_names import RECORD_UNITS, RecordSignal
from relay.config.exporter.records.outputs import sources_of
from relay.config.exporter.types import Exporter
from relay.control.explain_records import (
    OTHERS_MAX,
    RecordRules,
    compiled_sources,
    resource_text,
    to_sinks,
)
from relay.pipeline.pacing import UNPACED
from relay.pipeline.records.pipeline import FIELDS
from relay.pipeline.records.selecting import RecordFields, select
from relay.pipeline.routing.tenancy import IngestPath
from relay.runtime.excerpt import clipped
from relay.selector.quoting import quote_string
from relay.selector.records.compile import NOTHING, Attributes, CompiledRecords, Residual
from relay.selector.records.selection import severity_name

SHOWN_MAX: Final = 5
"""Records of a scope that are shown, of those that a source does not take."""
_TEXT_CHARS_MAX: Final = 120
_ANSWER_CHARS_MAX: Final = 1024 * 1024
"""Longest answer about records to a project."""


@dataclass(slots=True)
class _Counts:
    """Records of the request that are the exporter's project's, others, and those taken."""

    own: int = 0
    others: int = 0
    taken: int = 0


def captured_records(
    body: bytes,
    exporter: Exporter,
    signal: RecordSignal,
    rules: RecordRules,
    *,
    origin: IngestPath,
    takers: set[str] | None = None,
    pause: Callable[[], None] = UNPACED.pause,
) -> Iterator[str]:
    """Yield lines: what each source takes of each resource and scope, and what it does not.

    The names of sources that take a record are added to ``takers``. Raise DecodeError.
    """
    envelope = scan(body, entries_max=len(body))
    sources = list(compiled_sources(exporter, signal, rules))
    if not sources:
        yield f"{exporter.id} has no source of {signal}"
        return
    unit, counts = RECORD_UNITS[signal], _Counts()
    for head, scopes in envelope.resources:
        texts = resource_attributes(head)
        is_own = rules.tenants.project_of(texts, origin) == exporter.project
        for scope, first, stop in scopes:
            if not is_own:
                counts.others += stop - first
                continue
            counts.own += stop - first
            of_scope = scope_attributes(scope)
            yield f"{resource_text([*texts, *of_scope])}: {stop - first} {unit}"
            taken: set[int] = set()
            for source, compiled in sources:
                part = _Part(envelope, first, stop, FIELDS[signal], compiled, pause)
                to = to_sinks(exporter, source)
                yield from _source_lines(source.name, part, texts, of_scope, taken, to)
                if takers is not None and part.takes:
                    takers.add(source.name)
            counts.taken += len(taken)
    others = f"; {counts.others} more are not of its project" if counts.others else ""
    yield f"{exporter.id} takes {counts.taken} of {counts.own} {unit}{others}"


def explained_records(
    body: bytes,
    exporters: Iterable[Exporter],
    signal: RecordSignal,
    rules: RecordRules,
    *,
    origin: IngestPath,
    every: bool,
    pause: Callable[[], None],
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return exporter and source of those that take one of a few records, and the lines of all.

    Exporters that take none are listed as long as they are few, or with ``every``. Raise
    DecodeError.
    """
    found: list[tuple[str, str]] = []
    lines: list[str] = []
    left = chars = 0
    for exporter in exporters:
        pause()
        takers: set[str] = set()
        told = list(
            captured_records(
                body, exporter, signal, rules, origin=origin, takers=takers, pause=pause
            )
        )
        found += [
            (exporter.id, one.name) for one in sources_of(exporter, signal) if one.name in takers
        ]
        left += not takers
        if not takers and not every and left > OTHERS_MAX:
            continue
        chars += sum(map(len, told))
        if chars > _ANSWER_CHARS_MAX:
            lines.append("… and more: ask for one exporter")
            break
        *rest, summary = told
        lines += [f"{summary}:" if rest else summary, *(f"  {line}" for line in rest)]
    if left > OTHERS_MAX and not every:
        lines.append(f"{left - OTHERS_MAX} more exporters take none of them")
    return found, lines or ["there is no exporter: what is received is not exported"]


@dataclass(slots=True)
class _Part:
    """The records of one scope, and a source that is asked for them.

    ``takes``: it takes one, as far as was asked.
    """

    envelope: Envelope
    first: int
    stop: int
    fields: RecordFields
    compiled: CompiledRecords
    pause: Callable[[], None]
    takes: bool = False

    def taken(self, residual: Residual) -> list[int]:
        """Return the numbers of the records that meet a residual."""
        rows = select(residual, self.envelope, [(self.first, self.stop)], self.fields, self.pause)
        self.takes = bool(rows)
        return [number for first, stop in rows for number in range(first, stop)]

    def meets(self, residual: Residual, number: int) -> bool:
        """Return whether one record meets a residual."""
        return bool(
            select(residual, self.envelope, [(number, number + 1)], self.fields, self.pause)
        )


def _source_lines(
    name: str,
    part: _Part,
    texts: AttributeTexts,
    of_scope: AttributeTexts,
    taken: set[int],
    to: str,
) -> Iterator[str]:
    """Yield the lines of one source; add the numbers of the records that it takes.

    ``to`` is said behind those that are taken.
    """
    resource = Attributes(texts)
    both = Attributes(of_scope, before=resource)
    residual = part.compiled.decide(resource, both)
    if residual is None:
        yield f"  {name}: no: {part.compiled.explain(resource, both)[1]}"
        return
    own = part.taken(residual)
    taken.update(own)
    count = part.stop - part.first
    many = "all" if len(own) == count else len(own) or "none"
    said = f",{to}" if to.startswith(" to") else to
    yield f"  {name}: takes {many} of them{said if own else ''}"
    left = sorted(set(range(part.first, part.stop)) - set(own))
    for number in left[:SHOWN_MAX]:
        yield f"    not {_shown(part, number)}: {_reason(part, residual, number)}"
    if len(left) > SHOWN_MAX:
        yield f"    nor {len(left) - SHOWN_MAX} more"


def _reason(part: _Part, residual: Residual, number: int) -> str:
    """Return why a record does not meet a residual: the first condition that it fails."""
    if residual.severity_min and not part.meets(
        replace(NOTHING, severity_min=residual.severity_min), number
    ):
        least = severity_name(residual.severity_min)
        severity = _log_record(part, number).severity_number
        if not severity:
            return f"it has no severity number, and {least} or more is asked"
        return f"its severity {severity_name(severity)} is less than {least}"
    if residual.threshold and not part.meets(
        replace(NOTHING, threshold=residual.threshold), number
    ):
        return (
            f"its trace is not among the {100 * part.compiled.selection.ratio:.4g} % that are kept"
        )
    if residual.category is not None and not part.meets(
        replace(NOTHING, category=residual.category), number
    ):
        return f"its category is not {' or '.join(part.compiled.selection.categories)}"
    if residual.groups and not part.meets(replace(NOTHING, groups=residual.groups), number):
        return f"its attributes do not meet {part.compiled.asked_of_attributes(residual)}"
    for test, one in zip(residual.lines, part.compiled.selection.selector.lines, strict=True):
        if not part.meets(replace(NOTHING, lines=(test,)), number):
            return f"its line does not meet {one}"
    return "it cannot be read"


def _shown(part: _Part, number: int) -> str:
    """Return a record as text: its body, or its name and trace."""
    if part.fields.trace:
        span = Span.FromString(part.envelope.record(number))
        return f"{_quoted(span.name)} of trace {span.trace_id.hex()}"
    return _quoted(value_text(_log_record(part, number).body))


def _log_record(part: _Part, number: int) -> LogRecord:
    return LogRecord.FromString(part.envelope.record(number))


def _quoted(text: str) -> str:
    return quote_string(clipped(text, _TEXT_CHARS_MAX))
