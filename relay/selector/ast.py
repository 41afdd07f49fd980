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


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector. ``warnings`` name what was tolerated (typographic quotes, for example)."""

    groups: tuple[tuple[Matcher, ...], ...]
    warnings: tuple[str, ...] = field(default=(), compare=False)
