"""Requests of logs and traces, drawn by hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.kit.otlp.official import LOGS, Kind, any_value, attribute

_names = st.sampled_from(["service.name", "service_name", "milo.project.id", "a", "", "k8s.pod"])
_texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["svc-1", "svc-2"])
values = st.recursive(
    st.none()
    | _texts
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=5,
)
attributes = st.dictionaries(_names | _texts, values, max_size=4)
unknown = st.sampled_from(
    [b"", b"\xf8\x3f\x07", b"\xfa\x3f\x03abc", b"\xfd\x3f1234", b"\x90\x3f\x01"]
)
"""Encoded fields that no message of OTLP has."""


def with_fields(message: Any, fields: bytes) -> Any:
    """Return a message with these encoded fields behind its own."""
    return type(message).FromString(message.SerializeToString() + fields)


@st.composite
def log_records(draw: st.DrawFn) -> LogRecord:
    """Any log record."""
    record = LogRecord(
        time_unix_nano=draw(st.integers(0, (1 << 64) - 1)),
        severity_number=draw(st.sampled_from([0, 1, 9, 13, 17, 24])),
        body=any_value(draw(values)),
        attributes=[attribute(*pair) for pair in draw(attributes).items()],
        trace_id=draw(st.sampled_from([b"", bytes(16)])),
    )
    return with_fields(record, draw(unknown))


@st.composite
def spans(draw: st.DrawFn) -> Span:
    """Any span."""
    span = Span(
        trace_id=draw(st.binary(min_size=16, max_size=16) | st.binary(max_size=3)),
        name=draw(_texts),
        attributes=[attribute(*pair) for pair in draw(attributes).items()],
    )
    return with_fields(span, draw(unknown))


@st.composite
def requests(draw: st.DrawFn, kind: Kind) -> bytes:
    """Any request of a signal, with unknown fields, empty resources and empty scopes."""
    record = log_records() if kind is LOGS else spans()
    request = kind.request()
    for _ in range(draw(st.integers(0, 3))):
        resource = kind.resource(schema_url=draw(_texts))
        if draw(st.booleans()):
            resource.resource.attributes.extend(
                attribute(*pair) for pair in draw(attributes).items()
            )
        for _ in range(draw(st.integers(0, 2))):
            scope = kind.scope(schema_url=draw(_texts))
            if draw(st.booleans()):
                scope.scope.name = draw(_texts)
            getattr(scope, kind.records).extend(draw(st.lists(record, max_size=4)))
            getattr(resource, kind.scopes).append(with_fields(scope, draw(unknown)))
        getattr(request, kind.resources).append(with_fields(resource, draw(unknown)))
    return bytes(with_fields(request, draw(unknown)).SerializeToString())


Requests = Callable[[Kind], st.SearchStrategy[bytes]]
