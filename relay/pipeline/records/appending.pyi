from relay.codec.otlp.envelope import Envelope
from relay.codec.otlp.record_buffer import RecordGroup
from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.records.entries import RecordPlan, ResourceEntry
from relay.pipeline.records.resource_table import ResourceTable
from relay.pipeline.records.unknown_heads import UnknownHeads
from relay.pipeline.routing.match_set import SinkOutputSpec
from relay.pipeline.routing.tenancy import IngestPath
from relay.selector.inventory.store import Inventory

def append_envelope(
    unknown: UnknownHeads,
    envelope: Envelope,
    transaction: BatchTransaction,
    origin: IngestPath,
    table: ResourceTable,
    inventory: Inventory,
    has_severities: bool,
    counts: list[tuple[RecordPlan, int]],
    seen: list[tuple[ResourceEntry, int]],
) -> int: ...
def append_records(
    transaction: BatchTransaction,
    target: SinkOutputSpec,
    group: RecordGroup,
    envelope: Envelope,
    first: int,
    stop: int,
) -> None: ...
def append_rewritten(
    transaction: BatchTransaction,
    target: SinkOutputSpec,
    group: RecordGroup,
    record: bytes,
) -> None: ...
