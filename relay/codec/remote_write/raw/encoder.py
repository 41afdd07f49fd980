"""The encoders of remote write 1.0 and 2.0 out: batches to bodies. Pure.

Rules:

* Points of a series leave in the order of their times; those of one time, in order of arrival.
* Series keep the order of their arrival otherwise. A body over the limit is cut before a point.
* A rider goes with the point before it; metadata goes first.
* Both implement :class:`relay.sink.interface.Encoder`, one class for each version.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from relay.codec.body import Body
from relay.codec.compression import OwnEncoding, compress, decompress_own
from relay.codec.otlp.batch import SealedBatch
from relay.codec.remote_write.encode import request_headers
from relay.codec.remote_write.raw import v1_plain, v1_snappy, v2_encoder
from relay.codec.remote_write.raw.buffer import RawPointBuffer
from relay.codec.remote_write.raw.ordered import OrderedBatch
from relay.codec.remote_write.rounds import cut_in_rounds
from relay.codec.remote_write.split import split_in_two
from relay.codec.remote_write.v1 import WriteProtocol

_UNBOUNDED = 1 << 62


class _Encoder(ABC):
    """Common to both versions."""

    protocol: WriteProtocol

    @property
    def content_type(self) -> str:
        """Return the Content-Type of a body."""
        return request_headers(self.protocol)["Content-Type"]

    def encode(self, sealed: SealedBatch) -> bytes:
        """Encode a whole batch, uncompressed."""
        (body,) = self.encode_bodies(sealed, "none", _UNBOUNDED)
        return body.data

    def encode_bodies(
        self, sealed: SealedBatch, compression: OwnEncoding, bytes_max: int
    ) -> tuple[Body, ...]:
        """Encode and compress a batch; no body exceeds ``bytes_max`` unless with one point."""
        return tuple(
            body._replace(data=compress(body.data, compression))
            for body in self._encode_plain(_batch_of(sealed), bytes_max)
        )

    def encode_plain(
        self, sealed: SealedBatch, _compression: OwnEncoding, bytes_max: int
    ) -> tuple[Body, ...] | None:
        """Encode a batch uncompressed; no body exceeds ``bytes_max`` unless with one point."""
        return tuple(self._encode_plain(_batch_of(sealed), bytes_max))

    @abstractmethod
    def _encode_plain(self, batch: OrderedBatch, bytes_max: int) -> list[Body]:
        """Encode a batch as uncompressed bodies."""

    def split(self, body: bytes) -> tuple[tuple[bytes, int], tuple[bytes, int]] | None:
        """Cut a body in two; None where it has a single point."""
        halves = split_in_two(body, self.protocol)
        if halves is None or not (halves[0].points and halves[1].points):
            return None
        first, second = halves
        return (first.data, first.points), (second.data, second.points)

    def rounds(self, body: bytes, rounds_max: int) -> list[tuple[bytes, int]]:
        """Cut a body so that no series has two points in a piece."""
        return [(one.data, one.points) for one in cut_in_rounds(body, self.protocol, rounds_max)]

    def compress(self, body: bytes, compression: OwnEncoding) -> bytes:
        """Compress a body."""
        return compress(body, compression)

    def decompress(self, body: bytes, compression: OwnEncoding) -> bytes:
        """Undo :meth:`compress`. Raises DecodeError."""
        return decompress_own(body, compression)


class V1Encoder(_Encoder):
    """Implements :class:`relay.sink.interface.Encoder` for ``prometheus.WriteRequest``."""

    kind: Final = "remoteWrite1"
    protocol: WriteProtocol = "remote_write_v1"

    def encode_bodies(
        self, sealed: SealedBatch, compression: OwnEncoding, bytes_max: int
    ) -> tuple[Body, ...]:
        """Encode and compress a batch; no body exceeds ``bytes_max`` unless with one point."""
        if compression == "snappy":
            return tuple(v1_snappy.encode_snappy(_batch_of(sealed), bytes_max))
        return super().encode_bodies(sealed, compression, bytes_max)

    def encode_plain(
        self, sealed: SealedBatch, compression: OwnEncoding, bytes_max: int
    ) -> tuple[Body, ...] | None:
        """Encode a batch uncompressed; None for snappy, which is written in the same pass."""
        if compression == "snappy":
            return None
        return super().encode_plain(sealed, compression, bytes_max)

    def _encode_plain(self, batch: OrderedBatch, bytes_max: int) -> list[Body]:
        return v1_plain.encode_plain(batch, bytes_max)


class V2Encoder(_Encoder):
    """Implements :class:`relay.sink.interface.Encoder` for ``io.prometheus.write.v2.Request``."""

    kind: Final = "remoteWrite2"
    protocol: WriteProtocol = "remote_write_v2"

    def _encode_plain(self, batch: OrderedBatch, bytes_max: int) -> list[Body]:
        return v2_encoder.encode_plain(batch, bytes_max)


def _batch_of(sealed: SealedBatch) -> OrderedBatch:
    assert isinstance(sealed.point_buffer, RawPointBuffer)
    return OrderedBatch(sealed.point_buffer)
