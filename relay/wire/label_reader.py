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
* What follows from names alone, and where the tail begins, is worked out once for all series whose
  labels have them: their *shape*.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any, Final, TypeAlias

from relay.wire.label_fields import (
    KnownFields,
    LabelReaderStatistics,
    OddFieldError,
    label_field,
)
from relay.wire.remote_write import parse_labels

CUTS_MAX: Final = 4_096
"""Ways to cut a key that are remembered, some 1.5 KB each, and 5 KB at the worst."""

SHAPES_MAX: Final = 2_048
"""Shapes that are remembered, some 2 KB each for a dozen labels; at the limit all are forgotten."""

NAMES_CHARS_MAX: Final = 2_048
"""Shapes of longer names, all together, are worked out anew each time, like those of too many."""

PICKS_MAX: Final = 32
"""Sets of labels that a shape can find at once; at the limit all are forgotten."""

TAIL_FIELDS_MIN: Final = 3
"""A tail of fewer fields is not worth the comparison."""

_NAME: Final = "__name__"

Cut = Callable[[bytes], tuple[bytes, ...]]
"""Divides a key of one length into pieces."""


_Values: TypeAlias = tuple[str | None, ...]
_Pick: TypeAlias = Callable[[_Values], _Values]


class Shape:
    """What the labels of series are called, in wire order; the last of them, from ``split`` on, are
    a tail's.

    ``is_good``: every name is given once, one is a metric's, and they are not too many. ``form`` is
    for whoever translates them.
    """

    __slots__ = ("_fewer", "form", "is_good", "name_at", "names", "picks", "places", "split")

    def __init__(self, names: tuple[str, ...], split: int, labels_max: int) -> None:
        self.names = names
        self.split = split
        self.places = {name: at for at, name in enumerate(names)}
        self.is_good = len(self.places) == len(names) <= labels_max and _NAME in self.places
        self.name_at = self.places.get(_NAME, -1)
        self.form: Any = None
        self.picks: dict[tuple[str, ...], _Pick] = {}
        """What :meth:`pick` made."""
        self._fewer: dict[frozenset[str], tuple[Shape, list[int]]] = {}

    def pick(self, names: tuple[str, ...]) -> _Pick:
        """Make what takes the values of these labels out of all values of a series, behind which
        None stands for labels that are not there."""
        if len(self.picks) >= PICKS_MAX:
            self.picks.clear()
        pick = self.picks[names] = _picker([self.places.get(name, -1) for name in names])
        return pick

    def without(self, names: frozenset[str]) -> tuple[Shape, list[int]]:
        """The shape of a good one's series without the labels of these names, and the places of
        the others."""
        fewer = self._fewer.get(names)
        if fewer is None:
            if len(self._fewer) >= PICKS_MAX:
                self._fewer.clear()
            places = [at for at, name in enumerate(self.names) if name not in names]
            kept = tuple([self.names[at] for at in places])
            fewer = self._fewer[names] = Shape(kept, len(kept), len(kept)), places
        return fewer


def _picker(places: list[int]) -> _Pick:
    if len(places) > 1:
        return itemgetter(*places)
    if not places:
        return lambda _: ()
    (place,) = places  # of one place, itemgetter gives the item itself
    return lambda values: (values[place],)


class Tail:
    """The last label fields of a key, and of others that end alike; none of them is one, too.

    ``key`` are the fields as they stand there, ``attributes`` each as a number point's attribute.
    ``values`` end with None. ``shapes`` are those of the series with this tail, by the names of
    their other labels. ``encoded`` is for whoever translates them.
    """

    __slots__ = ("attributes", "encoded", "fields", "key", "names", "shapes", "values")

    def __init__(
        self,
        fields: tuple[bytes, ...] = (),
        names: tuple[str, ...] = (),
        values: tuple[str | None, ...] = (None,),
        attributes: tuple[bytes, ...] = (),
    ) -> None:
        self.key = b"".join(fields)
        self.fields = fields
        self.names = names
        self.values = values
        self.attributes = attributes
        self.shapes: dict[tuple[str, ...], Shape] = {}
        self.encoded: bytes | None = None


class SeriesLabels(Mapping[str, str]):
    """Labels by name, in wire order. ``fields`` are the same as TimeSeries.labels fields, one for
    each, all written in the usual way.

    ``name`` is the metric's. ``attributes`` are those before the tail as fields of a number point,
    None for labels that were read with care. ``first`` and ``values_`` are the reader's: the fields
    before the tail, and all values with None behind them.
    """

    __slots__ = ("attributes", "first", "name", "shape", "tail", "values_")

    # Made by _labels(): in Python, a call of a class with an __init__ takes as long as all that.
    attributes: tuple[bytes, ...] | None
    first: tuple[bytes, ...]
    name: str
    shape: Shape
    tail: Tail
    values_: _Values

    @property
    def fields(self) -> tuple[bytes, ...]:
        """See the class."""
        return self.first + self.tail.fields

    def values_of(self, names: tuple[str, ...]) -> _Values:
        """The values of several labels, None for what is not there."""
        shape = self.shape
        return (shape.picks.get(names) or shape.pick(names))(self.values_)

    def without(self, names: Iterable[str]) -> SeriesLabels:
        """A copy that lacks the labels of these names."""
        shape, places = self.shape.without(frozenset(names))
        fields = self.fields
        attributes = self.attributes
        if attributes is not None:
            every = attributes + self.tail.attributes
            attributes = tuple([every[at] for at in places])
        values = [self.values_[at] for at in places]
        first = tuple([fields[at] for at in places])
        return _labels(shape, first, (*values, None), attributes, Tail())

    def __getitem__(self, name: str) -> str:
        value = self.values_[self.shape.places[name]]
        assert value is not None
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """As of a dict."""
        at = self.shape.places.get(name)
        return default if at is None else self.values_[at]

    def __contains__(self, name: object) -> bool:
        return name in self.shape.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.shape.names)

    def __len__(self) -> int:
        return len(self.shape.names)

    def __repr__(self) -> str:
        return repr(dict(self))


