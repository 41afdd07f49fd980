"""The sources of logs and traces as plans have them, and the version of their project's."""

from __future__ import annotations

from dataclasses import dataclass

from relay.codec.otlp.redact import Redaction
from relay.pipeline.routing.match_set import SinkOutputSpec, SourceCounter
from relay.pipeline.routing.series_tally import SHARE_ALL
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


class SourcesVersion:
    """The version of a project's sources, which changes with every change of them.

    ``share_max`` is below :data:`SHARE_ALL` while only a share of records is taken
    (:func:`~relay.pipeline.records.selecting.split_by_share`).
    """

    __slots__ = ("share_max", "version")

    def __init__(self) -> None:
        self.version = 0
        self.share_max = SHARE_ALL
