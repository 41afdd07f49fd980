"""A queued request: encoded and compressed. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from relay.config.exporter.types import Compression
from relay.sink.retry.bisection import Bisection

STORED = -1
"""The position of a request that is safely on disk: it holds none."""


@dataclass(slots=True, eq=False)
class EncodedRequest:
    """One request's body and its bookkeeping. Compared by identity.

    ``position`` is the oldest ingest position whose points it holds, :data:`STORED` if it is a copy
    of a record on disk; ``created_at`` is the wall clock of its first point's arrival, in s;
    ``encoded_bytes`` is its size before compression; ``attempts`` counts failed requests that may
    be sent again; ``depth`` counts the halvings that the endpoint demanded; ``kind`` is the name of
    the sink kind whose encoder made the body, ``encoding`` the body's compression; ``bisection`` is
    the search for bad points that it is a piece of.
    """

    body: bytes
    encoding: Compression
    points: int
    encoded_bytes: int
    position: int
    shard: int
    created_at: float
    attempts: int = 0
    depth: int = 0
    kind: str = "otlp"
    bisection: Bisection | None = None

    @property
    def body_bytes(self) -> int:
        """Size of the body, as it is sent."""
        return len(self.body)

    def __repr__(self) -> str:
        return (
            f"<EncodedRequest {self.points} points, {len(self.body)} bytes, shard {self.shard}, "
            f"position {self.position}, {self.attempts} attempts>"
        )
