"""What a sink queues: one encoded, compressed request, and how to cut one into smaller ones.

Rules:

* A payload is compressed once, when it is made; only a split decompresses it again.
* Cutting never loses or reorders a point. Pieces keep the whole's position, lane, age, attempts.
* Cutting is bounded: at most :data:`SPLIT_DEPTH_MAX` halvings between a batch and its pieces.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.exporter.model import Compression
from relay.wire.batch import SealedBatch
from relay.wire.compression import compress, decompress_own
from relay.wire.otlp_split import split_request

PROTOCOL_REQUEST_BYTES_MAX = 64 * 1024 * 1024
"""OTLP 1.11, "OTLP/HTTP Request": clients should stay below 64 MiB before compression."""

SPLIT_DEPTH_MAX = 14
"""16,384 pieces, more than the largest batch has points: a 413 is followed down to the single point
that is too large, and takes no neighbour with it. Only an unbatched giant is cut less finely."""

STORED = -1
"""The position of what is safely on disk: it holds none."""


@dataclass(slots=True, eq=False)
class Payload:
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
    lane: int
    created_at: float
    attempts: int = 0
    depth: int = 0

    @property
    def body_bytes(self) -> int:
        """Size of the body, as it is sent."""
        return len(self.body)

    def __repr__(self) -> str:
        return (
            f"<Payload {self.points} points, {len(self.body)} bytes, lane {self.lane}, "
            f"position {self.position}, {self.attempts} attempts>"
        )


def make_payloads(
    sealed: SealedBatch, *, lane: int, encoding: Compression, bytes_max: int
) -> list[Payload]:
    """Encode and compress a sealed batch, cut so that no piece exceeds ``bytes_max`` where
    possible."""
    data = sealed.encode()
    return [
        Payload(
            body=compress(piece.data, encoding),
            encoding=encoding,
            points=piece.points,
            encoded_bytes=len(piece.data),
            position=sealed.oldest,
            lane=lane,
            created_at=sealed.opened_at,
        )
        for piece in _cut(_Piece(data, sealed.count, 0), bytes_max, depth_max=None)
    ]


def halve(payload: Payload) -> list[Payload]:
    """Cut a payload in two, in order; [] where it has one point or is cut often enough."""
    halves = _halves(_Piece(_data(payload), payload.points, payload.depth), SPLIT_DEPTH_MAX)
    return [_piece_of(payload, piece) for piece in halves]


def cut_below(payload: Payload, bytes_max: int) -> list[Payload]:
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


def _data(payload: Payload) -> bytes:
    return decompress_own(payload.body, payload.encoding)


def _piece_of(whole: Payload, piece: _Piece) -> Payload:
    return Payload(
        body=compress(piece.data, whole.encoding),
        encoding=whole.encoding,
        points=piece.points,
        encoded_bytes=len(piece.data),
        position=whole.position,
        lane=whole.lane,
        created_at=whole.created_at,
        attempts=whole.attempts,
        depth=piece.depth,
    )
