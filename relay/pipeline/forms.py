"""The prefix of a series' points, made of its labels as they were sent.

This is the readable reference; ``forms.pyx`` is the same on raw memory (:mod:`relay.hot_path`).
Rules:

* What becomes of labels by their names alone is worked out once for all series of a shape
  (:class:`~relay.wire.label_reader.Shape`): its *form*.
* The reader knows each label's attribute; those of a target's labels together are remembered with
  its tail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TypeAlias

from relay.pipeline.attribute_names import attribute_places
from relay.wire.label_reader import SeriesLabels, Shape, Tail
from relay.wire.otlp import TIME_TAG, finish_prefix, prefix_heads

_Pick: TypeAlias = Callable[[tuple[bytes, ...]], tuple[bytes, ...]]


class Forms:
    """Writes prefixes. Forms are kept with the shapes that they are of."""

    __slots__ = ("_learnt",)

    def __init__(self) -> None:
        self._learnt = 0

    def prefix(self, labels: SeriesLabels, promoted: frozenset[str]) -> bytes | None:
        """What :func:`~relay.wire.otlp.point_prefix` makes of a series' attributes; None where
        that takes a translation, because other labels than job and instance go elsewhere."""
        shape = labels.shape
        form = shape.form
        if form is None:
            form = shape.form = _Form(shape)
            self._learnt += 1
        attributes = labels.attributes
        if form.all is None or attributes is None:
            return None
        if promoted and not promoted.isdisjoint(shape.names):
            return None
        tail = labels.tail
        if form.before is None:
            return finish_prefix(b"".join(form.all(attributes + tail.attributes)))
        rest = tail.encoded
        if rest is None:
            rest = tail.encoded = _encoded(tail)
        # As finish_prefix does it, and copied once.
        before = b"".join(form.before(attributes))
        return b"".join((prefix_heads[len(before) + len(rest)], before, rest, TIME_TAG))

    def __repr__(self) -> str:
        return f"<Forms of {self._learnt} shapes>"


class _Form:
    """Which labels become attributes, for series of one shape.

    ``all`` picks them sorted by name, None where that takes more than names. Where they stand in
    that order anyway, ``before`` picks those before the tail.
    """

    __slots__ = ("all", "before")

    def __init__(self, shape: Shape) -> None:
        self.all: _Pick | None = None
        self.before: _Pick | None = None
        places = attribute_places(shape.names)
        if places is not None:
            self.all = _pick(places)
            if places == sorted(places):
                self.before = _pick([at for at in places if at < shape.split])


def _encoded(tail: Tail) -> bytes:
    """The attributes of a tail's labels, in the order in which these stand."""
    places = attribute_places(tail.names)
    assert places is not None, "a form that takes more than names has no tail"
    return b"".join([tail.attributes[place] for place in sorted(places)])


def _pick(places: Sequence[int]) -> _Pick:
    if len(places) < 2:  # of one place, itemgetter gives the item itself
        return lambda attributes: tuple([attributes[at] for at in places])
    first, last = places[0], places[-1] + 1
    if list(places) == list(range(first, last)):
        return itemgetter(slice(first, last))
    return itemgetter(*places)
