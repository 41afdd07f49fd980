from relay.codec.body import Body
from relay.codec.remote_write.raw.ordered import OrderedBatch

def encode_snappy(batch: OrderedBatch, bytes_max: int) -> list[Body]: ...
