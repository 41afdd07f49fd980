"""What a sink queues: one encoded, compressed request, and how to cut one into smaller ones.

Rules:

* A payload is compressed once, when it is made; only a split decompresses it again.
* Sinks that are given the same points have them encoded and compressed once for all of them, where
  their batches are packed one after the other, as those of one exporter are. What is compared is
  what the batches hold, not how the sinks are configured. Only the bytes are shared: each sink has
  payloads of its own.
* Cutting never loses or reorders a point. Pieces keep the whole's position, lane, age, attempts.
* Cutting is bounded: at most :data:`SPLIT_DEPTH_MAX` halvings between a batch and its pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from relay.codec.compression import compress, decompress_own
from relay.codec.otlp.batch import SealedBatch
from relay.codec.otlp.point_buffer import PointBuffer
from relay.codec.otlp.split import split_request
from relay.config.exporter.types import Compression

PROTOCOL_REQUEST_BYTES_MAX = 64 * 1024 * 1024
"""OTLP 1.11, "OTLP/HTTP Request": clients should stay below 64 MiB before compression."""

SPLIT_DEPTH_MAX = 14
"""16,384 pieces, more than the largest batch has points: a 413 is followed down to the single point
that is too large, and takes no neighbour with it. Only an unbatched giant is cut less finely."""

STORED = -1
"""The position of what is safely on disk: it holds none."""


@dataclass(slots=True, eq=False)
class EncodedRequest:
    """One request's body and what the queue must know of it. Compared by identity.

    ``position`` is the oldest ingest position whose points it holds, :data:`STORED` where it is a
    copy of something on disk; ``created_at`` is the wall clock of its first point's arrival, in s;
    ``encoded_bytes`` is its size before compression; ``attempts`` counts requests that failed and
    may be tried again; ``depth`` counts the halvings that its endpoint demanded.
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

    @property
    def body_bytes(self) -> int:
        """Size of the body, as it is sent."""
        return len(self.body)

    def __repr__(self) -> str:
        return (
            f"<EncodedRequest {self.points} points, {len(self.body)} bytes, lane {self.shard}, "
            f"position {self.position}, {self.attempts} attempts>"
        )


class Body(NamedTuple):
    """What a request holds, as it is sent; ``encoded_bytes`` is its size before compression."""

    data: bytes
    points: int
    encoded_bytes: int


class SharedBodyCache:
    """Makes batches into bodies, and remembers the last one: the next may be the same.

    ``made`` counts those that were encoded and compressed, ``shared`` those that were not.
    """

    __slots__ = ("_bodies", "_bytes_max", "_encoding", "_point_buffer", "made", "shared")

    def __init__(self) -> None:
        self._point_buffer: PointBuffer | None = None
        self._encoding: Compression = "none"
        self._bytes_max = 0
        self._bodies: tuple[Body, ...] = ()
        self.made = 0
        self.shared = 0

    def of(self, sealed: SealedBatch, encoding: Compression, bytes_max: int) -> tuple[Body, ...]:
        """A sealed batch encoded and compressed, cut so that no piece exceeds ``bytes_max`` where
        possible."""
        if (
            self._point_buffer is not None
            and encoding == self._encoding
            and (
                bytes_max == self._bytes_max
                or (len(self._bodies) == 1 and self._bodies[0].encoded_bytes <= bytes_max)
            )
            and self._point_buffer.equals(sealed.point_buffer)
        ):
            self.shared += 1
            return self._bodies
        pieces = _cut(_Piece(sealed.encode(), sealed.count, 0), bytes_max, depth_max=None)
        self._bodies = tuple(
            Body(compress(piece.data, encoding), piece.points, len(piece.data)) for piece in pieces
        )
        self._point_buffer, self._encoding, self._bytes_max = (
            sealed.point_buffer,
            encoding,
            bytes_max,
        )
        self.made += 1
        return self._bodies

    def forget(self) -> None:
        """Keep nothing of the last batch."""
        self._point_buffer = None
        self._bodies = ()

    def __repr__(self) -> str:
        return f"<SharedBodyCache {self.made} made, {self.shared} shared>"


def make_payloads(
    sealed: SealedBatch,
    *,
    shard: int,
    encoding: Compression,
    bytes_max: int,
    bodies: SharedBodyCache,
) -> list[EncodedRequest]:
    """A sealed batch as a sink queues it: what ``bodies`` makes of it."""
    return [
        EncodedRequest(
            body=body.data,
            encoding=encoding,
            points=body.points,
            encoded_bytes=body.encoded_bytes,
            position=sealed.oldest,
            shard=shard,
            created_at=sealed.opened_at,
        )
        for body in bodies.of(sealed, encoding, bytes_max)
    ]


def split_in_two(payload: EncodedRequest) -> list[EncodedRequest]:
    """Cut a payload in two, in order; [] where it has one point or is cut often enough."""
    halves = _halves(_Piece(_data(payload), payload.points, payload.depth), SPLIT_DEPTH_MAX)
    return [_piece_of(payload, piece) for piece in halves]


def split_below(payload: EncodedRequest, bytes_max: int) -> list[EncodedRequest]:
    """Cut until no piece exceeds ``bytes_max`` encoded bytes or can be cut; keeps order.

    A single point above the bound stays: only the endpoint can tell whether it minds.
    """
    whole = _Piece(_data(payload), payload.points, payload.depth)
    pieces = _cut(whole, bytes_max, depth_max=SPLIT_DEPTH_MAX)
    return [_piece_of(payload, piece) for piece in pieces]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Part of a batch, encoded and not compressed."""

    data: bytes
    points: int
    depth: int


def _cut(whole: _Piece, bytes_max: int, *, depth_max: int | None) -> list[_Piece]:
    done: list[_Piece] = []
    left = [whole]
    while left:
        piece = left.pop()
        halves = _halves(piece, depth_max) if len(piece.data) > bytes_max else []
        if halves:
            left += reversed(halves)
        else:
            done.append(piece)
    return done


def _halves(piece: _Piece, depth_max: int | None) -> list[_Piece]:
    if piece.points < 2 or (depth_max is not None and piece.depth >= depth_max):
        return []
    halves = split_request(piece.data)
    assert halves is not None, "only a single point cannot be split"
    assert sum(points for _, points in halves) == piece.points
    return [_Piece(data, points, piece.depth + 1) for data, points in halves]


def _data(payload: EncodedRequest) -> bytes:
    return decompress_own(payload.body, payload.encoding)


def _piece_of(whole: EncodedRequest, piece: _Piece) -> EncodedRequest:
    return EncodedRequest(
        body=compress(piece.data, whole.encoding),
        encoding=whole.encoding,
        points=piece.points,
        encoded_bytes=len(piece.data),
        position=whole.position,
        shard=whole.shard,
        created_at=whole.created_at,
        attempts=whole.attempts,
        depth=piece.depth,
    )
