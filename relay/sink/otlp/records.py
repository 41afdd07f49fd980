"""The sink kinds OTLP/HTTP of logs and of traces. Pure.

Endpoints answer as those of metrics do (:mod:`relay.sink.otlp_http`): the partial successes of the
three signals have the same field numbers, and rejected records and spans are counted as its points.
"""

from __future__ import annotations

from typing import Final

from relay.codec.body import Body
from relay.codec.compression import compress
from relay.codec.otlp.batch import SealedBatch
from relay.codec.otlp.record_buffer import RecordBuffer
from relay.codec.otlp.split import RECORDS, split_request
from relay.codec.signal_names import SignalName
from relay.config.exporter.types import Compression, Endpoint, OtlpHttp
from relay.sink.interface import SinkKind
from relay.sink.otlp_http import RECORD_KINDS, OtlpEncoder, make_client


class RecordEncoder(OtlpEncoder):
    """Implements :class:`relay.sink.interface.Encoder` for the requests of logs and traces."""

    def encode_bodies(
        self, sealed: SealedBatch, compression: Compression, bytes_max: int
    ) -> tuple[Body, ...]:
        """Encode a batch as requests of up to ``bytes_max`` bytes, and compress them."""
        return tuple(
            body._replace(data=compress(body.data, compression))
            for body in self.encode_plain(sealed, compression, bytes_max)
        )

    def encode_plain(
        self, sealed: SealedBatch, _compression: Compression, bytes_max: int
    ) -> tuple[Body, ...]:
        """Encode a batch as requests of up to ``bytes_max`` bytes."""
        buffer = sealed.point_buffer
        assert isinstance(buffer, RecordBuffer)
        return tuple(Body(piece, count, len(piece)) for piece, count in buffer.pieces(bytes_max))

    def split(self, body: bytes) -> tuple[tuple[bytes, int], tuple[bytes, int]] | None:
        """Cut a body in two; None where it has a single record."""
        return split_request(body, RECORDS)


def _kind(signal: SignalName, codings: dict[Compression, int]) -> SinkKind:
    def serves(endpoint: Endpoint) -> bool:
        return isinstance(endpoint, OtlpHttp) and endpoint.signal == signal

    name = RECORD_KINDS[signal]
    return SinkKind(
        name=name,
        stored_codings=codings,
        encoder=RecordEncoder(name),
        make_client=make_client,
        serves=serves,
    )


OTLP_LOGS: Final = _kind("logs", {"none": 10, "gzip": 11, "zstd": 12})
OTLP_TRACES: Final = _kind("traces", {"none": 13, "gzip": 14, "zstd": 15})
