from relay.codec.otlp.envelope import Envelope
from relay.codec.otlp.record_buffer import RecordGroup
from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.routing.match_set import SinkOutputSpec

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
