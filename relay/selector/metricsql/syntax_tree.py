"""Syntax tree of a selector. Offsets count characters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from relay.selector.matchers import Op


@dataclass(frozen=True, slots=True)
class Text:
    """A string literal, unquoted."""

    value: str
    offset: int


@dataclass(frozen=True, slots=True)
class TemplateName:
    """A bare name in place of a string: a WITH template that must be a string."""

    name: str
    offset: int


StringPart: TypeAlias = Text | TemplateName


@dataclass(frozen=True, slots=True)
class StringNode:
    """Strings and template names joined by ``+``; at least one."""

    parts: tuple[StringPart, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Condition:
    """``label op string`` inside braces; also the name before the braces, as ``__name__=``."""

    label: str
    op: Op
    value: StringNode
    offset: int


@dataclass(frozen=True, slots=True)
class Reference:
    """A name alone inside braces: a WITH template or, if ``quoted``, perhaps the metric's name."""

    name: str
    quoted: bool
    offset: int


Filter: TypeAlias = Condition | Reference


@dataclass(frozen=True, slots=True)
class SelectorNode:
    """``name{… or …}``. ``{}`` has no groups."""

    groups: tuple[tuple[Filter, ...], ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Call:
    """``name(arguments)``: a template function, or a function that no selector can contain."""

    name: str
    arguments: tuple[Node, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Sum:
    """``left + right`` inside a template or an argument: joined if both are strings."""

    left: Node
    right: Node
    offset: int


@dataclass(frozen=True, slots=True)
class Parentheses:
    """``(a, b, …)``; with one member the parentheses have no effect."""

    members: tuple[Node, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Definition:
    """``name = body`` or ``name(parameters) = body`` inside ``WITH (…)``."""

    name: str
    parameters: tuple[str, ...]
    body: Node
    offset: int


@dataclass(frozen=True, slots=True)
class With:
    """``WITH (definitions) body``."""

    definitions: tuple[Definition, ...]
    body: Node
    offset: int


@dataclass(frozen=True, slots=True)
class Foreign:
    """MetricsQL that is not a selector: an error unless it is in an unused template.

    ``what`` names it in messages, as in "a number".
    """

    what: str
    offset: int
    hint: str = ""


Node: TypeAlias = StringNode | SelectorNode | Call | Sum | Parentheses | With | Foreign
