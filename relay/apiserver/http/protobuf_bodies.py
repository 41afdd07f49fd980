"""Read bodies of protobuf for the kinds that kubectl and helm send so.

These are Secret and Namespace (``kubectl create``), the reviews of ``kubectl auth``, and the
options of a deletion. Every other body is JSON. The envelope is ``k8s\\0`` and a
``runtime.Unknown``; field numbers are those of ``generated.proto``. Fields that only a server sets
are not read.
"""

from __future__ import annotations

import base64
from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError as ProtobufError

from relay.apiserver.merging.managed_fields import JsonObject

PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
_MAGIC: Final = b"k8s\0"
_PACKAGE: Final = "relay.kubernetes"
_FieldProto = descriptor_pb2.FieldDescriptorProto
_STRING, _BYTES, _BOOL = _FieldProto.TYPE_STRING, _FieldProto.TYPE_BYTES, _FieldProto.TYPE_BOOL
_MESSAGE: Final = _FieldProto.TYPE_MESSAGE

_MESSAGES: Final[dict[str, dict[str, tuple[int, Any, bool]]]] = {
    "TypeMeta": {"apiVersion": (1, _STRING, False), "kind": (2, _STRING, False)},
    "Unknown": {
        "typeMeta": (1, "TypeMeta", False),
        "raw": (2, _BYTES, False),
        "contentEncoding": (3, _STRING, False),
    },
    "TextEntry": {"key": (1, _STRING, False), "value": (2, _STRING, False)},
    "BytesEntry": {"key": (1, _STRING, False), "value": (2, _BYTES, False)},
    "OwnerReference": {
        "apiVersion": (5, _STRING, False),
        "kind": (1, _STRING, False),
        "name": (3, _STRING, False),
        "uid": (4, _STRING, False),
        "controller": (6, _BOOL, False),
        "blockOwnerDeletion": (7, _BOOL, False),
    },
    "ObjectMeta": {
        "name": (1, _STRING, False),
        "generateName": (2, _STRING, False),
        "namespace": (3, _STRING, False),
        "uid": (5, _STRING, False),
        "resourceVersion": (6, _STRING, False),
        "labels": (11, "TextEntry", True),
        "annotations": (12, "TextEntry", True),
        "ownerReferences": (13, "OwnerReference", True),
        "finalizers": (14, _STRING, True),
    },
    "Secret": {
        "metadata": (1, "ObjectMeta", False),
        "data": (2, "BytesEntry", True),
        "type": (3, _STRING, False),
        "stringData": (4, "TextEntry", True),
        "immutable": (5, _BOOL, False),
    },
    "NamespaceSpec": {"finalizers": (1, _STRING, True)},
    "Namespace": {"metadata": (1, "ObjectMeta", False), "spec": (2, "NamespaceSpec", False)},
    "ResourceAttributes": {
        "namespace": (1, _STRING, False),
        "verb": (2, _STRING, False),
        "group": (3, _STRING, False),
        "version": (4, _STRING, False),
        "resource": (5, _STRING, False),
        "subresource": (6, _STRING, False),
        "name": (7, _STRING, False),
    },
    "NonResourceAttributes": {"path": (1, _STRING, False), "verb": (2, _STRING, False)},
    "AccessReviewSpec": {
        "resourceAttributes": (1, "ResourceAttributes", False),
        "nonResourceAttributes": (2, "NonResourceAttributes", False),
    },
    "SelfSubjectAccessReview": {
        "metadata": (1, "ObjectMeta", False),
        "spec": (2, "AccessReviewSpec", False),
    },
    "RulesReviewSpec": {"namespace": (1, _STRING, False)},
    "SelfSubjectRulesReview": {
        "metadata": (1, "ObjectMeta", False),
        "spec": (2, "RulesReviewSpec", False),
    },
    "SelfSubjectReview": {"metadata": (1, "ObjectMeta", False)},
    "Preconditions": {"uid": (1, _STRING, False), "resourceVersion": (2, _STRING, False)},
    "DeleteOptions": {
        "preconditions": (2, "Preconditions", False),
        "propagationPolicy": (4, _STRING, False),
        "dryRun": (5, _STRING, True),
    },
}
"""Fields of each message: number, type or name of a message, and whether it is repeated."""

READABLE_KINDS: Final = frozenset(
    {
        "Secret",
        "Namespace",
        "SelfSubjectAccessReview",
        "SelfSubjectRulesReview",
        "SelfSubjectReview",
        "DeleteOptions",
    }
)


class UnreadableProtobufError(ValueError):
    """A body is not an object in protobuf that can be read."""


@cache
def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="relay/kubernetes.proto", package=_PACKAGE, syntax="proto2"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, is_repeated) in fields.items():
            made = message.field.add(name=field, number=number)
            made.label = _FieldProto.LABEL_REPEATED if is_repeated else _FieldProto.LABEL_OPTIONAL
            if isinstance(kind, str):
                made.type, made.type_name = _MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                made.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


def read_protobuf(body: bytes) -> JsonObject:
    """Return an object as JSON has it; raise UnreadableProtobufError."""
    if not body.startswith(_MAGIC):
        raise UnreadableProtobufError("the body does not begin with k8s and a zero byte")
    try:
        unknown = _classes()["Unknown"].FromString(body[len(_MAGIC) :])
        kind = unknown.typeMeta.kind
        if kind not in READABLE_KINDS or unknown.contentEncoding:
            raise UnreadableProtobufError(f"{kind or 'a kind without a name'} must be sent as JSON")
        message = _classes()[kind].FromString(unknown.raw)
    except (ProtobufError, UnicodeDecodeError) as error:
        raise UnreadableProtobufError("the body is not valid protobuf") from error
    made = {"apiVersion": unknown.typeMeta.apiVersion, "kind": kind, **_as_json(message)}
    made.setdefault("metadata", {})
    return made


def _as_json(message: Any) -> JsonObject:
    """Return the fields that are set; entries of maps become one object, as the last one wins."""
    found: JsonObject = {}
    fields = _MESSAGES[message.DESCRIPTOR.name]
    for field, value in message.ListFields():
        _, kind, is_repeated = fields[field.name]
        if kind == "TextEntry":
            found[field.name] = {entry.key: entry.value for entry in value}
        elif kind == "BytesEntry":
            found[field.name] = {
                entry.key: base64.b64encode(entry.value).decode() for entry in value
            }
        elif is_repeated:
            found[field.name] = [_as_json(one) if isinstance(kind, str) else one for one in value]
        elif isinstance(kind, str):
            found[field.name] = _as_json(value)
        elif value not in ("", b""):
            found[field.name] = value
    return found
