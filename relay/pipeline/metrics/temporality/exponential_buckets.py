"""Differences of exponential buckets, whatever their scales and offsets.

A bucket of index i covers (base^i, base^(i+1)] with base = 2^(2^-scale) (ODM, "Exponential
Buckets"). One scale less puts two neighbours together, so index i becomes i >> 1.
"""

from __future__ import annotations

from relay.codec.otlp.data_points import Buckets


def coarsen(buckets: Buckets, levels: int) -> Buckets:
    """Return the same observations at a scale that is lower by ``levels``."""
    assert levels >= 0
    if not levels or not buckets.counts:
        return buckets
    offset = buckets.offset >> levels
    counts = [0] * (((buckets.offset + len(buckets.counts) - 1) >> levels) - offset + 1)
    for index, count in enumerate(buckets.counts, buckets.offset):
        counts[(index >> levels) - offset] += count
    return Buckets(offset, tuple(counts))


def subtract(new: Buckets, new_levels: int, old: Buckets, old_levels: int) -> Buckets | None:
    """Return ``new`` minus ``old``, each first coarsened; None if a bucket decreased.

    The result has the extent of ``new``: an old bucket outside it lost all it had.
    """
    new, old = coarsen(new, new_levels), coarsen(old, old_levels)
    counts = list(new.counts)
    for at, count in enumerate(old.counts, old.offset - new.offset):
        if not count:
            continue
        if not 0 <= at < len(counts) or counts[at] < count:
            return None
        counts[at] -= count
    return Buckets(new.offset, tuple(counts))
