"""Expand WITH templates of a syntax tree to groups of matchers, within limits.

Rules, after MetricsQL:

* A template sees the templates defined before it, never itself or later ones, so expansion ends.
  Inner names hide outer ones. Arguments are expanded by the caller.
* Inside braces a template must be ``{…}`` without metric name and without ``or``. Before braces it
  may have either; its conditions come first. As a value it must be a string.
* ``{"x"}`` is the template x if it exists, else the metric name x. A metric name that names a
  template without parameters is that template. ``ru``, ``ttf``, ``range_median`` and ``alias`` are
  built-in templates.
* Within a group, name equality comes first; two different ones are an error; duplicates are
  dropped. If all groups with a name equality agree on it, every group without one gets it. The
  label ``""`` means ``__name__``.
* Differences from metricsql v0.87: ``WITH (x={}) x{a="b"}`` keeps its condition, and an argument is
  not expanded again inside the function.
* Expansion can double with each template, so it is limited by a budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from relay.runtime.errors import SelectorError
from relay.selector.matchers import NAME, Matcher, Remark
from relay.selector.metricsql import hints
from relay.selector.metricsql.lexer import shorten
from relay.selector.metricsql.syntax_tree import (
    Call,
    Condition,
    Definition,
    Filter,
    Foreign,
    Node,
    Parentheses,
    Reference,
    SelectorNode,
    StringNode,
    Sum,
    TemplateName,
    Text,
    With,
)
from relay.selector.quoting import quoted_offset
from relay.selector.regex import compile_regex

DEFINITIONS_MAX: Final = 200
"""Most templates in one WITH."""
DEPTH_MAX: Final = 40
"""Deepest nesting of templates and expressions."""
STEPS_MAX: Final = 20_000
"""Most expressions and conditions visited, copies included."""
_NAMES_PER_STEP: Final = 32
"""Names of a scope that are copied for the price of one step."""
STRING_CHARS_MAX: Final = 64 * 1024
"""Most characters of all joined strings together."""
GROUPS_MAX: Final = 1_024
MATCHERS_MAX: Final = 4_096
"""Most matchers of all groups together."""
REGEX_COST_MAX: Final = 1_500
"""Most RE2 instructions of one regular expression. In the worst case each is visited for every
character of a value, 1 to 4 ns each: 30 ms for a value of 16 KiB. Usual ones have at most 88; a
class like ``\\pL`` has 1,300. Alternations of literals do not count."""
SELECTOR_COST_MAX: Final = 2_000
"""Most RE2 instructions of all regular expressions of a selector together."""

Group: TypeAlias = tuple[Matcher, ...]
Groups: TypeAlias = tuple[Group, ...]


class _Listed(msgspec.Struct, frozen=True):
    """Parentheses with other than one member, or inside a template."""

    members: tuple[_Value, ...]


class _Bound(msgspec.Struct, frozen=True):
    """A parameter bound to its expanded argument."""

    value: _Value


class _Template(msgspec.Struct, frozen=True):
    definition: Definition
    scope: _Scope


_Value: TypeAlias = "str | Groups | _Listed | Foreign"
_Scope: TypeAlias = "Mapping[str, _Template | _Bound]"


def _builtin(name: str, *parameters: str) -> _Template:
    body = Foreign(f"the built-in template {name}", 0)
    return _Template(Definition(name, parameters, body, 0), {})


_ACCEPTED: Final = 'only a series selector is accepted, as in name{label="value", other=~"pattern"}'

_BUILTINS: Final[_Scope] = {
    "ru": _builtin("ru", "freev", "maxv"),
    "ttf": _builtin("ttf", "freev"),
    "range_median": _builtin("range_median", "q"),
    "alias": _builtin("alias", "q", "name"),
}


def refusal(text: str, found: Foreign) -> SelectorError:
    """Return the error for MetricsQL that is not a selector."""
    hint = f"{found.hint}; {_ACCEPTED}" if found.hint else _ACCEPTED
    return SelectorError(f"found {found.what}", text=text, offset=found.offset, hint=hint)


def expand(text: str, node: Node) -> tuple[Groups, tuple[Remark, ...]]:
    """Evaluate the tree of ``text``. Raise SelectorError if it is no selector or over a limit."""
    expander = _Expander(text)
    return expander.selector(node), tuple(dict.fromkeys(expander.remarks))


class _Expander:
    def __init__(self, text: str) -> None:
        self._text = text
        self.remarks: list[Remark] = []
        self._steps = 0
        self._chars = 0
        self._depth = 0
        self._patterns: set[str] = set()
        self._cost = 0

    def selector(self, node: Node) -> Groups:
        value = self._value(node, _BUILTINS)
        while isinstance(value, _Listed) and len(value.members) == 1:
            value = value.members[0]
        if not isinstance(value, tuple):
            found = value
            if not isinstance(found, Foreign):
                hint = hints.value_hint(value) if isinstance(value, str) else ""
                found = Foreign(_describe(value), node.offset, hint)
            raise refusal(self._text, found)
        return tuple(tuple(map(_with_name_label, group)) for group in value)

    # -- expressions -------------------------------------------------------------------------------

    def _value(self, node: Node, scope: _Scope) -> _Value:
        self._spend(1, node.offset)
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._error(node.offset, f"templates are nested more than {DEPTH_MAX} deep")
        value = self._evaluate(node, scope)
        self._depth -= 1
        return value

    def _evaluate(self, node: Node, scope: _Scope) -> _Value:
        match node:
            case SelectorNode():
                return self._expand_name(node, self._groups(node, scope), scope)
            case StringNode():
                return self._string(node, scope)
            case With():
                for definition in node.definitions:
                    # Each definition keeps the scope of those before it.
                    template = _Template(definition, scope)
                    scope = self._extended(scope, {definition.name: template}, definition.offset)
                return self._value(node.body, scope)
            case Call():
                return self._call(node, scope)
            case Sum():
                left = self._value(node.left, scope)
                right = self._value(node.right, scope)
                if isinstance(left, str) and isinstance(right, str):
                    return self._join((left, right), node.offset)
                return Foreign("the binary operation +", node.offset)
            case Parentheses():
                return _Listed(tuple(self._value(member, scope) for member in node.members))
            case Foreign():
                return node

    def _call(self, node: Call, scope: _Scope) -> _Value:
        arguments = [self._value(argument, scope) for argument in node.arguments]
        template = scope.get(node.name)
        if template is None:
            return Foreign(f"the function call {shorten(node.name)}(…)", node.offset)
        return self._apply(template, node.name, arguments, node.offset)

    def _apply(
        self, template: _Template | _Bound, name: str, arguments: Sequence[_Value], offset: int
    ) -> _Value:
        wanted = () if isinstance(template, _Bound) else template.definition.parameters
        if len(wanted) != len(arguments):
            raise self._error(
                offset,
                f"template {shorten(name)} is given {len(arguments)} of {len(wanted)} arguments",
            )
        if isinstance(template, _Bound):
            return template.value
        scope = template.scope
        if wanted:
            bound = {key: _Bound(value) for key, value in zip(wanted, arguments, strict=True)}
            scope = self._extended(scope, bound, offset)
        return self._value(template.definition.body, scope)

    def _extended(
        self, scope: _Scope, names: Mapping[str, _Template | _Bound], offset: int
    ) -> _Scope:
        self._spend(1 + len(scope) // _NAMES_PER_STEP, offset)
        return {**scope, **names}

    def _string(self, node: StringNode, scope: _Scope) -> str:
        return self._join([self._part(part, scope) for part in node.parts], node.offset)

    def _part(self, part: Text | TemplateName, scope: _Scope) -> str:
        if isinstance(part, Text):
            return part.value
        template = scope.get(part.name)
        if template is None:
            raise self._error(
                part.offset,
                f"there is no template {shorten(part.name)}",
                f'if it is meant as a value, write "{shorten(part.name)}"',
            )
        value = self._apply(template, part.name, (), part.offset)
        if not isinstance(value, str):
            raise self._error(
                part.offset, f"template {shorten(part.name)} is {_describe(value)}, not a string"
            )
        return value

    def _join(self, parts: Sequence[str], offset: int) -> str:
        self._chars += sum(map(len, parts))
        if self._chars > STRING_CHARS_MAX:
            raise self._error(
                offset, f"templates expand to more than {STRING_CHARS_MAX} characters"
            )
        return "".join(parts)

    # -- selectors ---------------------------------------------------------------------------------

    def _groups(self, node: SelectorNode, scope: _Scope) -> Groups:
        groups: list[Group] = []
        names: set[str] = set()
        for filters in node.groups:
            group, name = self._group(filters, scope)
            if groups:
                self._remark_name(node.groups[len(groups) - 1][-1], filters, scope)
            groups.append(group)
            if name:
                names.add(name)
        if len(names) == 1:
            common = Matcher(NAME, "=", names.pop())
            groups = [
                group if any(matcher.label == NAME for matcher in group) else (common, *group)
                for group in groups
            ]
        return self._checked(groups, node.offset)

    def _remark_name(self, before: Filter, filters: Sequence[Filter], scope: _Scope) -> None:
        """Warn of ``label="a" or "b"``, where b is a metric name and not a second value."""
        alone = filters[0]
        if len(filters) > 1 or not isinstance(alone, Reference) or not alone.quoted:
            return
        if not isinstance(before, Condition) or before.label in (NAME, ""):
            return
        if before.op == "=" and alone.name not in scope:
            self.remarks.append(
                Remark(hints.or_value(before.label, before.value, alone.name), alone.offset)
            )

    def _group(self, filters: Sequence[Filter], scope: _Scope) -> tuple[Group, str]:
        """Return the matchers of one group, and the metric name it demands or ""."""
        name = ""
        names: list[Matcher] = []
        others: list[Matcher] = []
        for item in filters:
            matcher = self._matcher(item, scope)
            if isinstance(matcher, tuple):
                others.extend(matcher)
                continue
            self._spend(1, item.offset)
            if matcher.label != NAME or matcher.op != "=":
                others.append(matcher)
                continue
            if name not in ("", matcher.value):
                raise self._error(
                    item.offset,
                    f"two metric names in one group: {shorten(name)} and {shorten(matcher.value)}",
                    hints.TWO_NAMES if isinstance(item, Reference) else hints.ALTERNATIVES,
                )
            name = matcher.value
            names.append(matcher)
        return tuple(dict.fromkeys((*reversed(names), *others))), name

    def _matcher(self, item: Filter, scope: _Scope) -> Matcher | Group:
        if isinstance(item, Condition):
            return self._condition(item, scope)
        template = scope.get(item.name)
        if template is None:
            if item.quoted:
                return Matcher(NAME, "=", item.name, item.offset)
            raise self._error(
                item.offset,
                f"there is no template {shorten(item.name)}",
                f"to select a metric of that name, write it before the braces, or {_quoted(item)}",
            )
        return self._included(item, template)

    def _included(self, item: Reference, template: _Template | _Bound) -> Group:
        value = self._apply(template, item.name, (), item.offset)
        what = f"template {shorten(item.name)}"
        if not isinstance(value, tuple):
            raise self._error(
                item.offset, f"{what} is {_describe(value)}; inside braces it must be {{…}}"
            )
        if _metric_name(value):
            raise self._error(
                item.offset, f"{what} has a metric name, which it cannot inside braces"
            )
        if len(value) > 1:
            raise self._error(item.offset, f'{what} contains "or", which it cannot inside braces')
        group = value[0] if value else ()
        self._spend(len(group), item.offset)
        return group

    def _condition(self, item: Condition, scope: _Scope) -> Matcher:
        value = self._string(item.value, scope)
        if item.op in ("=~", "!~") and value not in self._patterns:
            try:
                regex = compile_regex(value)
            except SelectorError as error:
                offset = self._inside(item.value, error.offset)
                raise self._error(offset, error.message, error.hint) from None
            self._patterns.add(value)
            self._cost += regex.cost
            if regex.cost > REGEX_COST_MAX:
                raise self._error(
                    item.value.offset,
                    f"the regular expression is too expensive: {regex.cost} instructions for each "
                    f"character of a value, at most {REGEX_COST_MAX}",
                    "write out fewer repetitions, or list the values as a|b|c",
                )
            if self._cost > SELECTOR_COST_MAX:
                raise self._error(
                    item.value.offset,
                    f"the regular expressions are too expensive together: {self._cost} "
                    f"instructions for each character of a value, at most {SELECTOR_COST_MAX}",
                )
        return Matcher(item.label, item.op, value, item.offset)

    def _inside(self, node: StringNode, index: int) -> int:
        """Return the offset of a character if the value is one literal, else that of its start."""
        part = node.parts[0]
        if len(node.parts) > 1 or not isinstance(part, Text):
            return node.offset
        return quoted_offset(self._text, part.offset, index)

    def _expand_name(self, node: SelectorNode, groups: Groups, scope: _Scope) -> _Value:
        """Replace the metric name of ``groups`` if it names a template without parameters."""
        name = _metric_name(groups)
        template = scope.get(name) if name else None
        if template is None or (isinstance(template, _Template) and template.definition.parameters):
            return groups
        value = self._apply(template, name, (), node.offset)
        if all(len(group) == 1 for group in groups):
            return value
        if not isinstance(value, tuple):
            raise self._error(
                node.offset, f"template {shorten(name)} is {_describe(value)}, not a selector"
            )
        if len(value) > 1 and len(groups) > 1:
            raise self._error(
                node.offset, f'template {shorten(name)} and its braces both contain "or"'
            )
        merged: list[Group] = []
        for head in value or ((),):
            for group in groups:
                self._spend(len(head) + len(group), node.offset)
                merged.append(tuple(dict.fromkeys(head + group[1:])))
        return self._checked(merged, node.offset)

    # -- limits ------------------------------------------------------------------------------------

    def _checked(self, groups: Sequence[Group], offset: int) -> Groups:
        if len(groups) > GROUPS_MAX:
            raise self._error(offset, f"more than {GROUPS_MAX} groups")
        if sum(map(len, groups)) > MATCHERS_MAX:
            raise self._error(offset, f"more than {MATCHERS_MAX} conditions")
        return tuple(groups)

    def _spend(self, steps: int, offset: int) -> None:
        self._steps += steps
        if self._steps > STEPS_MAX:
            raise self._error(offset, f"expanding the selector takes more than {STEPS_MAX} steps")

    def _error(self, offset: int, message: str, hint: str = "") -> SelectorError:
        return SelectorError(message, text=self._text, offset=offset, hint=hint)


def _metric_name(groups: Groups) -> str:
    """Return the name that the first matcher of every group demands, or ""."""
    firsts = {group[0] if group else None for group in groups}
    first = firsts.pop() if len(firsts) == 1 else None
    return first.value if first is not None and (first.label, first.op) == (NAME, "=") else ""


def _with_name_label(matcher: Matcher) -> Matcher:
    if matcher.label:
        return matcher
    return Matcher(NAME, matcher.op, matcher.value, matcher.offset)


def _describe(value: _Value) -> str:
    match value:
        case str():
            return "a string"
        case Foreign():
            return value.what
        case _Listed():
            return f"a list of {len(value.members)} in parentheses"
        case _:
            return "a selector"


def _quoted(item: Reference) -> str:
    return f'{{"{shorten(item.name)}"}}'
