"""The prefix of a series' points, made of its labels as they were sent.

This is the readable reference; ``forms.pyx`` is the same on raw memory (:mod:`relay.hot_path`).
Rules:

* Of the names of a series' labels it is remembered which of them are attributes, and in which
  order: a *form*.
* Each label field's attribute is remembered, and that of a target's labels together, its tail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Final, TypeAlias

from relay.pipeline.attribute_names import FORMS_MAX, attribute_places
from relay.wire.label_reader import SeriesLabels, Tail
from relay.wire.otlp import PointAttributes, finish_prefix

BEFORE_MAX: Final = 16
"""Lengths of a beginning that a form remembers."""

_Pick: TypeAlias = Callable[[tuple[bytes, ...]], Iterable[bytes]]


class Forms:
    """Writes prefixes; remembers :data:`~relay.pipeline.attribute_names.FORMS_MAX` forms."""

    __slots__ = ("_attribute_of", "_forms")

    def __init__(self) -> None:
        self._forms: dict[tuple[str, ...], _Form | None] = {}
        self._attribute_of: Callable[[bytes], bytes] = PointAttributes().__getitem__

    def prefix(self, labels: SeriesLabels, promoted: frozenset[str]) -> bytes | None:
        """What :func:`~relay.wire.otlp.point_prefix` makes of a series' attributes; None where
        that takes a translation, because other labels than job and instance go elsewhere."""
        names = tuple(labels)
        form = self._forms[names] if names in self._forms else self._learn(names)
        if form is None or (promoted and not promoted.isdisjoint(names)):
            return None
        tail = labels.tail
        if tail is None or not form.is_ordered:
            return finish_prefix(b"".join(map(self._attribute_of, form.all(labels.fields))))
        fields = form.before(len(names) - len(tail.fields))(labels.fields)
        rest = tail.attributes
        if rest is None:
            rest = tail.attributes = self._tail_attributes(tail)
        return finish_prefix(b"".join((*map(self._attribute_of, fields), rest)))

    def _learn(self, names: tuple[str, ...]) -> _Form | None:
        if len(self._forms) >= FORMS_MAX:
            self._forms.clear()
        places = attribute_places(names)
        form = self._forms[names] = None if places is None else _Form(places)
        return form

    def _tail_attributes(self, tail: Tail) -> bytes:
        """The attributes of a tail's labels, in the order in which these stand."""
        places = attribute_places(tuple(tail.labels))
        assert places is not None, "a form that takes more than names has no tail"
        return b"".join([self._attribute_of(tail.fields[place]) for place in sorted(places)])

    def __len__(self) -> int:
        return len(self._forms)

    def __repr__(self) -> str:
        return f"<Forms of {len(self)} sets of names>"


class _Form:
    """Which label fields become attributes, for series with the same names in the same order.

    ``all`` picks them sorted by name. ``is_ordered`` says that they stand in that order anyway:
    then :meth:`before` picks those among the first fields.
    """

    __slots__ = ("_before", "_places", "all", "is_ordered")

    def __init__(self, places: list[int]) -> None:
        self._places = places
        self._before: dict[int, _Pick] = {}
        self.all = _pick(places)
        self.is_ordered = places == sorted(places)

    def before(self, count: int) -> _Pick:
        """Picks those among the first ``count`` fields."""
        pick = self._before.get(count)
        if pick is None:
            if len(self._before) >= BEFORE_MAX:
                self._before.clear()
            pick = self._before[count] = _pick([at for at in self._places if at < count])
        return pick


def _pick(places: list[int]) -> _Pick:
    if len(places) < 2:  # of one place, itemgetter gives the item itself
        return lambda fields: [fields[at] for at in places]
    return itemgetter(*places)
