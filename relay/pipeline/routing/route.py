"""Routes of a series, and objects with versions that routes depend on."""

from __future__ import annotations

from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.groups import MetricGroup
from relay.codec.remote_write.raw.label_table import RawGroup

Route = tuple[tuple[OpenBatch, ...], MetricGroup | RawGroup, bytes]
"""Destination of a series' points.

The batches that take the same bytes, the group of the metric, and the prepared prefix.
"""


class RouteChanges:
    """Hold ``pending``: something changed since it was looked at, so series need new routes."""

    __slots__ = ("pending",)

    def __init__(self) -> None:
        self.pending = False


class VersionedDependency:
    """An object that routes depend on; ``version`` counts its changes."""

    __slots__ = ("version",)

    def __init__(self) -> None:
        self.version = 0
