"""Decompressed bodies of a data set, for measurements without a network."""

from __future__ import annotations

import cramjam

from bench.dataset import Dataset

START_MS = 1_790_000_000_000


def bodies_of(dataset: Dataset) -> list[list[bytes]]:
    """Return the decompressed bodies of each round."""
    stored = dataset.bodies.read_bytes()
    bodies = [
        bytes(cramjam.snappy.decompress_raw(stored[one.offset : one.offset + one.size]))
        for one in dataset.requests
    ]
    step = dataset.requests_per_round
    return [bodies[at : at + step] for at in range(0, len(bodies), step)]