class LabelReader:
    """:func:`~relay.wire.remote_write.parse_labels` for many keys, with the same results and the
    same errors.

    A field that is known costs a slice and a look-up instead of a decoder. What is known is
    forgotten all at once when it takes too much: then it is soon learnt again.
    """

    __slots__ = (
        "_bytes_max",
        "_cuts",
        "_known",
        "_labels_max",
        "_last",
        "_look_up",
        "_no_tail",
        "_shapes",
        "_sizes",
        "_tail",
    )

    def __init__(self, *, labels_max: int, bytes_max: int) -> None:
        self._labels_max = labels_max
        self._bytes_max = bytes_max
        self._known = KnownFields()
        self._look_up = self._known.__getitem__
        self._cuts: dict[int, Cut] = {}
        self._sizes: dict[int, tuple[int, ...]] = {}
        self._shapes: dict[tuple[tuple[str, ...], int], Shape] = {}
        self._tail = self._no_tail = Tail()
        self._last: tuple[bytes, ...] = ()

    def read(self, key: bytes) -> SeriesLabels:
        """The labels by name, in wire order; raises as :func:`parse_labels` does."""
        known = self._look_up
        tail = self._tail
        head = key.removesuffix(tail.key)
        if head is key:
            tail = self._no_tail
        try:
            # Names differ in length more than anything, and nearly always come first.
            likeness = len(head) << 8 | head[1]
            cut = self._cuts.get(likeness, _divided)
            fields = cut(head)
            try:
                names, values, attributes = zip(*map(known, fields))  # noqa: B905 - a third faster
            except OddFieldError:
                if cut is _divided:
                    raise
                cut = _divided  # it was a wrong guess
                fields = cut(head)
                names, values, attributes = zip(*map(known, fields))  # noqa: B905 - a third faster
        except (IndexError, OddFieldError):  # the first: the key ends within a length
            return self._read_carefully(key)
        if cut is _divided and len(fields) <= self._labels_max:
            self._remember_cut(likeness, fields)
        shape = tail.shapes.get(names)
        if shape is None:
            shape = self._learn_shape(names, tail)
        if not shape.is_good or len(key) > self._bytes_max:
            return self._read_carefully(key)
        # As _labels() does it; a call would take as long as all that.
        labels = SeriesLabels()
        labels.shape = shape
        labels.first = fields
        labels.values_ = values = values + tail.values
        labels.attributes = attributes
        labels.tail = tail
        labels.name = values[shape.name_at]
        if tail is self._no_tail:
            self._remember_tail(labels)
        return labels

    def statistics(self) -> LabelReaderStatistics:
        """A snapshot."""
        known = self._known
        return LabelReaderStatistics(len(known), known.size, known.emptied)

    def _learn_shape(self, names: tuple[str, ...], tail: Tail) -> Shape:
        """The shape of series whose labels before the tail have these names."""
        key = (names + tail.names, len(names))
        shape = self._shapes.get(key)
        if shape is None and (
            len(key[0]) > self._labels_max or sum(map(len, key[0])) > NAMES_CHARS_MAX
        ):
            return Shape(*key, self._labels_max)
        if shape is None:
            if len(self._shapes) >= SHAPES_MAX:
                self._shapes.clear()
            shape = self._shapes[key] = Shape(*key, self._labels_max)
        if len(tail.shapes) >= SHAPES_MAX:
            tail.shapes.clear()
        tail.shapes[names] = shape
        return shape

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
            known = map(self._look_up, fields[-count:])
            names, values, attributes = zip(*known, strict=True)
            self._tail = Tail(fields[-count:], names, (*values, None), attributes)

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
        return _labels_of(
            dict(parse_labels(key, labels_max=self._labels_max, bytes_max=self._bytes_max))
        )

    def __repr__(self) -> str:
        return f"<LabelReader {len(self._known)} fields>"


def _labels(
    shape: Shape,
    first: tuple[bytes, ...],
    values: _Values,
    attributes: tuple[bytes, ...] | None,
    tail: Tail,
) -> SeriesLabels:
    labels = SeriesLabels()
    labels.shape = shape
    labels.first = first
    labels.values_ = values
    labels.attributes = attributes
    labels.tail = tail
    labels.name = values[shape.name_at]  # type: ignore[assignment]  # a good shape has one
    return labels


def _labels_of(labels: dict[str, str]) -> SeriesLabels:
    """Any labels, however they were written."""
    fields = tuple([label_field(name, value) for name, value in labels.items()])
    shape = Shape(tuple(labels), len(labels), len(labels))
    return _labels(shape, fields, (*labels.values(), None), None, Tail())


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
