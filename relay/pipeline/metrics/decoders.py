"""The messages that the pipeline can decode, by the name that receivers and journal give them.

A new protocol is one entry in :data:`DECODERS`: the receiver recognises its content type, the
pipeline decodes its bodies, a replay accepts its records, and ``explain`` reads its series. To be
journaled it needs a number besides (``PROTOCOLS`` in :mod:`relay.storage.journal.record`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from relay.codec.remote_write import v1, v2
from relay.codec.remote_write.v1 import ELEMENTS_MAX, Metadata, Pause, WriteProtocol
from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.interfaces import ReadAhead
from relay.pipeline.metrics.hotpath.v1_loop import decode_v1_into_batches, has_metadata
from relay.pipeline.metrics.hotpath.v2_loop import decode_v2_into_batches
from relay.pipeline.metrics.series.lookup import SeriesLookup
from relay.pipeline.metrics.translate.target_info_scan import (
    target_info_keys_v1,
    target_info_keys_v2,
)

KEY_BYTES_MAX: Final = 1 << 20
"""Labels of a series that :meth:`Decoder.series_keys` writes out."""


class BodyDecoder(ReadAhead, Protocol):
    """Decodes one message, given as a decompressed body."""

    def decode(self, body: bytes, transaction: BatchTransaction, lookup: SeriesLookup) -> None:
        """Append every good sample to the batches of its series, count the others.

        Raises DecodeError, TooLargeError and OverloadedError; the caller then rolls back.
        """
        ...


class Decoder(BodyDecoder, Protocol):
    """Decodes one message of remote write. Stateless."""

    @property
    def content_type(self) -> tuple[str, str]:
        """The media type, in lower case, and its ``proto`` parameter; "" for none."""
        ...

    @property
    def reports_written(self) -> bool:
        """True if answers report the written counts in header fields."""
        ...

    def series_keys(self, body: bytes) -> Iterator[bytes]:
        """Yield the key of every series, in order. Raises DecodeError."""
        ...


class RemoteWriteV1:
    """``prometheus.WriteRequest``; see :mod:`relay.codec.remote_write.v1`."""

    content_type = ("application/x-protobuf", "prometheus.WriteRequest")
    reports_written = False

    def decode(self, body: bytes, transaction: BatchTransaction, lookup: SeriesLookup) -> None:
        """Decode the message into the batches of its series."""
        # In a request with tenants the metadata goes first: otherwise a new series of one project
        # would decide when the series of others get their types.
        if lookup.has_tenancy and has_metadata(body, len(body)):
            lookup.read_ahead()
        decode_v1_into_batches(body, transaction, lookup)
        if transaction.has_metadata:
            lookup.read_ahead()

    def metadata(self, body: bytes, *, bounded: bool, pause: Pause) -> list[Metadata]:
        """Return the metadata of the request; its entries are apart from the series."""
        entries_max = ELEMENTS_MAX if bounded else len(body)
        if not has_metadata(body, entries_max):
            return []
        found = []
        for start, stop in v1.metadata_spans(body, entries_max=entries_max, pause=pause):
            found.append(v1.parse_metadata(body, start, stop))
            pause()
        return found

    def target_info_keys(
        self, body: bytes, *, bytes_max: int, bounded: bool, pause: Pause
    ) -> Iterator[bytes]:
        """Yield the keys of the ``target_info`` series."""
        return target_info_keys_v1(body, bytes_max, bounded, pause)

    def series_keys(self, body: bytes) -> Iterator[bytes]:
        """Yield the key of every series, in order."""
        for field, start, stop in v1.top_level(body):
            if field == v1.SERIES_FIELD:
                yield v1.parse_series(body, start, stop).key


class RemoteWriteV2:
    """``io.prometheus.write.v2.Request``; see :mod:`relay.codec.remote_write.v2`."""

    content_type = ("application/x-protobuf", "io.prometheus.write.v2.Request")
    reports_written = True

    def decode(self, body: bytes, transaction: BatchTransaction, lookup: SeriesLookup) -> None:
        """Decode the message into the batches of its series."""
        decode_v2_into_batches(body, transaction, lookup)

    def metadata(self, body: bytes, *, bounded: bool, pause: Pause) -> list[Metadata]:
        """Return nothing: metadata of version 2.0 is a field of each series."""
        return []

    def target_info_keys(
        self, body: bytes, *, bytes_max: int, bounded: bool, pause: Pause
    ) -> Iterator[bytes]:
        """Yield the keys of the ``target_info`` series."""
        return target_info_keys_v2(body, bytes_max, bounded, pause)

    def series_keys(self, body: bytes) -> Iterator[bytes]:
        """Yield the key of every series; skip series whose references are not labels."""
        symbols, spans = v2.parse_request(body)
        for start, stop in spans:
            refs = v2.parse_series(body, start, stop).refs
            try:
                yield symbols.key(refs, bytes_max=KEY_BYTES_MAX)
            except v1.SeriesFault:
                yield b""


DECODERS: Final[dict[WriteProtocol, Decoder]] = {
    "remote_write_v1": RemoteWriteV1(),
    "remote_write_v2": RemoteWriteV2(),
}
"""By protocol: the name is also the label of ``relay_received_samples_total``."""

DEFAULT_PROTOCOL: Final[WriteProtocol] = "remote_write_v1"
"""Of requests that name no content type (Prometheus' rule)."""
