"""The sources of logs and traces as plans have them."""

from __future__ import annotations

from dataclasses import dataclass

from relay.codec.otlp.redact import Redaction
from relay.pipeline.routing.match_set import SinkOutputSpec, SourceCounter
from relay.selector.records.compile import CompiledRecords, Residual
from relay.selector.records.selection import RecordSelection


@dataclass(slots=True, eq=False)
class RecordRoute:
    """One source of one exporter, and the outputs that it feeds."""

    counter: SourceCounter
    selection: RecordSelection
    compiled: CompiledRecords
    targets: tuple[SinkOutputSpec, ...]
    uses_inventory: bool
    redaction: Redaction | None = None


@dataclass(frozen=True, slots=True)
class Take:
    """A source that takes records of a resource and scope; ``residual`` None: all of them."""

    source: RecordRoute
    residual: Residual | None
