"""Turns a sealed batch into requests, and cuts a request into smaller ones. Pure.

Rules:

* A body is compressed once, when it is made; only a split decompresses it again.
* Sinks that are given the same points, one after the other as those of one exporter are, share one
  encoded body. Equality is that of the batches' contents, kind, compression and size limit. Only
  the bytes are shared: each sink has requests of its own.
* Cutting never loses or reorders a point. Pieces keep the whole's position, shard, age, attempts.
* Cutting is bounded: at most :data:`SPLIT_DEPTH_MAX` halvings between a batch and its pieces.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.codec.body import Body
from relay.codec.otlp.batch import SealedBatch
from relay.config.exporter.types import Compression
from relay.sink.interface import Encoder
from relay.sink.queue.payload import EncodedRequest

SPLIT_DEPTH_MAX = 14
"""16,384 pieces, more than the largest batch has points: a 413 is followed down to the single point
that is too large, and takes no neighbour with it. Only an unbatched giant is cut less finely."""


class BatchBodies:
    """The bodies of a batch, encoded, and compressed or not yet.

    A thread may :meth:`compress` while the event loop takes them: both make the same bytes.
    ``plain_bytes``: their size before compression. ``lone_exemplars``: see :class:`Body`.
    """

    __slots__ = (
        "_bodies",
        "_compression",
        "_encoder",
        "_error",
        "_plain",
        "lone_exemplars",
        "pieces",
        "plain_bytes",
    )

    def __init__(
        self, sealed: SealedBatch, encoder: Encoder, compression: Compression, bytes_max: int
    ) -> None:
        """Encode a batch, cut where possible; compress it only where that is the same step."""
        self._encoder = encoder
        self._compression: Compression = compression
        self._error: Exception | None = None
        self._bodies: tuple[Body, ...] = ()
        self._plain = encoder.encode_plain(sealed, compression, bytes_max)
        if self._plain is None:
            self._bodies = encoder.encode_bodies(sealed, compression, bytes_max)
        bodies = self._plain or self._bodies
        self.pieces = len(bodies)
        self.plain_bytes = self.lone_exemplars = 0
        for body in bodies:
            self.plain_bytes += body.encoded_bytes
            self.lone_exemplars += body.lone_exemplars

    @property
    def is_ready(self) -> bool:
        """True once nothing is left to be compressed."""
        return self._plain is None

    def compress(self) -> None:
        """Compress them if they are not yet; :meth:`take` raises what goes wrong."""
        plain = self._plain
        if plain is None:
            return
        try:
            bodies = []
            for data, points, encoded_bytes, lone_exemplars in plain:
                packed = self._encoder.compress(data, self._compression)
                bodies.append(Body(packed, points, encoded_bytes, lone_exemplars))
            self._bodies = tuple(bodies)
        except Exception as error:
            self._error = error
        # Last: another thread takes the bodies once it sees this.
        self._plain = None

    def take(self) -> tuple[Body, ...]:
        """Return the bodies, compressed now if they are not yet."""
        if self._plain is not None:
            self.compress()
        if self._error is not None:
            raise self._error
        return self._bodies


class SharedBodyCache:
    """Encodes batches, and keeps the last one's bodies for the next sink that has the same points.

    ``made`` counts batches that were encoded and compressed, ``shared`` those that were not;
    ``lone_exemplars`` the exemplars of both that are in no body.
    """

    __slots__ = (
        "_batch",
        "_bodies",
        "_bytes_max",
        "_compression",
        "_kind",
        "lone_exemplars",
        "made",
        "shared",
    )

    def __init__(self) -> None:
        self._batch: SealedBatch | None = None
        self._kind = ""
        self._compression: Compression = "none"
        self._bytes_max = 0
        self._bodies: BatchBodies | None = None
        self.lone_exemplars = 0
        self.made = 0
        self.shared = 0

    def bodies_of(
        self, sealed: SealedBatch, encoder: Encoder, compression: Compression, bytes_max: int
    ) -> tuple[Body, ...]:
        """Encode and compress a batch, cut where possible.

        No piece exceeds ``bytes_max`` before compression unless it is a single point.
        """
        return self.encoded(sealed, encoder, compression, bytes_max).take()

    def encoded(
        self, sealed: SealedBatch, encoder: Encoder, compression: Compression, bytes_max: int
    ) -> BatchBodies:
        """Encode a batch as :meth:`bodies_of` does, and leave its bodies to be compressed."""
        bodies = self._bodies
        if (
            self._batch is not None
            and bodies is not None
            and encoder.kind == self._kind
            and compression == self._compression
            and (
                bytes_max == self._bytes_max
                or (bodies.pieces == 1 and bodies.plain_bytes <= bytes_max)
            )
            and self._batch.point_buffer.equals(sealed.point_buffer)
        ):
            self.shared += 1
        else:
            # Before the next are made: both would take memory.
            self._batch = self._bodies = bodies = None
            bodies = self._bodies = BatchBodies(sealed, encoder, compression, bytes_max)
            self._batch, self._bytes_max = sealed, bytes_max
            self._kind, self._compression = encoder.kind, compression
            self.made += 1
        self.lone_exemplars += bodies.lone_exemplars
        return bodies

    def forget(self) -> None:
        """Drop the last batch and its bodies."""
        self._batch = None
        self._bodies = None

    def __repr__(self) -> str:
        return f"<SharedBodyCache {self.made} made, {self.shared} shared>"


def encode_batch(
    sealed: SealedBatch,
    encoder: Encoder,
    *,
    shard: int,
    compression: Compression,
    bytes_max: int,
    bodies: SharedBodyCache,
) -> list[EncodedRequest]:
    """Return a sealed batch as the requests that a sink queues."""
    made = bodies.bodies_of(sealed, encoder, compression, bytes_max)
    return requests_of(sealed, made, encoder.kind, shard, compression)


def requests_of(
    sealed: SealedBatch,
    bodies: tuple[Body, ...],
    kind: str,
    shard: int,
    compression: Compression,
) -> list[EncodedRequest]:
    """Return the requests of a batch's bodies, which an encoder of that kind made."""
    return [
        EncodedRequest(
            data,
            compression,
            points,
            encoded_bytes,
            sealed.oldest,
            shard,
            sealed.opened_at,
            kind=kind,
        )
        for data, points, encoded_bytes, _ in bodies
    ]


