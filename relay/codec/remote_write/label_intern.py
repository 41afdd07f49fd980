"""Intern label fields as senders write them (dictionary encoding).

* Most series share all but one or two label fields with other series, so whole encoded fields are
  mapped to (name, value), and all series that :mod:`relay.codec.remote_write.label_parser` reads
  share the texts.
* A new value usually has a known *head*: the bytes before the value (tags, lengths, name). If the
  head is known and the field has the size it implies, only the value is parsed.
* Values of a head that has more than :data:`VALUES_MAX` of them are not interned: they are likely
  counters that never repeat.
"""

from __future__ import annotations

import sys
from typing import Final, TypeAlias

import msgspec

from relay.codec.protobuf import field_bytes

KNOWN_FIELDS_BYTES_MAX: Final = 32 * 1024 * 1024
"""Estimated memory of a LabelParser's interned fields, in bytes; some 70,000 usual fields."""
KNOWN_FIELD_BYTES_MAX: Final = 512
"""Longest label field that is interned, in bytes."""
_KNOWN_FIELD_OVERHEAD_BYTES: Final = 300
"""Estimated bytes per interned field: three objects and a dictionary entry, without contents."""
HEADS_MAX: Final = 4_096
"""Most known heads, about 300 bytes each; at the limit all are forgotten."""
VALUES_MAX: Final = 8_192
"""Most interned values per head; others are parsed each time."""

_NAME_TAG: Final = b"\x0a"  # Label.name (1), and TimeSeries.labels (1) around both
_VALUE_TAG: Final = b"\x12"  # Label.value (2)
_SHORT_BYTES: Final = 128  # a field up to this size has lengths of one byte each
_NAME_TAG_BYTE: Final = 0x0A
_VALUE_TAG_BYTE: Final = 0x12


class LabelReaderStatistics(msgspec.Struct, frozen=True):
    """Interned ``fields`` and their estimated ``bytes``; ``emptied`` counts resets of the table."""

    fields: int
    bytes: int
    emptied: int


class OddFieldError(Exception):
    """Report a label field that is faulty or not in canonical encoding."""


KnownLabel: TypeAlias = tuple[str, str]
"""Label name and value."""


class _Head:
    """Bytes before the value, for fields of one ``size``; room for ``values_left`` values."""

    __slots__ = ("name", "size", "values_left")

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.values_left = VALUES_MAX


class LabelInterner(dict[bytes, KnownLabel]):
    """Map encoded label fields to (name, value); a missing field is parsed and interned.

    Raise OddFieldError for a field that is not in canonical encoding.
    """

    __slots__ = ("_heads", "emptied", "size")

    def __init__(self) -> None:
        self.size = 0
        self.emptied = 0
        self._heads: dict[bytes, _Head] = {}

    def __missing__(self, field: bytes) -> KnownLabel:
        try:
            value_at = field[3] + 6
        except IndexError:
            raise OddFieldError from None
        head = self._heads.get(field[:value_at])
        if head is None or head.size != len(field):
            return self._learn(field)
        text = field[value_at:]
        try:
            label = head.name, text.decode()
        except UnicodeDecodeError:
            raise OddFieldError from None
        if head.values_left:
            head.values_left -= 1
            self._remember(field, label)
        return label

    def _learn(self, field: bytes) -> KnownLabel:
        """Parse a field with an unknown head."""
        pair = _canonical_label(field)
        if pair is None:
            raise OddFieldError
        size = len(field)
        if size <= KNOWN_FIELD_BYTES_MAX:
            self._remember(field, pair)
        if size < _SHORT_BYTES:
            if len(self._heads) >= HEADS_MAX:
                self._heads.clear()
            self._heads[field[: field[3] + 6]] = _Head(pair[0], size)
        return pair

    def _remember(self, field: bytes, label: KnownLabel) -> None:
        taken = _KNOWN_FIELD_OVERHEAD_BYTES + 2 * len(field)
        self.size += taken
        if self.size > KNOWN_FIELDS_BYTES_MAX:
            self.clear()
            self._heads.clear()
            self.size = taken
            self.emptied += 1
        self[field] = label


def label_field(name: str, value: str) -> bytes:
    """Encode a label as a TimeSeries.labels field in canonical form."""
    return field_bytes(
        _NAME_TAG,
        field_bytes(_NAME_TAG, name.encode()) + field_bytes(_VALUE_TAG, value.encode()),
    )


def _canonical_label(field: bytes) -> tuple[str, str] | None:
    """Return name and value of a TimeSeries.labels field in canonical encoding; None for any other.

    Canonical: name first, then value, neither empty, minimal lengths below 2**14.
    """
    end = len(field)
    try:
        value_tag_at = field[3] + 4
        if (
            # The common case: all lengths take one byte.
            end < 130
            and field[1] + 2 == end == field[value_tag_at + 1] + value_tag_at + 2
            and field[0] == field[2] == _NAME_TAG_BYTE
            and field[value_tag_at] == _VALUE_TAG_BYTE
            and 4 < value_tag_at < end - 2
        ):
            return (
                sys.intern(field[4:value_tag_at].decode()),  # names are few and looked up often
                field[value_tag_at + 2 :].decode(),
            )
        size, start = _short_length(field, 1)
        name_size, name_at = _short_length(field, start + 1)
        value_tag_at = name_at + name_size
        value_size, value_at = _short_length(field, value_tag_at + 1)
        if (
            start + size == value_at + value_size == end
            and field[0] == field[start] == _NAME_TAG_BYTE
            and field[value_tag_at] == _VALUE_TAG_BYTE
            and name_size
            and value_size
        ):
            return sys.intern(field[name_at:value_tag_at].decode()), field[value_at:].decode()
    except (IndexError, UnicodeDecodeError):
        pass  # the validating decoder reports the fault
    return None


def _short_length(field: bytes, pos: int) -> tuple[int, int]:
    """Read a minimal length of one or two bytes. Raise IndexError for any other."""
    size = field[pos]
    if size < 128:
        return size, pos + 1
    high = field[pos + 1]
    if 0 < high < 128:
        return size + (high << 7) - 128, pos + 2
    raise IndexError
