"""A queued request: encoded and compressed. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from relay.config.exporter.types import Compression
from relay.sink.retry.bisection import Bisection
from relay.sink.retry.verdict import Rejected

STORED = -1
"""The position of a request that is safely on disk: it holds none."""


class EncodedRequest:
    """One request's body and its bookkeeping. Compared by identity.

    ``position`` is the oldest ingest position whose points it holds, :data:`STORED` if it is a copy
    of a record on disk; ``created_at`` is the wall clock of its first point's arrival, in s;
    ``encoded_bytes`` is its size before compression; ``attempts`` counts failed requests that may
    be sent again; ``depth`` counts the halvings that the endpoint demanded; ``kind`` is the name of
    the sink kind whose encoder made the body, ``encoding`` the body's compression; ``bisection`` is
    the search for bad points that it is a piece of, ``part`` its place in a search for the last.
    ``was_sent``: an attempt was made, whatever came of it; unknown after a restart.
    """

    __slots__ = (
        "attempts",
        "bisection",
        "body",
        "created_at",
        "depth",
        "encoded_bytes",
        "encoding",
        "kind",
        "part",
        "points",
        "position",
        "shard",
        "was_sent",
    )

    def __init__(  # noqa: PLR0913 - a value: every field is named once, here
        self,
        body: bytes,
        encoding: Compression,
        points: int,
        encoded_bytes: int,
        position: int,
        shard: int,
        created_at: float,
        *,
        attempts: int = 0,
        depth: int = 0,
        kind: str = "otlp",
        was_sent: bool = False,
    ) -> None:
        self.body = body
        self.encoding: Compression = encoding
        self.points = points
        self.encoded_bytes = encoded_bytes
        self.position = position
        self.shard = shard
        self.created_at = created_at
        self.attempts = attempts
        self.depth = depth
        self.kind = kind
        self.bisection: Bisection | None = None
        self.part: RoundPart | None = None
        self.was_sent = was_sent

    @property
    def body_bytes(self) -> int:
        """Size of the body, as it is sent."""
        return len(self.body)

    def __repr__(self) -> str:
        return (
            f"<EncodedRequest {self.points} points, {len(self.body)} bytes, shard {self.shard}, "
            f"position {self.position}, {self.attempts} attempts>"
        )


@dataclass(slots=True, eq=False)
class RoundPart:
    """The place of a request in the search for the last refused point of a round.

    ``earlier``: the half before it, which waits behind it. ``is_suspect``: most likely a point of
    it is refused. ``verdict``: set once all of it is known to be refused.
    """

    earlier: EncodedRequest | None = None
    is_suspect: bool = False
    verdict: Rejected | None = None
