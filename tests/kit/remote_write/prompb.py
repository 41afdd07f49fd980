"""Official protobuf behaviour for remote write: the oracle of the hand-written decoder.

The classes are Google's own, built at import from a field table (prometheus/prometheus,
``prompb/{remote,types}.proto`` and ``prompb/io/prometheus/write/v2/types.proto``):

* :class:`WriteRequest` and its parts are ``prometheus.*``, complete;
* :class:`RequestV2` and its parts are ``io.prometheus.write.v2.*``;
* :class:`RawRequestV2` is to that what the next is to the first;
* :class:`RawWriteRequest` is ``prometheus.WriteRequest`` as the careful decoder sees it: strings
  are bytes, because invalid UTF-8 may cost no more than its series, and exemplars and histograms
  are bytes, because they are counted and not looked into. Values are fixed64, so that the bits of
  a NaN never pass through a float. All of these look alike on the wire.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = tuple[int, str, str]
"""(number, name, type). ``*`` before the type repeats it; ``name|group`` is part of a oneof."""

_LABEL: list[_Field] = [(1, "name", "string"), (2, "value", "string")]
_SAMPLE: list[_Field] = [(1, "value", "double"), (2, "timestamp", "int64")]
_BUCKET_SPAN: list[_Field] = [(1, "offset", "sint32"), (2, "length", "uint32")]
_HISTOGRAM: list[_Field] = [
    (1, "count_int|count", "uint64"),
    (2, "count_float|count", "double"),
    (3, "sum", "double"),
    (4, "schema", "sint32"),
    (5, "zero_threshold", "double"),
    (6, "zero_count_int|zero_count", "uint64"),
    (7, "zero_count_float|zero_count", "double"),
    (8, "negative_spans", "*BucketSpan"),
    (9, "negative_deltas", "*sint64"),
    (10, "negative_counts", "*double"),
    (11, "positive_spans", "*BucketSpan"),
    (12, "positive_deltas", "*sint64"),
    (13, "positive_counts", "*double"),
    (14, "reset_hint", "enum"),
    (15, "timestamp", "int64"),
    (16, "custom_values", "*double"),
]
_METADATA: list[_Field] = [
    (1, "type", "enum"),
    (2, "metric_family_name", "string"),
    (4, "help", "string"),
    (5, "unit", "string"),
]

_V1: dict[str, list[_Field]] = {
    "WriteRequest": [(1, "timeseries", "*TimeSeries"), (3, "metadata", "*MetricMetadata")],
    "TimeSeries": [
        (1, "labels", "*Label"),
        (2, "samples", "*Sample"),
        (3, "exemplars", "*Exemplar"),
        (4, "histograms", "*Histogram"),
    ],
    "Label": _LABEL,
    "Sample": _SAMPLE,
    "Exemplar": [(1, "labels", "*Label"), (2, "value", "double"), (3, "timestamp", "int64")],
    "Histogram": _HISTOGRAM,
    "BucketSpan": _BUCKET_SPAN,
    "MetricMetadata": _METADATA,
}

_RAW: dict[str, list[_Field]] = {
    "WriteRequest": _V1["WriteRequest"],
    "TimeSeries": [
        (1, "labels", "*Label"),
        (2, "samples", "*Sample"),
        (3, "exemplars", "*bytes"),
        (4, "histograms", "*bytes"),
    ],
    "Label": [(1, "name", "bytes"), (2, "value", "bytes")],
    "Sample": [(1, "value", "fixed64"), (2, "timestamp", "int64")],
    "MetricMetadata": [
        (1, "type", "enum"),
        (2, "metric_family_name", "bytes"),
        (4, "help", "bytes"),
        (5, "unit", "bytes"),
        (11, "account_id", "uint32"),  # VictoriaMetrics' own
        (12, "project_id", "uint32"),
    ],
    "ReadRequest": [(1, "queries", "*Query")],
    "Query": [
        (1, "start_timestamp_ms", "int64"),
        (2, "end_timestamp_ms", "int64"),
        (3, "matchers", "*LabelMatcher"),
    ],
    "LabelMatcher": [(1, "type", "enum"), (2, "name", "string"), (3, "value", "string")],
    "ReadResponse": [(1, "results", "*QueryResult")],
    "QueryResult": [(1, "timeseries", "*TimeSeries")],
}

_V2: dict[str, list[_Field]] = {
    "Request": [(4, "symbols", "*string"), (5, "timeseries", "*TimeSeries")],
    "TimeSeries": [
        (1, "labels_refs", "*uint32"),
        (2, "samples", "*Sample"),
        (3, "histograms", "*Histogram"),
        (4, "exemplars", "*Exemplar"),
        (5, "metadata", "Metadata"),
        (6, "created_timestamp", "int64"),  # until 2.0-rc.3; reserved since
    ],
    "Sample": [*_SAMPLE, (3, "start_timestamp", "int64")],
    "Exemplar": [(1, "labels_refs", "*uint32"), (2, "value", "double"), (3, "timestamp", "int64")],
    "Metadata": [(1, "type", "enum"), (3, "help_ref", "uint32"), (4, "unit_ref", "uint32")],
    "Histogram": [*_HISTOGRAM, (17, "start_timestamp", "int64")],
    "BucketSpan": _BUCKET_SPAN,
}

_RAW_V2: dict[str, list[_Field]] = {
    "Request": [(4, "symbols", "*bytes"), (5, "timeseries", "*TimeSeries")],
    "TimeSeries": [
        (1, "labels_refs", "*uint32"),
        (2, "samples", "*Sample"),
        (3, "histograms", "*bytes"),
        (4, "exemplars", "*bytes"),
        (5, "metadata", "Metadata"),
        (6, "created_timestamp", "int64"),
    ],
    "Sample": [*_RAW["Sample"], (3, "start_timestamp", "int64")],
    "Metadata": _V2["Metadata"],
}

_PROTO = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _PROTO.TYPE_STRING,
    "bytes": _PROTO.TYPE_BYTES,
    "double": _PROTO.TYPE_DOUBLE,
    "fixed64": _PROTO.TYPE_FIXED64,
    "int64": _PROTO.TYPE_INT64,
    "uint64": _PROTO.TYPE_UINT64,
    "uint32": _PROTO.TYPE_UINT32,
    "sint32": _PROTO.TYPE_SINT32,
    "sint64": _PROTO.TYPE_SINT64,
    # A proto3 enum is open, so every int32 is a value of it and is kept: the same wire as an int32.
    "enum": _PROTO.TYPE_INT32,
}


def _build(package: str, messages: dict[str, list[_Field]]) -> dict[str, Any]:
    """Make the message classes of one package, by name."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3"
    )
    for message_name, fields in messages.items():
        message = file.message_type.add(name=message_name)
        groups: list[str] = []
        for number, name, kind in fields:
            plain, _, group = name.partition("|")
            field = message.field.add(name=plain, number=number, label=_PROTO.LABEL_OPTIONAL)
            if kind.startswith("*"):
                field.label = _PROTO.LABEL_REPEATED
            scalar = kind.removeprefix("*")
            if scalar in _SCALARS:
                field.type = _SCALARS[scalar]
            else:
                field.type = _PROTO.TYPE_MESSAGE
                field.type_name = f".{package}.{scalar}"
            if group:
                if group not in groups:
                    groups.append(group)
                    message.oneof_decl.add(name=group)
                field.oneof_index = groups.index(group)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # a pool of our own: the name may be taken in the default one
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in messages
    }


_v1 = _build("prometheus", _V1)
WriteRequest = _v1["WriteRequest"]
TimeSeries = _v1["TimeSeries"]
Label = _v1["Label"]
Sample = _v1["Sample"]
Exemplar = _v1["Exemplar"]
Histogram = _v1["Histogram"]
BucketSpan = _v1["BucketSpan"]
MetricMetadata = _v1["MetricMetadata"]

_raw = _build("prometheus.raw", _RAW)
RawWriteRequest = _raw["WriteRequest"]
RawTimeSeries = _raw["TimeSeries"]
RawLabel = _raw["Label"]
RawSample = _raw["Sample"]
RawMetricMetadata = _raw["MetricMetadata"]
ReadRequest = _raw["ReadRequest"]
RawReadResponse = _raw["ReadResponse"]

_v2 = _build("io.prometheus.write.v2", _V2)
RequestV2 = _v2["Request"]
TimeSeriesV2 = _v2["TimeSeries"]
SampleV2 = _v2["Sample"]
ExemplarV2 = _v2["Exemplar"]
MetadataV2 = _v2["Metadata"]
HistogramV2 = _v2["Histogram"]

RawRequestV2 = _build("io.prometheus.write.v2.raw", _RAW_V2)["Request"]
