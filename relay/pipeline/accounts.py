"""What the engine says of itself, of a request and of what it knows."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.inventory.info_series import Claim
from relay.inventory.store import InventoryStatistics
from relay.pipeline.assembly import AssemblyStatistics
from relay.pipeline.delta import DeltaStatistics
from relay.pipeline.drops import Drop
from relay.pipeline.exemplars import ExemplarShelfStatistics
from relay.pipeline.first_sight import FirstSightStatistics
from relay.pipeline.intake import Intake, Taken
from relay.pipeline.known_types import KnownTypesStatistics
from relay.pipeline.metric_types import Typing
from relay.pipeline.positions import PositionsStatistics
from relay.pipeline.project_types import Contradiction, KnownFamily
from relay.pipeline.resources import TargetInfo
from relay.pipeline.router import RouterStatistics
from relay.pipeline.table import SeriesTableStatistics
from relay.pipeline.translate import TranslatorStatistics
from relay.wire.batch import OpenBatch
from relay.wire.label_fields import LabelReaderStatistics
from relay.wire.remote_write import WriteProtocol


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """Snapshots of all parts, and counters since the start.

    ``received_samples`` counts everything that came, native histograms included, by protocol in
    ``received_by_protocol``; ``dropped_samples`` what went no further than the pipeline, by reason.
    ``drops`` are samples that matched and became no point.
    """

    table: SeriesTableStatistics
    labels: LabelReaderStatistics
    router: RouterStatistics
    types: KnownTypesStatistics
    translator: TranslatorStatistics
    positions: PositionsStatistics
    inventory: InventoryStatistics
    received_samples: int
    received_by_protocol: dict[WriteProtocol, int]
    dropped_samples: dict[str, int]
    exemplars: ExemplarShelfStatistics
    assembly: AssemblyStatistics
    deltas: DeltaStatistics
    first_sight: FirstSightStatistics
    drops: tuple[Drop, ...] = ()


@dataclass(frozen=True, slots=True)
class Replayed:
    """A request that was processed once more, and how many of its points which batches did not
    want: matched again, to be taken from the account."""

    intake: Intake
    withheld: list[tuple[OpenBatch, int]]


@dataclass(frozen=True, slots=True)
class Probed:
    """What a request holds; see :class:`relay.pipeline.intake.Intake`."""

    taken: Taken
    dropped: dict[str, int]
    examples: list[str]
    wanted: bool


@dataclass(frozen=True, slots=True)
class Exported:
    """What a series is exported as: its type, what its target says of itself, and, where senders of
    its project say different types of its family, which."""

    typing: Typing
    attributes: tuple[tuple[str, str], ...] = ()
    contradicted: Contradiction | None = None


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What requests have taught: types of metrics by project and family, labels of objects, and
    what targets said of themselves."""

    families: dict[str, dict[str, KnownFamily]]
    claims: list[Claim]
    targets: list[TargetInfo]
    settled: list[tuple[str, str]] = field(default_factory=list)
    """Families, by project and root of their names, of which nothing was said in time."""
