"""Redacted messages are what the official classes make of them by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from relay.codec.otlp.any_value import value_text
from relay.codec.otlp.envelope import scan
from relay.codec.otlp.redact import (
    FIELDS_MAX,
    LOG_RECORD,
    RESOURCE_HEAD,
    SCOPE_HEAD,
    SPAN,
    Redaction,
)
from relay.codec.protobuf import field_bytes
from relay.runtime.errors import DecodeError, TooLargeError
from tests.kit.examples import examples
from tests.kit.otlp.official import LOGS, TRACES, Kind, attribute
from tests.kit.otlp.requests import requests

RULES = {"service.name": "drop", "a": "hash", "milo.project.id": "hash", "": "drop"}
REDACTION = Redaction(RULES.items())  # type: ignore[arg-type]


def redacted(attributes: Any) -> Iterator[Any]:
    for one in attributes:
        action = RULES.get(one.key)
        if action == "drop":
            continue
        if action == "hash":
            one.value.string_value = hashlib.sha256(value_text(one.value).encode()).hexdigest()
        yield one


def redact_in_place(holder: Any) -> None:
    kept = list(redacted(holder.attributes))
    del holder.attributes[:]
    holder.attributes.extend(kept)


@pytest.mark.parametrize("kind", [LOGS, TRACES], ids=["logs", "traces"])
@examples(60)
@given(data=st.data())
def test_attributes_are_dropped_and_hashed(kind: Kind, data: st.DataObject) -> None:
    envelope = scan(data.draw(requests(kind)))
    for head, scopes in envelope.resources:
        resource = kind.resource.FromString(head)
        redact_in_place(resource.resource)
        if not resource.HasField("resource"):
            resource.ClearField("resource")
        found = kind.resource.FromString(REDACTION.apply(head, RESOURCE_HEAD))
        assert found.resource.attributes == resource.resource.attributes
        assert found.schema_url == resource.schema_url
        for scope, first, stop in scopes:
            assert kind.scope.FromString(REDACTION.apply(scope, SCOPE_HEAD)).schema_url == (
                kind.scope.FromString(scope).schema_url
            )
            for number in range(first, stop):
                record = kind.record.FromString(envelope.record(number))
                redact_in_place(record)
                places = LOG_RECORD if kind is LOGS else SPAN
                left = REDACTION.apply(envelope.record(number), places)
                assert kind.record.FromString(left) == record


def test_events_and_links_of_spans_have_attributes_too() -> None:
    span = TRACES.record(name="a")
    span.events.add(name="e").attributes.extend([attribute("a", 1), attribute("b", 2)])
    span.links.add(trace_id=bytes(16)).attributes.append(attribute("service.name", "x"))
    left = TRACES.record.FromString(REDACTION.apply(span.SerializeToString(), SPAN))
    digest = hashlib.sha256(b"1").hexdigest()
    assert left.events[0].attributes[0].value.string_value == digest
    assert left.events[0].attributes[1] == attribute("b", 2)
    assert list(left.links[0].attributes) == []
    assert left.links[0].trace_id == bytes(16)


def test_what_cannot_be_read_is_an_error() -> None:
    with pytest.raises(DecodeError):
        Redaction([("a", "drop")]).apply(b"\x32\x05\x0a\x09a", LOG_RECORD)


@pytest.mark.parametrize("inside", [False, True])
def test_too_many_fields_are_an_error_and_are_read_with_pauses(*, inside: bool) -> None:
    pauses: list[int] = []
    many, name = b"\x18\x00" * FIELDS_MAX * 2, field_bytes(b"\x0a", b"a")
    record = field_bytes(b"\x32", name + many) if inside else many + field_bytes(b"\x32", name)
    with pytest.raises(TooLargeError):
        Redaction([("a", "drop")]).apply(record, LOG_RECORD, lambda: pauses.append(1))
    assert len(pauses) == 1 + FIELDS_MAX // 1024 + 1, "one for the name, which is sought first"


def test_a_value_in_two_parts_is_merged_before_it_is_hashed() -> None:
    key, texts = field_bytes(b"\x0a", b"a"), (b"\x0a\x01x", b"", b"\x18\x07", b"\xf8\x3f\x01")
    for parts in permutations(texts):
        values = b"".join(field_bytes(b"\x12", part) for part in parts)
        record = field_bytes(b"\x32", values + key)
        (came,) = LogRecord.FromString(record).attributes
        made = Redaction([("a", "hash")]).apply(record, LOG_RECORD)
        (left,) = LogRecord.FromString(made).attributes
        digest = hashlib.sha256(value_text(came.value).encode()).hexdigest()
        assert left.value.string_value == digest


def test_what_has_no_such_name_is_not_read() -> None:
    assert (
        Redaction([("zz", "drop")]).apply(b"\x32\x05\x0a\x09a", LOG_RECORD) == b"\x32\x05\x0a\x09a"
    )


def test_values_to_hash_and_names_are_looked_at_with_pauses() -> None:
    pauses: list[int] = []
    value = field_bytes(b"\x12", field_bytes(b"\x0a", b"v" * 5_000))
    record = field_bytes(b"\x32", field_bytes(b"\x0a", b"a") + value) * 20
    names = [(f"b{number}", "drop") for number in range(30)]
    Redaction([*names, ("a", "hash")]).apply(record, LOG_RECORD, lambda: pauses.append(1))
    assert len(pauses) == 31 + 20