def encode_and_cut(
    sealed: SealedBatch, encoder: Encoder, compression: Compression, bytes_max: int
) -> tuple[Body, ...]:
    """Implement :meth:`Encoder.encode_bodies` by the encoder's other methods."""
    return tuple(
        body._replace(data=encoder.compress(body.data, compression))
        for body in cut_plain(sealed, encoder, bytes_max)
    )


def cut_plain(sealed: SealedBatch, encoder: Encoder, bytes_max: int) -> tuple[Body, ...]:
    """Implement :meth:`Encoder.encode_plain` by the encoder's other methods."""
    data = encoder.encode(sealed)
    if len(data) <= bytes_max:
        return (Body(data, sealed.count, len(data)),)
    whole = _Piece(data, sealed.count, 0)
    return tuple(
        Body(piece.data, piece.points, len(piece.data))
        for piece in _cut(whole, encoder, bytes_max, depth_max=None)
    )


def split_in_two(request: EncodedRequest, encoder: Encoder) -> list[EncodedRequest]:
    """Cut a request in two, in order; [] where it has one point or was cut often enough."""
    halves = _halves(_decoded(request, encoder), encoder, SPLIT_DEPTH_MAX)
    return [_request_of(request, piece, encoder) for piece in halves]


def split_in_rounds(
    request: EncodedRequest, encoder: Encoder, rounds_max: int
) -> list[EncodedRequest]:
    """Cut a request so that no series has two points in a piece; see :meth:`Encoder.rounds`."""
    whole = _decoded(request, encoder)
    rounds = encoder.rounds(whole.data, rounds_max)
    if not rounds:
        return []
    assert sum(points for _, points in rounds) == whole.points
    if len(rounds) == 1:
        return [request]
    pieces = [_Piece(data, points, whole.depth) for data, points in rounds]
    return [_request_of(request, piece, encoder) for piece in pieces]


def split_below(request: EncodedRequest, encoder: Encoder, bytes_max: int) -> list[EncodedRequest]:
    """Cut until no piece exceeds ``bytes_max`` before compression or can be cut; keep the order.

    A single point above the bound stays: only the endpoint can tell whether it takes it.
    """
    pieces = _cut(_decoded(request, encoder), encoder, bytes_max, depth_max=SPLIT_DEPTH_MAX)
    return [_request_of(request, piece, encoder) for piece in pieces]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Part of a batch, encoded and not compressed."""

    data: bytes
    points: int
    depth: int


def _cut(whole: _Piece, encoder: Encoder, bytes_max: int, *, depth_max: int | None) -> list[_Piece]:
    done: list[_Piece] = []
    left = [whole]
    while left:
        piece = left.pop()
        halves = _halves(piece, encoder, depth_max) if len(piece.data) > bytes_max else []
        if halves:
            left += reversed(halves)
        else:
            done.append(piece)
    return done


def _halves(piece: _Piece, encoder: Encoder, depth_max: int | None) -> list[_Piece]:
    if piece.points < 2 or (depth_max is not None and piece.depth >= depth_max):
        return []
    halves = encoder.split(piece.data)
    assert halves is not None, "only a single point cannot be split"
    assert sum(points for _, points in halves) == piece.points
    return [_Piece(data, points, piece.depth + 1) for data, points in halves]


def _decoded(request: EncodedRequest, encoder: Encoder) -> _Piece:
    assert request.kind == encoder.kind
    data = encoder.decompress(request.body, request.encoding)
    return _Piece(data, request.points, request.depth)


def _request_of(whole: EncodedRequest, piece: _Piece, encoder: Encoder) -> EncodedRequest:
    return EncodedRequest(
        body=encoder.compress(piece.data, whole.encoding),
        encoding=whole.encoding,
        points=piece.points,
        encoded_bytes=len(piece.data),
        position=whole.position,
        shard=whole.shard,
        created_at=whole.created_at,
        attempts=whole.attempts,
        depth=piece.depth,
        kind=whole.kind,
        was_sent=whole.was_sent,
    )
