"""The encoders of remote write 1.0 and 2.0 out: batches to bodies. Pure.

Rules:

* Points of a series leave in the order of their times; those of one time, in order of arrival.
* Series keep the order of their arrival otherwise. A body over the limit is cut before a point.
* A rider goes with the point before it; metadata goes first.
* Both implement :class:`relay.sink.interface.Encoder`, one class for each version.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from relay.codec.body import Body
from relay.codec.compression import OwnEncoding, compress, decompress_own
from relay.codec.otlp.batch import SealedBatch
from relay.codec.protobuf import field_bytes, varint
from relay.codec.remote_write.encode import (
    encode_metadata2,
    encode_sample,
    encode_value_and_time,
    request_headers,
)
from relay.codec.remote_write.raw.buffer import RawEntry, RawPointBuffer
from relay.codec.remote_write.raw.label_table import LabelTable
from relay.codec.remote_write.raw.ordered import OrderedBatch
from relay.codec.remote_write.raw.v1_encoder import encode_plain, encode_snappy
from relay.codec.remote_write.raw_series import RawExemplar, label_fields
from relay.codec.remote_write.split import count_points, split_in_two
from relay.codec.remote_write.v1 import WriteProtocol
from relay.codec.remote_write.v2 import Metadata2

_SAMPLE_TAG = b"\x12"
_SYMBOL_TAG, _SERIES2_TAG, _REFS_TAG, _EXEMPLAR_TAG = b"\x22", b"\x2a", b"\x0a", b"\x22"
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
        if count_points(body, self.protocol) < 2:
            return None
        halves = split_in_two(body, self.protocol)
        assert halves is not None
        first, second = halves
        return (first.data, first.points), (second.data, second.points)

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
            return tuple(encode_snappy(batch, bytes_max))
        return tuple(
            body._replace(data=compress(body.data, compression))
            for body in encode_plain(batch, bytes_max)
        )


class V2Encoder(_Encoder):
    """Implements :class:`relay.sink.interface.Encoder` for ``io.prometheus.write.v2.Request``."""

    kind: Final = "remoteWrite2"
    protocol: WriteProtocol = "remote_write_v2"

    def encode_bodies(
        self, sealed: SealedBatch, compression: OwnEncoding, bytes_max: int
    ) -> tuple[Body, ...]:
        """Encode and compress a batch; no body exceeds ``bytes_max`` unless with one point."""
        bodies: list[Body] = []
        request = _RequestV2()
        alone: dict[bytes, list[RawExemplar]] = {}
        entries = [entry for entry in _entries(sealed) if not isinstance(entry, bytes)]
        for _, entry in entries:
            if not entry.is_point:
                alone.setdefault(entry.prefix, []).extend(entry.exemplars)
        for table, entry in entries:
            if not entry.is_point:
                continue
            exemplars = (*alone.pop(entry.prefix, ()), *entry.exemplars)
            if request.points and request.size_with(table, entry, exemplars) > bytes_max:
                bodies.append(request.finish(compression))
                request = _RequestV2()
            request.add(table, entry, exemplars)
        bodies.append(request.finish(compression))
        bodies[-1] = bodies[-1]._replace(lone_exemplars=sum(map(len, alone.values())))
        return tuple(bodies)


def _buffer_of(sealed: SealedBatch) -> RawPointBuffer:
    assert isinstance(sealed.point_buffer, RawPointBuffer)
    return sealed.point_buffer


def _entries(sealed: SealedBatch) -> list[bytes | tuple[LabelTable, RawEntry]]:
    """Return metadata riders, and all other entries in the order in which they leave."""
    metadata: list[bytes | tuple[LabelTable, RawEntry]] = []
    entries: list[bytes | tuple[LabelTable, RawEntry]] = []
    times: dict[bytes, int] = {}
    is_late = False
    for found in _buffer_of(sealed).entries():
        if len(found) == 4:
            group, prefix, time_ns, value = found
            sample = encode_sample((value, time_ns // 1_000_000, 0), False)
            entry = RawEntry(prefix, field_bytes(_SAMPLE_TAG, sample), time_ns)
        elif isinstance(found[1], bytes):
            metadata.append(found[1])
            continue
        else:
            group, entry = found[0], found[1]
        is_late |= entry.time_ns < times.get(entry.prefix, 0)
        times[entry.prefix] = entry.time_ns
        entries.append((group.table, entry))
    if is_late:
        entries.sort(key=_time_of)
    return metadata + entries


def _time_of(entry: bytes | tuple[LabelTable, RawEntry]) -> int:
    return 0 if isinstance(entry, bytes) else entry[1].time_ns


class _RequestV2:
    """A request of 2.0 while it grows."""

    def __init__(self) -> None:
        self._refs: dict[bytes, int] = {b"": 0}
        self._messages: list[bytes] = []
        self._size = 0
        self.points = 0

    def size_with(
        self, table: LabelTable, entry: RawEntry, exemplars: Iterable[RawExemplar]
    ) -> int:
        """Return the encoded bytes with one more entry."""
        known = len(self._refs)
        size = len(self._message(table, entry, exemplars))
        size += self._size + sum(len(field_bytes(_SYMBOL_TAG, text)) for text in self._refs)
        while len(self._refs) > known:
            self._refs.popitem()
        return size

    def add(self, table: LabelTable, entry: RawEntry, exemplars: Iterable[RawExemplar]) -> None:
        """Add an entry."""
        message = self._message(table, entry, exemplars)
        self._messages.append(message)
        self._size += len(message)
        self.points += 1

    def finish(self, compression: OwnEncoding) -> Body:
        """Return the body."""
        symbols = [field_bytes(_SYMBOL_TAG, symbol) for symbol in self._refs]
        data = b"".join((*symbols, *self._messages))
        return Body(compress(data, compression), self.points, len(data))

    def _message(
        self, table: LabelTable, entry: RawEntry, exemplars: Iterable[RawExemplar]
    ) -> bytes:
        parts = [field_bytes(_REFS_TAG, self._refs_of(b"".join(table.fields_of(entry.prefix))))]
        parts.append(entry.fields)
        for exemplar in exemplars:
            refs = self._refs_of(exemplar.labels)
            head = field_bytes(_REFS_TAG, refs) if refs else b""
            parts.append(field_bytes(_EXEMPLAR_TAG, head + encode_value_and_time(exemplar)))
        declaration = table.declaration_of(entry.prefix)
        if declaration is not None:
            parts.append(encode_metadata2(Metadata2(*declaration), self._ref))
        return field_bytes(_SERIES2_TAG, b"".join(parts))

    def _refs_of(self, labels: bytes) -> bytes:
        return b"".join(
            varint(self._ref(name)) + varint(self._ref(value))
            for _, name, value in label_fields(labels)
        )

    def _ref(self, symbol: bytes) -> int:
        return self._refs.setdefault(symbol, len(self._refs))
