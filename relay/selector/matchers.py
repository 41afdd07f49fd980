"""What a selector means, free of how it was written.

A :class:`Selector` is a disjunction of groups; a group is a conjunction of matchers. A selector
without groups (``{}``, or the empty query of an Exporter) selects everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Op = Literal["=", "!=", "=~", "!~"]

NAME = "__name__"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label condition. ``label`` is ``__name__`` for the metric name; values are unescaped."""

    label: str
    op: Op
    value: str
    offset: int = field(default=-1, compare=False, repr=False)
    """Where it stands in the selector's text, -1 where that is not known."""


@dataclass(frozen=True, slots=True)
class Remark:
    """A warning; ``offset`` is the place in the selector's text, -1 where it is not known."""

    text: str
    offset: int = -1


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector. ``warnings`` name what was tolerated (typographic quotes, for example)."""

    groups: tuple[tuple[Matcher, ...], ...]
    warnings: tuple[str, ...] = field(default=(), compare=False)
    remarks: tuple[Remark, ...] = field(default=(), compare=False)
    """The warnings with their places, and what may be meant otherwise, as far as only the text can
    tell."""
