"""Sealed batches of log records and spans that are told apart by a number each."""

from __future__ import annotations

from collections.abc import Iterable

from relay.codec.otlp.batch import SealedBatch
from relay.codec.otlp.envelope import scan
from relay.codec.otlp.record_buffer import RecordBuffer, RecordGroup
from tests.kit.otlp.official import LOGS, METRICS, TRACES, Kind, any_value, attribute

_GROUPS: dict[tuple[bytes, bytes], RecordGroup] = {}
"""One group for equal heads, as the pipeline makes them."""


def request_of(kind: Kind, values: Iterable[float], *, label: str = "x") -> bytes:
    """Return a request of one resource and scope; ``label`` is repeated in each record."""
    resource = kind.resource(schema_url="https://example.com/1")
    resource.resource.attributes.append(attribute("service.name", "api"))
    scope = getattr(resource, kind.scopes).add(schema_url="https://example.com/2")
    scope.scope.name = "relay"
    for value in values:
        record = getattr(scope, kind.records).add()
        if kind is METRICS:
            record.name = "value"
            record.gauge.data_points.add(
                time_unix_nano=10**18, as_double=value, attributes=[attribute("label", label)]
            )
            continue
        record.attributes.append(attribute("label", label))
        if kind is LOGS:
            record.body.CopyFrom(any_value(value))
        else:
            record.name = repr(value)
    request = kind.request()
    getattr(request, kind.resources).append(resource)
    return bytes(request.SerializeToString())


def record_batch(
    kind: Kind,
    values: Iterable[float],
    *,
    position: int = 0,
    opened_at: float = 0.0,
    label: str = "x",
) -> SealedBatch:
    """Return a batch of one resource and scope with a record for each value."""
    envelope = scan(request_of(kind, map(float, values), label=label))
    buffer = RecordBuffer()
    for head, scopes in envelope.resources:
        for scope, first, stop in scopes:
            buffer.append(envelope, first, stop)
            group = _GROUPS.setdefault((head, scope), RecordGroup(head, scope))
            buffer.close_run(group)
    return SealedBatch(buffer, buffer.count, position, opened_at)


def values_of(kind: Kind, body: bytes) -> list[float]:
    """Return the numbers of a body's records, by the official classes."""
    assert kind in (LOGS, TRACES)
    return [
        record.body.double_value if kind is LOGS else float(record.name)
        for resource in getattr(kind.request.FromString(body), kind.resources)
        for scope in getattr(resource, kind.scopes)
        for record in getattr(scope, kind.records)
    ]
