"""Label fields of keys, as senders write them, and what is remembered of them.

Most series share all but one or two of their label fields with another one, so whole fields are
remembered, as long as they are written in the one way in which senders write them, and their texts
are shared by all series that :mod:`relay.codec.remote_write.label_parser` reads.

A field whose value is new mostly has all that stands before the value in common with others, its
*head*: name, lengths and tags. Where that is known, and the field is as long as its head says, only
the value has to be read. A label with very many values of one length is likely to be a number that
goes on and on; to remember those that come then would cost more than to read them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final, TypeAlias

from relay.codec.protobuf import field_bytes

KNOWN_FIELDS_BYTES_MAX: Final = 32 * 1024 * 1024
"""What a LabelParser remembers, as an estimate of memory; some 70,000 fields of usual size."""
KNOWN_FIELD_BYTES_MAX: Final = 512
"""Longer label fields are read anew each time."""
_KNOWN_FIELD_OVERHEAD_BYTES: Final = 300
"""Of three objects and a dictionary entry, besides what is in them, twice the field."""
HEADS_MAX: Final = 4_096
"""Heads that are remembered, some 300 bytes each; at the limit all are forgotten."""
VALUES_MAX: Final = 8_192
"""Values behind one head that are remembered; others are read anew each time."""

_NAME_TAG: Final = b"\x0a"  # Label.name (1), and TimeSeries.labels (1) around both
_VALUE_TAG: Final = b"\x12"  # Label.value (2)
_SHORT_BYTES: Final = 128  # of a field whose lengths take one byte each
_NAME_TAG_BYTE: Final = 0x0A
_VALUE_TAG_BYTE: Final = 0x12


@dataclass(frozen=True, slots=True)
class LabelReaderStatistics:
    """``fields`` remembered now and what they take, about; how often all were forgotten."""

    fields: int
    bytes: int
    emptied: int


class OddFieldError(Exception):
    """A label field is faulty or not written as usual."""


KnownLabel: TypeAlias = tuple[str, str]
"""A label's name and its value."""


class _Head:
    """What stands before the values of fields of one ``size``. ``room`` is for so many more."""

    __slots__ = ("name", "room", "size")

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.room = VALUES_MAX


class LabelInterner(dict[bytes, KnownLabel]):
    """What there is to know of a label field. One that is not there is read and remembered; raises
    OddFieldError."""

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
        if head.room:
            head.room -= 1
            self._remember(field, label)
        return label

    def _learn(self, field: bytes) -> KnownLabel:
        """Read a field whose head is not known."""
        pair = _usual_label(field)
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
    """The TimeSeries.labels field of a label as senders usually write it."""
    return field_bytes(
        _NAME_TAG,
        field_bytes(_NAME_TAG, name.encode()) + field_bytes(_VALUE_TAG, value.encode()),
    )


def _usual_label(field: bytes) -> tuple[str, str] | None:
    """Name and value of a TimeSeries.labels field: name first, then value, both there, lengths as
    short as they can be and below 2**14. None for any other."""
    end = len(field)
    try:
        value_tag_at = field[3] + 4
        if (
            # Nearly all are like this: all lengths take one byte.
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
        pass  # the careful decoder says what is wrong
    return None


def _short_length(field: bytes, pos: int) -> tuple[int, int]:
    """A length of one byte, or two where it needs them; beyond the field's end for any other."""
    size = field[pos]
    if size < 128:
        return size, pos + 1
    high = field[pos + 1]
    if 0 < high < 128:
        return size + (high << 7) - 128, pos + 2
    raise IndexError
