from relay.codec.otlp.envelope import Envelope
from relay.codec.otlp.record_buffer import RecordGroup
from relay.codec.remote_write.v1 import Pause
from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.records.entries import ResourceEntry
from relay.pipeline.records.results import RequestCounts
from relay.pipeline.records.unknown_heads import HeadReader
from relay.pipeline.routing.match_set import SinkOutputSpec
from relay.pipeline.routing.tenancy import IngestPath
from relay.selector.inventory.store import Inventory

def append_envelope(
    reader: HeadReader,
    envelope: Envelope,
    transaction: BatchTransaction,
    origin: IngestPath,
    inventory: Inventory,
    has_severities: bool,
    counts: RequestCounts,
) -> None: ...
def count_resources(envelope: Envelope, resources: list[ResourceEntry], pause: Pause) -> None: ...
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
