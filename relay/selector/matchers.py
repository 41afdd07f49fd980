"""The meaning of a selector, independent of its notation.

A :class:`Selector` is a disjunction of groups; a group is a conjunction of matchers. A selector
without groups (``{}``, or the empty query of an Exporter) selects everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec

Op = Literal["=", "!=", "=~", "!~"]

NAME = "__name__"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label condition. ``label`` is ``__name__`` for the metric name; values are unescaped."""

    label: str
    op: Op
    value: str
    offset: int = field(default=-1, compare=False, repr=False)
    """Offset in the selector's text, in characters; -1 if unknown."""


class Remark(msgspec.Struct, frozen=True):
    """A warning; ``offset`` is the place in the selector's text in characters, -1 if unknown."""

    text: str
    offset: int = -1


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector. ``warnings`` name tolerated faults (typographic quotes, for example)."""

    groups: tuple[tuple[Matcher, ...], ...]
    warnings: tuple[str, ...] = field(default=(), compare=False)
    remarks: tuple[Remark, ...] = field(default=(), compare=False)
    """The warnings with their places, and remarks on probable mistakes that only the text shows."""
