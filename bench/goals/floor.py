"""The floor of a sample: what any forwarder must do to the same bytes, and nothing else.

Each body of a data set is decompressed and copied once, and what 10,000 samples take is compressed
with gzip, all with the relay's own libraries and, where the caller has configured it, with its
malloc, which keeps memory: fresh pages for each batch are twice the cost of large series. CPU time
of this process.
"""

from __future__ import annotations

import time

from bench.dataset import Dataset
from relay.codec.compression import compress, decompress

BATCH_SAMPLES = 10_000
_BODY_BYTES_MAX = 64 << 20


def floor_s(dataset: Dataset, seconds: float) -> float:
    """Return the CPU seconds of a sample, as the mean over at least so many seconds."""
    stored = dataset.bodies.read_bytes()
    packed = [stored[one.offset : one.offset + one.size] for one in dataset.requests]
    samples = 0
    start = time.process_time()
    while True:
        batch = bytearray()
        held = 0
        for request, body in zip(dataset.requests, packed, strict=True):
            batch += decompress(body, "snappy", bytes_max=_BODY_BYTES_MAX)
            held += request.samples
            if held >= BATCH_SAMPLES:
                compress(batch, "gzip")  # type: ignore[arg-type]  # any buffer will do
                samples += held
                batch, held = bytearray(), 0
                if time.process_time() - start > seconds:
                    return (time.process_time() - start) / samples
        assert samples, "the data set has less than one batch"
