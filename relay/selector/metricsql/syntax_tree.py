"""Syntax tree of a selector. Offsets count characters."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from relay.selector.matchers import Op


class Text(msgspec.Struct, frozen=True):
    """A string literal, unquoted."""

    value: str
    offset: int


class TemplateName(msgspec.Struct, frozen=True):
    """A bare name in place of a string: a WITH template that must be a string."""

    name: str
    offset: int


StringPart: TypeAlias = Text | TemplateName


class StringNode(msgspec.Struct, frozen=True):
    """Strings and template names joined by ``+``; at least one."""

    parts: tuple[StringPart, ...]
    offset: int


class Condition(msgspec.Struct, frozen=True):
    """``label op string`` inside braces; also the name before the braces, as ``__name__=``."""

    label: str
    op: Op
    value: StringNode
    offset: int


class Reference(msgspec.Struct, frozen=True):
    """A name alone inside braces: a WITH template or, if ``quoted``, perhaps the metric's name."""

    name: str
    quoted: bool
    offset: int


Filter: TypeAlias = Condition | Reference


class SelectorNode(msgspec.Struct, frozen=True):
    """``name{… or …}``. ``{}`` has no groups."""

    groups: tuple[tuple[Filter, ...], ...]
    offset: int


class Call(msgspec.Struct, frozen=True):
    """``name(arguments)``: a template function, or a function that no selector can contain."""

    name: str
    arguments: tuple[Node, ...]
    offset: int


class Sum(msgspec.Struct, frozen=True):
    """``left + right`` inside a template or an argument: joined if both are strings."""

    left: Node
    right: Node
    offset: int


class Parentheses(msgspec.Struct, frozen=True):
    """``(a, b, …)``; with one member the parentheses have no effect."""

    members: tuple[Node, ...]
    offset: int


class Definition(msgspec.Struct, frozen=True):
    """``name = body`` or ``name(parameters) = body`` inside ``WITH (…)``."""

    name: str
    parameters: tuple[str, ...]
    body: Node
    offset: int


class With(msgspec.Struct, frozen=True):
    """``WITH (definitions) body``."""

    definitions: tuple[Definition, ...]
    body: Node
    offset: int


class Foreign(msgspec.Struct, frozen=True):
    """MetricsQL that is not a selector: an error unless it is in an unused template.

    ``what`` names it in messages, as in "a number".
    """

    what: str
    offset: int
    hint: str = ""


Node: TypeAlias = StringNode | SelectorNode | Call | Sum | Parentheses | With | Foreign
