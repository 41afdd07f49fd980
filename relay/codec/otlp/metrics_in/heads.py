"""Read the heads of scopes and metrics, and the attributes of a point, once for each stream.

Texts that are no UTF-8 are read with U+FFFD, as everywhere (:mod:`relay.codec.otlp.any_value`).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from relay.codec.otlp.any_value import AttributeTexts, scope_attributes, texts_of
from relay.codec.otlp.metrics import Kind
from relay.codec.otlp.record_fields import attributes_in
from relay.codec.protobuf import BYTES, iter_fields
from relay.runtime.errors import DecodeError

KINDS: Final[dict[int, Kind]] = {
    5: "gauge",
    7: "sum",
    9: "histogram",
    10: "exponential_histogram",
    11: "summary",
}
"""Kind of a metric's data, by the number of its field."""

PointTemporality = Literal["cumulative", "delta", "unspecified", ""]
"""Of sums and histograms; "" for kinds that have none."""

_TEMPORALITIES: Final[dict[int, PointTemporality]] = {1: "delta", 2: "cumulative"}
_SCOPE, _SCHEMA_URL = 1, 3  # of ScopeMetrics
_METRIC_TEXTS: Final = (1, 2, 3)  # name, description, unit
_POINT_ATTRIBUTES: Final[dict[Kind, int]] = {"histogram": 9, "exponential_histogram": 1}


class ScopeHead(NamedTuple):
    """A scope's name and version, and the texts of its attributes."""

    name: str
    version: str
    schema_url: str
    attributes: AttributeTexts


class MetricHead(NamedTuple):
    """The parts of a metric that its points share."""

    name: str
    unit: str
    description: str
    kind: Kind
    temporality: PointTemporality
    monotonic: bool


def read_scope(head: bytes) -> ScopeHead:
    """Read the head of a scope. Raise DecodeError."""
    name, version, schema_url = "", "", ""
    for number, wire_type, _, start, stop in iter_fields(head, 0, len(head)):
        if wire_type == BYTES and number == _SCHEMA_URL:
            schema_url = head[start:stop].decode(errors="replace")
        elif wire_type == BYTES and number == _SCOPE:
            texts = _texts_of(head[start:stop])
            name, version = texts.get(1, name), texts.get(2, version)
    return ScopeHead(name, version, schema_url, scope_attributes(head))


def read_metric(head: bytes, number: int, tail: bytes) -> MetricHead:
    """Read the head of a metric and the rest of its data. Raise DecodeError."""
    kind = KINDS[number]
    temporality: PointTemporality = ""
    monotonic = False
    texts = _texts_of(head)
    if kind not in ("gauge", "summary"):
        # The official classes, imported for the first of these.
        from relay.codec.otlp.metrics_in.messages import (
            DATA,
            ProtobufDecodeError,
        )

        try:
            rest = DATA[kind].FromString(tail)
        except ProtobufDecodeError as error:
            raise DecodeError("a metric cannot be read") from error
        temporality = _TEMPORALITIES.get(rest.aggregation_temporality, "unspecified")
        monotonic = kind == "sum" and rest.is_monotonic
    name, description, unit = (texts.get(field, "") for field in _METRIC_TEXTS)
    return MetricHead(name, unit, description, kind, temporality, monotonic)


def read_attributes(fields: bytes, kind: Kind) -> AttributeTexts:
    """Return the attributes of a point, given its encoded attribute fields. Raise DecodeError."""
    if not fields:
        return []
    return texts_of(attributes_in(fields, _POINT_ATTRIBUTES.get(kind, 7)), "a point's attributes")


def _texts_of(message: bytes) -> dict[int, str]:
    """Return the fields of a message as texts, whatever they are, by number."""
    return {
        number: message[start:stop].decode(errors="replace")
        for number, wire_type, _, start, stop in iter_fields(message, 0, len(message))
        if wire_type == BYTES
    }
