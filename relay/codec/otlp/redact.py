"""Drop or hash attributes in encoded messages of OTLP; everything else stays byte for byte.

* Attributes are found by the numbers of the fields that lead to them (:data:`LOG_RECORD` and the
  like), wherever a message has some: of spans also those of events and links.
* A hashed value becomes a text: SHA-256 of its text, in hexadecimal.
* A name is matched exactly. A message in which no name occurs is returned as it is, unread.
* A message with over :data:`FIELDS_MAX` fields, those on the way included, is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal, TypeAlias

from relay.codec.otlp.any_value import LARGE_BYTES, text_of
from relay.codec.protobuf import BYTES, field_bytes, iter_fields, varint
from relay.codec.remote_write.v1 import no_pause
from relay.runtime.errors import DecodeError, TooLargeError

Action: TypeAlias = Literal["drop", "hash"]
Places: TypeAlias = "Mapping[int, Places]"
"""Field numbers: {} is one of attributes, anything else one of messages that have some."""

_ATTRIBUTES: Final[Places] = {}
# Field numbers of opentelemetry-proto: logs/v1, trace/v1, resource/v1 and common/v1.
LOG_RECORD: Final[Places] = {6: _ATTRIBUTES}
SPAN: Final[Places] = {9: _ATTRIBUTES, 11: {3: _ATTRIBUTES}, 13: {4: _ATTRIBUTES}}
RESOURCE_HEAD: Final[Places] = {1: {1: _ATTRIBUTES}}
SCOPE_HEAD: Final[Places] = {1: {3: _ATTRIBUTES}}

FIELDS_MAX: Final = 20_000
"""Fields of one message that is read, in 20 ms."""
_STEP: Final = 1024
"""Fields between two pauses."""
_SOUGHT_BYTES: Final = 1 << 16
"""A name is sought in a larger message between two pauses; up to 50 ms in 4 MiB."""
_HASHED_BYTES: Final = 1 << 20
"""Bytes that are hashed between two pauses: 5 ms."""

_KEY: Final = 1  # of KeyValue
_VALUE: Final = 2
_VALUE_TAG: Final = b"\x12"
_STRING_VALUE: Final = b"\x0a"  # of AnyValue


class _Fields:
    """The fields of one message, which are counted."""

    __slots__ = ("_count", "_data", "pause")

    def __init__(self, data: bytes, pause: Callable[[], None]) -> None:
        self._data = data
        self.pause = pause
        self._count = 0

    def of(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int, int]]:
        """Yield the fields of a part; see :func:`~relay.codec.protobuf.iter_fields`."""
        for field in iter_fields(self._data, start, stop):
            self._count += 1
            if not self._count % _STEP:
                self.pause()
                if self._count > FIELDS_MAX:
                    raise TooLargeError(f"over {FIELDS_MAX} fields in one message")
            yield field


class Redaction:
    """Rules for attributes, by name."""

    def __init__(self, rules: Iterable[tuple[str, Action]]) -> None:
        self._rules: Final = {name.encode(): action for name, action in rules}
        self._last: tuple[bytes, bytes | None] = b"", b""
        """The last head of a resource, and what it became, if anything: scopes come together."""

    def resource_head(self, head: bytes, pause: Callable[[], None]) -> bytes:
        """Return the head of a resource redacted. Raise DecodeError where it cannot be."""
        if self._last[0] is not head:
            try:
                self._last = head, self.apply(head, RESOURCE_HEAD, pause)
            except (DecodeError, TooLargeError):
                self._last = head, None
        made = self._last[1]
        if made is None:
            raise DecodeError("a resource cannot be redacted")
        return made

    def apply(self, data: bytes, places: Places, pause: Callable[[], None] = no_pause) -> bytes:
        """Return a message without what the rules drop, and with what they hash hashed.

        Raise DecodeError where a message on the way to an attribute cannot be read, TooLargeError
        for too many fields, and what ``pause`` raises.
        """
        if not self._occurs(data, pause):
            return data
        return self._rewritten(data, 0, len(data), places, _Fields(data, pause))

    def _occurs(self, data: bytes, pause: Callable[[], None]) -> bool:
        """Return whether one of the names is anywhere in a message."""
        if len(data) <= _SOUGHT_BYTES:
            return any(name in data for name in self._rules)
        for name in self._rules:
            pause()
            if name in data:
                return True
        return False

    def _rewritten(
        self, data: bytes, start: int, stop: int, places: Places, fields: _Fields
    ) -> bytes:
        parts: list[bytes] = []
        for number, wire_type, tag_at, payload, end in fields.of(start, stop):
            below = places.get(number) if wire_type == BYTES else None
            if below is None:
                parts.append(data[tag_at:end])
            elif below:
                inner = self._rewritten(data, payload, end, below, fields)
                parts.append(field_bytes(varint(number << 3 | BYTES), inner))
            else:
                parts.append(self._attribute(data, number, tag_at, payload, end, fields))
        return b"".join(parts)

    def _attribute(
        self, data: bytes, number: int, tag_at: int, payload: int, end: int, fields: _Fields
    ) -> bytes:
        key, values, others = b"", [], []
        for own, wire_type, own_tag, start, stop in fields.of(payload, end):
            if own == _VALUE and wire_type == BYTES:
                values.append(data[start:stop])  # of several the value is merged
                continue
            if own == _KEY and wire_type == BYTES:
                key = data[start:stop]
            others.append(data[own_tag:stop])
        action = self._rules.get(key)
        if action is None:
            return data[tag_at:end]
        if action == "drop":
            return b""
        value = values[0] if len(values) == 1 else b"".join(values)
        if len(value) > LARGE_BYTES:
            fields.pause()
        digest = _digest(text_of(value, fields.pause).encode(), fields.pause)
        others.append(field_bytes(_VALUE_TAG, field_bytes(_STRING_VALUE, digest)))
        return field_bytes(varint(number << 3 | BYTES), b"".join(others))

    def __repr__(self) -> str:
        return f"<Redaction of {len(self._rules)} attributes>"


def _digest(data: bytes, pause: Callable[[], None]) -> bytes:
    """Return the SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    for start in range(0, len(data), _HASHED_BYTES):
        if start:
            pause()
        digest.update(data[start : start + _HASHED_BYTES])
    return digest.hexdigest().encode()
