"""Results and snapshots of the metrics pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.codec.otlp.batch import OpenBatch
from relay.codec.remote_write.label_intern import LabelReaderStatistics
from relay.codec.remote_write.v1 import WriteProtocol
from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.batching.watermark import PositionsStatistics
from relay.pipeline.metrics.exemplars import ExemplarBufferStatistics
from relay.pipeline.metrics.histograms.project_state import AssemblyStatistics
from relay.pipeline.metrics.metadata.metadata_wait import FirstSightStatistics
from relay.pipeline.metrics.metadata.metric_types import Typing
from relay.pipeline.metrics.metadata.project_types import Contradiction, KnownFamily
from relay.pipeline.metrics.metadata.type_store import KnownTypesStatistics
from relay.pipeline.metrics.series.series_table import SeriesTableStatistics
from relay.pipeline.metrics.temporality.delta import DeltaStatistics
from relay.pipeline.metrics.translate.target_info import TargetInfo
from relay.pipeline.metrics.translate.translator import TranslatorStatistics
from relay.pipeline.routing.series_counts import RouterStatistics
from relay.selector.inventory.info_series import InfoSeriesClaim
from relay.selector.inventory.store import InventoryStatistics
from relay.telemetry.snapshot import Drop


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """Snapshots of all parts, and counters since the start.

    ``received_samples`` counts all samples, native histograms included, by protocol in
    ``received_by_protocol``; ``dropped_samples`` those dropped by the pipeline, by reason.
    ``drops`` are samples that matched and became no point.
    """

    table: SeriesTableStatistics
    labels: LabelReaderStatistics
    router: RouterStatistics
    types: KnownTypesStatistics
    translator: TranslatorStatistics
    offsets: PositionsStatistics
    inventory: InventoryStatistics
    received_samples: int
    received_by_protocol: dict[WriteProtocol, int]
    dropped_samples: dict[str, int]
    exemplars: ExemplarBufferStatistics
    assembly: AssemblyStatistics
    deltas: DeltaStatistics
    first_sight: FirstSightStatistics
    drops: tuple[Drop, ...] = ()


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replayed request, and the points that batches did not need again.

    These were counted as matched again; the caller subtracts them.
    """

    transaction: BatchTransaction
    withheld: list[tuple[OpenBatch, int]]


@dataclass(frozen=True, slots=True)
class Exported:
    """The exported form of a series: its type and the attributes of its target.

    With the contradiction, if senders of its project declare different types.
    """

    typing: Typing
    attributes: tuple[tuple[str, str], ...] = ()
    contradicted: Contradiction | None = None


@dataclass(frozen=True, slots=True)
class Knowledge:
    """State learned from requests.

    Types of metrics by project and family, labels of objects, ``target_info``.
    """

    families: dict[str, dict[str, KnownFamily]]
    claims: list[InfoSeriesClaim]
    targets: list[TargetInfo]
    settled: list[tuple[str, str]] = field(default_factory=list)
    """Families, by project and name, whose metadata did not arrive in time."""
