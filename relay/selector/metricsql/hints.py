"""Hints for texts that are not selectors: what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from relay.selector.metricsql.lexer import Kind, Token, shorten
from relay.selector.metricsql.syntax_tree import StringNode, Text

ALTERNATIVES: Final = 'alternatives are separated by "or"'
TWO_NAMES: Final = (
    'a quoted text alone is a metric name; for one of several values write label=~"first|second"'
)
_PLAIN: Final = re.compile(r"[A-Za-z0-9_:./ -]{1,60}")
_LABEL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTED: Final = re.compile(r"""["']([A-Za-z0-9_:./ -]{1,60})["']""")
_LIKE: Final = re.compile(r"""\s*["']([A-Za-z0-9_:./ %-]{1,60})["']""")
_NUMBER_NAME: Final = re.compile(r"[0-9][A-Za-z0-9_:.]{0,60}")

_BEHIND_FILTER: Final = {
    "and": "write a comma instead of and",
    "unless": "write a comma and a negative condition (!= or !~)",
}
_OPERATORS: Final = {
    "==": "write one = for equality",
    "-": "a name with a dash needs quotes",
    "(": "templates with arguments stand before the braces, not inside",
    "is": 'write = for equality, as in label="value"',
    "contains": 'write =~, as in label=~".*part.*"',
    "matches": 'write =~, as in label=~"pattern"',
    **dict.fromkeys(
        ("<", ">", "<=", ">="),
        "labels are strings: they can be equal or match a pattern, not be less or greater",
    ),
}


def number_hint(text: str, token: Token) -> str:
    """Return the hint for a number in place of a selector: it may begin a metric's name."""
    name = _NUMBER_NAME.match(text, token.offset)
    if name is None or name[0].replace(".", "").isdigit():
        return ""
    return f'a metric name that begins with a digit needs quotes and braces: {{"{name[0]}"}}'


def value_hint(value: str) -> str:
    """Return the hint for a string in place of a selector: it may be a metric's name."""
    if not _PLAIN.fullmatch(value):
        return ""
    return f'for the metric of that name write {{"{value}"}}'


def or_value(label: str, value: StringNode, name: str) -> str:
    """Return the warning for ``label="a" or "b"``: its meaning, and the probable intention."""
    part = value.parts[0]
    first = part.value if isinstance(part, Text) and len(value.parts) == 1 else ""
    written = f'{label}=~"{first}|{name}"'
    meant = written if _PLAIN.fullmatch(first) and _PLAIN.fullmatch(name) else f'{label}=~"…|…"'
    return (
        f'a quoted text alone is a metric name: here "{shorten(name)}" is a metric, no value of '
        f"{label}; for one of several values write {meant}"
    )


def leftover_hint(tokens: Sequence[Token]) -> str:
    """Return the hint for text after a complete selector; the last token is the unexpected one."""
    token = tokens[-1]
    if token.text in ("=", "=~", "!~"):
        return 'conditions belong into braces: {label="value"}'
    if token.text == "{":
        return "a metric name in front of braces is written without quotes"
    if token.text == ",":
        first = tokens[0].text if len(tokens) == 2 and tokens[0].kind is Kind.NAME else "first"
        return f'for one of several metrics write {{__name__=~"{shorten(first)}|second"}}'
    if token.kind is Kind.NAME and len(tokens) == 2:
        return f'for one of several metrics write {{"{tokens[0].text}" or "{token.text}"}}'
    return ""


def behind_filter_hint(token: Token) -> str:
    """Return the hint for an unexpected token after a condition."""
    if token.keyword in _BEHIND_FILTER:
        return _BEHIND_FILTER[token.keyword]
    if token.kind is Kind.STRING:
        return "strings are joined by +, conditions by a comma"
    return "a comma is missing" if token.kind is Kind.NAME else ""


def operator_hint(text: str, label: Token, token: Token) -> str:
    """Return the hint for a token after a label that is not an operator."""
    name = label.text if label.kind is Kind.NAME else "label"
    if token.keyword in ("in", "not"):
        op = "=~" if token.keyword == "in" else "!~"
        rest = text[token.offset :].partition(")")[0]
        values = "|".join(_QUOTED.findall(rest)) or "first|second"
        return f'for one of several values write {name}{op}"{values}"'
    if token.keyword in ("like", "ilike", "regex", "regexp"):
        quoted = _LIKE.match(text, token.offset + len(token.text))
        value = quoted[1].replace("%", ".*") if quoted else "pattern"
        return f'for a pattern write {name}=~"{value}", for any text .* and not %'
    if name.endswith(":") and token.kind is Kind.STRING:
        return f"a condition is written with =: {name.rstrip(':')}={shorten(token.text)}"
    return _OPERATORS.get(token.text) or _OPERATORS.get(token.keyword, "")
