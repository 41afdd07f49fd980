"""The encoders of remote write 1.0 and 2.0 out: batches to bodies. Pure.

Rules:

* Points of a series leave in the order of their times; those of one time, in order of arrival.
* Series keep the order of their arrival otherwise. A body over the limit is cut before a point.
* A rider goes with the point before it; metadata goes first.
* Both implement :class:`relay.sink.interface.Encoder`, one class for each version.
"""

from __future__ import annotations

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


class _Encoder:
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
        raise NotImplementedError

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
        batch = OrderedBatch(_buffer_of(sealed))
        if compression == "snappy":
            return tuple(v1_snappy.encode_snappy(batch, bytes_max))
        return tuple(
            body._replace(data=compress(body.data, compression))
            for body in v1_plain.encode_plain(batch, bytes_max)
        )


class V2Encoder(_Encoder):
    """Implements :class:`relay.sink.interface.Encoder` for ``io.prometheus.write.v2.Request``."""

    kind: Final = "remoteWrite2"
    protocol: WriteProtocol = "remote_write_v2"

    def encode_bodies(
        self, sealed: SealedBatch, compression: OwnEncoding, bytes_max: int
    ) -> tuple[Body, ...]:
        """Encode and compress a batch; no body exceeds ``bytes_max`` unless with one point."""
        return tuple(
            body._replace(data=compress(body.data, compression))
            for body in v2_encoder.encode_plain(OrderedBatch(_buffer_of(sealed)), bytes_max)
        )


def _buffer_of(sealed: SealedBatch) -> RawPointBuffer:
    assert isinstance(sealed.point_buffer, RawPointBuffer)
    return sealed.point_buffer
