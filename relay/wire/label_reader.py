"""Labels of new series, read at the price of what is new in them.

This is the readable reference; ``label_reader.pyx`` is the same on raw memory
(:mod:`relay.hot_path`). Rules:

* Most series share all but one or two of their label fields with another one. So whole fields are
  remembered, as long as they are written in the one way in which senders write them; a key with
  anything else in it is left to :func:`~relay.wire.remote_write.parse_labels`.
* Where one field ends and the next one begins is guessed from the last keys of the same length and
  cut in one go. A guess needs no proof of its own: pieces that are all label fields, and all of the
  key, are the key's label fields.
* New series come in the order of their targets, whose labels mostly stand together at the end. So
  the fields in which one key ended like the one before, its *tail*, are recognised at once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container
from typing import Final

from relay.wire.label_fields import KnownFields, LabelReaderStatistics, OddFieldError, label_field
from relay.wire.remote_write import parse_labels

CUTS_MAX: Final = 4_096
"""Ways to cut a key that are remembered, some 1.5 KB each, and 5 KB at the worst."""

TAIL_FIELDS_MIN: Final = 3
"""A tail of fewer fields is not worth the comparison."""

_NAME: Final = "__name__"

Cut = Callable[[bytes], tuple[bytes, ...]]
"""Divides a key of one length into pieces."""


class Tail:
    """The last label fields of a key, and of others that end alike.

    ``key`` are the fields as they stand there. ``attributes`` is for whoever translates them.
    """

    __slots__ = ("attributes", "fields", "key", "labels")

    def __init__(self, fields: tuple[bytes, ...], labels: dict[str, str]) -> None:
        self.key = b"".join(fields)
        self.fields = fields
        self.labels = labels
        self.attributes: bytes | None = None


class SeriesLabels(dict[str, str]):
    """Labels by name, in wire order. ``fields`` are the same as TimeSeries.labels fields, one for
    each, all written in the usual way; ``tail`` the last of them, if many others share these."""

    __slots__ = ("fields", "tail")

    fields: tuple[bytes, ...]
    tail: Tail | None

    def without(self, names: Container[str]) -> SeriesLabels:
        """A copy that lacks the labels of these names."""
        kept = [(item, field) for item, field in zip(self.items(), self.fields, strict=True)]
        kept = [one for one in kept if one[0][0] not in names]
        fewer = SeriesLabels(item for item, _ in kept)
        fewer.fields = tuple(field for _, field in kept)
        fewer.tail = None
        return fewer


class LabelReader:
    """:func:`~relay.wire.remote_write.parse_labels` for many keys, with the same results and the
    same errors.

    A field that is known costs a slice and a look-up instead of a decoder. What is known is
    forgotten all at once when it takes too much: then it is soon learnt again.
    """

    __slots__ = ("_bytes_max", "_cuts", "_known", "_labels_max", "_last", "_sizes", "_tail")

    def __init__(self, *, labels_max: int, bytes_max: int) -> None:
        self._labels_max = labels_max
        self._bytes_max = bytes_max
        self._known = KnownFields()
        self._cuts: dict[int, Cut] = {}
        self._sizes: dict[int, tuple[int, ...]] = {}
        self._tail = Tail((), {})
        self._last: tuple[bytes, ...] = ()

    def read(self, key: bytes) -> SeriesLabels:
        """The labels by name, in wire order; raises as :func:`parse_labels` does."""
        known = self._known.__getitem__
        tail: Tail | None = self._tail
        assert tail is not None
        head = key
        if tail.fields and key.endswith(tail.key):
            head = key[: -len(tail.key)]
        else:
            tail = None
        labels: SeriesLabels | None = None
        try:
            # Names differ in length more than anything, and nearly always come first.
            likeness = len(head) << 8 | head[1]
            if likeness in self._cuts:
                try:
                    fields = self._cuts[likeness](head)
                    labels = SeriesLabels(map(known, fields))
                except OddFieldError:
                    pass  # a wrong guess
            if labels is None:
                fields = _divided(head)
                labels = SeriesLabels(map(known, fields))
                if len(fields) <= self._labels_max:
                    self._remember_cut(likeness, fields)
        except (IndexError, OddFieldError):  # the first: the key ends within a length
            return self._read_carefully(key)
        if tail is not None:
            labels.update(tail.labels)
            fields += tail.fields
        if (
            not len(labels) == len(fields) <= self._labels_max
            or _NAME not in labels
            or len(key) > self._bytes_max
        ):
            return self._read_carefully(key)
        labels.fields = fields
        labels.tail = tail
        if tail is None:
            self._remember_tail(labels)
        return labels

    def statistics(self) -> LabelReaderStatistics:
        """A snapshot."""
        known = self._known
        return LabelReaderStatistics(len(known), known.size, known.emptied)

    def _remember_tail(self, labels: SeriesLabels) -> None:
        """Expect that other keys end like this one as far as the one before did."""
        fields = labels.fields
        count = 0
        for field, other in zip(reversed(fields), reversed(self._last), strict=False):
            if field != other:
                break
            count += 1
        self._last = fields
        if TAIL_FIELDS_MIN <= count < len(fields):
            self._tail = Tail(fields[-count:], dict(list(labels.items())[-count:]))

    def _remember_cut(self, likeness: int, fields: tuple[bytes, ...]) -> None:
        """Guess that keys like this one are cut like it, where it is the second one in a row."""
        sizes = tuple(map(len, fields))
        if self._sizes.get(likeness) != sizes:
            if len(self._sizes) >= CUTS_MAX:
                self._sizes.clear()
            self._sizes[likeness] = sizes
            return
        if len(self._cuts) >= CUTS_MAX:
            self._cuts.clear()
        self._cuts[likeness] = struct.Struct("".join([f"{size}s" for size in sizes])).unpack

    def _read_carefully(self, key: bytes) -> SeriesLabels:
        pairs = parse_labels(key, labels_max=self._labels_max, bytes_max=self._bytes_max)
        labels = SeriesLabels(pairs)
        labels.fields = tuple([label_field(name, value) for name, value in pairs])
        labels.tail = None
        return labels

    def __repr__(self) -> str:
        return f"<LabelReader {len(self._known)} fields>"


def _divided(key: bytes) -> tuple[bytes, ...]:
    """A key cut by the lengths that are in it. A piece that is cut short by the key's end is in no
    way a label field. Raises IndexError where the key ends within a length."""
    parts = []
    pos = 0
    end = len(key)
    while pos < end:
        size = key[pos + 1]
        stop = pos + size + (2 if size < 128 else (key[pos + 2] << 7) - 125)
        parts.append(key[pos:stop])
        pos = stop
    return tuple(parts)
