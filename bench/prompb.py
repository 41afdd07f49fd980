"""The official protobuf runtime's view of remote write, from the field numbers alone.

The harness checks the relay, so it shares no codec with it. Fields: prometheus/prompb,
``remote.proto`` and ``types.proto`` for 1.0, ``io/prometheus/write/v2/types.proto`` for 2.0 (whose
messages end in 2 here).
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "bench.prompb"
_FIELD = descriptor_pb2.FieldDescriptorProto

_Row = tuple[str, int, Any, str]
"""Name, number, type, and "" for a scalar, "repeated" for several, else the message's type, which
is repeated but for Metadata2."""

_MESSAGES: dict[str, tuple[_Row, ...]] = {
    "Label": (("name", 1, _FIELD.TYPE_STRING, ""), ("value", 2, _FIELD.TYPE_STRING, "")),
    "Sample": (("value", 1, _FIELD.TYPE_DOUBLE, ""), ("timestamp", 2, _FIELD.TYPE_INT64, "")),
    "TimeSeries": (
        ("labels", 1, _FIELD.TYPE_MESSAGE, "Label"),
        ("samples", 2, _FIELD.TYPE_MESSAGE, "Sample"),
    ),
    "WriteRequest": (("timeseries", 1, _FIELD.TYPE_MESSAGE, "TimeSeries"),),
    "Metadata2": (
        ("type", 1, _FIELD.TYPE_INT32, ""),
        ("help_ref", 3, _FIELD.TYPE_UINT32, ""),
        ("unit_ref", 4, _FIELD.TYPE_UINT32, ""),
    ),
    "TimeSeries2": (
        ("labels_refs", 1, _FIELD.TYPE_UINT32, "repeated"),
        ("samples", 2, _FIELD.TYPE_MESSAGE, "Sample"),
        ("metadata", 5, _FIELD.TYPE_MESSAGE, "Metadata2"),
    ),
    "Request2": (
        ("symbols", 4, _FIELD.TYPE_STRING, "repeated"),
        ("timeseries", 5, _FIELD.TYPE_MESSAGE, "TimeSeries2"),
    ),
}


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="bench/prompb.proto", package=_PACKAGE, syntax="proto3"
    )
    for message_name, rows in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for name, number, kind, type_name in rows:
            field = message.field.add(name=name, number=number, type=kind)
            many = type_name not in ("", "Metadata2")
            field.label = _FIELD.LABEL_REPEATED if many else _FIELD.LABEL_OPTIONAL
            if kind == _FIELD.TYPE_MESSAGE:
                field.type_name = f".{_PACKAGE}.{type_name}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_CLASSES = _build()
TimeSeries: Any = _CLASSES["TimeSeries"]
WriteRequest: Any = _CLASSES["WriteRequest"]
Request2: Any = _CLASSES["Request2"]
