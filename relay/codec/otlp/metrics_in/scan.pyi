from collections.abc import Callable
from typing import TypeAlias

from relay.codec.otlp.envelope import RequestEnvelope

Metric: TypeAlias = tuple[bytes, bytes, int, bytes, int, int]
"""A metric: the key of its streams, its head, the number of its data, what else that has, its first
point and the one behind its last."""

class MetricsEnvelope(RequestEnvelope):
    @property
    def resources(self) -> list[tuple[bytes, list[tuple[bytes, list[Metric]]]]]: ...
    def point(self, number: int) -> bytes: ...
    def attributes(self, number: int) -> bytes: ...

def scan_metrics(
    body: bytes, *, entries_max: int = ..., pause: Callable[[], None] = ...
) -> MetricsEnvelope: ...
