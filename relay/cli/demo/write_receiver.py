"""An endpoint of Prometheus remote write 1.0 that decodes with Google's classes and counts points.

It uses none of the relay's own decoding. The classes are built from the fields that it looks at
(``prompb/{remote,types}.proto`` of Prometheus); the others are kept as unknown fields.
"""

from __future__ import annotations

from typing import Any, Final

import cramjam
from aiohttp import web
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from relay.cli.demo.behaviour import Reply
from relay.cli.demo.receiver import BODY_BYTES_MAX, Receiver

_PACKAGE: Final = "relay.demo"
_REPEATED: Final = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
_BYTES: Final = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
_MESSAGE: Final = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE


def _write_request() -> type[Any]:
    """Build the class of a request."""
    file = descriptor_pb2.FileDescriptorProto(
        name="relay/demo/write.proto", package=_PACKAGE, syntax="proto3"
    )
    series = file.message_type.add(name="TimeSeries")
    for name, number in (("samples", 2), ("histograms", 4)):
        series.field.add(name=name, number=number, type=_BYTES, label=_REPEATED)
    file.message_type.add(name="WriteRequest").field.add(
        name="timeseries",
        number=1,
        type=_MESSAGE,
        type_name=f".{_PACKAGE}.TimeSeries",
        label=_REPEATED,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.WriteRequest"))


_WriteRequest: Final = _write_request()


class WriteReceiver(Receiver):
    """A healthy receiver of remote write: it stores all points."""

    path = "/{base:.*}api/v1/write"

    def read(self, body: bytes, encoding: str) -> Reply:
        """Decode a body and count its points. Raises the libraries' exceptions."""
        if encoding != "snappy":
            raise ValueError(f"Content-Encoding {encoding}")
        if cramjam.snappy.decompress_raw_len(body) > BODY_BYTES_MAX:
            raise ValueError("the body is too large")
        try:
            message = _WriteRequest.FromString(bytes(cramjam.snappy.decompress_raw(body)))
        except cramjam.DecompressionError as error:
            raise DecodeError(str(error)) from error
        return Reply(kept=sum(len(one.samples) + len(one.histograms) for one in message.timeseries))

    def success(self, reply: Reply) -> web.Response:
        """Return the answer to a request that was taken."""
        return web.Response(status=204)
