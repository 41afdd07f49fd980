"""Where a series' points go, and what that rests on."""

from __future__ import annotations

from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.metrics import MetricGroup

Route = tuple[tuple[OpenBatch, ...], MetricGroup, bytes]
"""Where a series' points go: the batches that take the same bytes, the metric that they belong to,
and their prepared prefix."""


class VersionedDependency:
    """Something that series rest on and that may change; ``version`` counts how often it did."""

    __slots__ = ("version",)

    def __init__(self) -> None:
        self.version = 0
