"""Fields that a message has more than once are read as the official classes merge them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs

from relay.codec.otlp.any_value import resource_attributes, text_of, texts_of, value_text
from relay.codec.otlp.envelope import scan
from relay.codec.otlp.record_fields import attributes_of, message_of
from relay.codec.protobuf import field_bytes
from tests.kit.examples import examples

BODY, ATTRIBUTE = b"\x2a", b"\x32"
SCALARS = [b"\x0a\x01x", b"\x0a\x00", b"\x10\x01", b"\x18\x07", b"\xf8\x3f\x01", b"\x3a\x01b", b""]


def joined(parts: st.SearchStrategy[bytes], most: int = 3) -> st.SearchStrategy[bytes]:
    """Return encoded fields, one behind the other."""
    return st.lists(parts, max_size=most).map(b"".join)


def named(tag: bytes, payload: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return a field with a payload."""
    return payload.map(lambda one: field_bytes(tag, one))


def pairs(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return attributes with up to three keys and values, in any order."""
    return joined(named(b"\x0a", st.sampled_from([b"a", b"b"])) | named(b"\x12", values))


VALUES = st.recursive(
    joined(st.sampled_from(SCALARS)),
    lambda inner: joined(
        named(b"\x2a", joined(named(b"\x0a", inner)))
        | named(b"\x32", joined(named(b"\x0a", pairs(inner))))
    ),
    max_leaves=4,
)


@examples(300)
@given(joined(named(BODY, VALUES) | named(ATTRIBUTE, pairs(VALUES).filter(bool)), 4))
def test_bodies_and_attributes_of_a_record(record: bytes) -> None:
    message = field_bytes(b"\x12", record)
    envelope = scan(field_bytes(b"\x0a", field_bytes(b"\x12", message)))
    expected = LogRecord.FromString(record)
    found = texts_of(attributes_of(envelope, 0, 6), "a record")
    assert found == [(one.key, value_text(one.value)) for one in expected.attributes]
    assert text_of(message_of(envelope, 0, 5) or b"") == value_text(expected.body)


@examples(300)
@given(joined(named(b"\x0a", joined(named(b"\x0a", pairs(VALUES).filter(bool))))))
def test_attributes_of_a_resource(head: bytes) -> None:
    expected = ResourceLogs.FromString(head).resource.attributes
    found = resource_attributes(head)
    assert found == [(one.key, value_text(one.value)) for one in expected]
