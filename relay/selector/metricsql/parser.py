"""Parse tokens to a syntax tree; entry points :func:`parse_selector` and :func:`parse_query`.

::

    query      := expression END
    expression := operand ("+" operand)*                   "+" only to join strings in templates
    operand    := "WITH" "(" definitions? ")" expression | "+" expression | "(" expressions ")"
                | name "(" expressions? ")" | selector | string
    definition := name ("(" names? ")")? "=" expression    lists: commas, one may trail
    selector   := name | name? "{" groups? "}"
    groups     := group ("or" group)*                      "or" in any case
    group      := filter ("," filter)* ","?
    filter     := label op string | label                  a label alone: syntax_tree.Reference
    string     := (literal | name) ("+" (literal | name))*

Other MetricsQL is refused by name. In template bodies and arguments
(``WITH (r=rate(x[5m]), a={b="c"}) m{a}``) it is skipped by its brackets, and refused only if the
selector needs it. Keywords match in any case but not with escapes; where a name is expected they
are names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from relay.runtime.errors import SelectorError
from relay.selector.matchers import NAME, Op, Selector
from relay.selector.metricsql import hints, with_templates
from relay.selector.metricsql.lexer import (
    BLANKS,
    TYPOGRAPHIC,
    Kind,
    Token,
    shorten,
    starts_name,
    tokenize,
    typographic_warnings,
)
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
    StringPart,
    Sum,
    TemplateName,
    Text,
    With,
)
from relay.selector.quoting import unescape_name, unquote

QUERY_BYTES_MAX: Final = 16 * 1024
"""Longest selector in bytes; VictoriaMetrics' own ``-search.maxQueryLen``."""
NESTING_MAX: Final = 40
WARNINGS_MAX: Final = 10

_Member = TypeVar("_Member")

_OPS: Final[dict[str, Op]] = {"=": "=", "!=": "!=", "=~": "=~", "!~": "!~"}
_BINARY_MARKS: Final = frozenset(("==", "!=", ">=", "<=", "<", ">", "+", "-", "*", "/", "%", "^"))
_BINARY_WORDS: Final = frozenset(("and", "or", "unless", "if", "ifnot", "default", "atan2"))
_BRACKETS: Final = {"(": ")", "[": "]", "{": "}"}
_CLOSERS: Final = frozenset(_BRACKETS.values())


def parse_selector(text: str) -> Selector:
    """Parse a MetricsQL series selector and expand its WITH templates. ``{}`` has no groups.

    Raise SelectorError for anything else, including the empty text.
    """
    _check_text(text)
    try:
        return _parse(text, tokenize(text))
    except SelectorError as strict:
        if not any(quote in text for quote in TYPOGRAPHIC):
            raise
        # A typographic quote may close an ASCII-opened string only in a text that is invalid
        # otherwise: "foo” alone is ambiguous, and valid MetricsQL must keep its meaning.
        try:
            return _parse(text, tokenize(text, lenient=True))
        except SelectorError:
            raise strict from None


def parse_query(text: str) -> Selector:
    """Parse an Exporter's query like :func:`parse_selector`; a blank text selects everything."""
    _check_text(text)
    if not text.strip(BLANKS):
        return Selector(groups=())
    return parse_selector(text)


def _check_text(text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise SelectorError(
            "a lone surrogate, which is not Unicode text", text=text, offset=error.start
        ) from None
    if size > QUERY_BYTES_MAX:
        raise SelectorError(
            f"the selector has {size} bytes; at most {QUERY_BYTES_MAX} are accepted",
            text=text,
            offset=0,
        )


def _parse(text: str, tokens: tuple[Token, ...]) -> Selector:
    node = _Parser(text, tokens).query()
    groups, remarks = with_templates.expand(text, node)
    found = typographic_warnings(text, tokens, WARNINGS_MAX)
    warnings = tuple(remark.text for remark in found)
    return Selector(groups=groups, warnings=warnings, remarks=(*found, *remarks))


class _Parser:
    """Parse the tokens in one pass; a method starts at its first token and ends behind its last."""

    def __init__(self, text: str, tokens: tuple[Token, ...]) -> None:
        self._text = text
        self._tokens = tokens
        self._index = 0
        self._nesting = 0
        self._tolerant = 0
        """Above zero in template bodies and arguments, where other MetricsQL is skipped."""

    def query(self) -> Node:
        if self._tokens[0].kind is Kind.END:
            comment = self._text.find("#")
            what = "the selector is empty" if comment < 0 else "the selector is only a comment"
            raise self._error_at(max(comment, 0), what, "write {} to select everything")
        node = self._expression()
        token = self._peek()
        if token.kind is not Kind.END:
            hint = hints.leftover_hint(self._tokens[: self._index + 1])
            raise self._error(token, f"unexpected {_describe(token)}", hint)
        return node

    # -- expressions -------------------------------------------------------------------------------

    def _expression(self) -> Node:
        self._nesting += 1
        if self._nesting > NESTING_MAX:
            raise self._error(self._peek(), f"nested more than {NESTING_MAX} deep")
        node = self._operand()
        while self._tolerant and self._peek().text == "+":
            plus = self._next()
            node = Sum(node, self._operand(), plus.offset)
        found = _foreign(self._peek())
        if found is not None:
            if not self._tolerant:
                raise with_templates.refusal(self._text, found)
            self._skip()
            node = found
        self._nesting -= 1
        return node

    def _operand(self) -> Node:
        token = self._peek()
        if token.kind is Kind.STRING:
            return self._string()
        if token.kind is Kind.NUMBER or token.keyword in ("inf", "nan"):
            return self._number()
        if token.kind is Kind.NAME:
            if self._peek(1).text != "(":
                return self._selector()
            return self._with() if token.keyword == "with" else self._call()
        if token.text == "{":
            return self._selector()
        if token.text == "(":
            offset = self._next().offset
            return Parentheses(self._list(self._expression), offset)
        if token.text == "+":
            self._next()
            return self._expression()
        if token.text == "-":
            return self._minus()
        if token.kind is Kind.END:
            raise self._error(token, "the selector ends too early")
        hint = "comments begin with #" if token.text == "/" else ""
        raise self._error(
            token, f"unexpected {_describe(token)}; a selector begins with a name or {{", hint
        )

    def _number(self) -> Node:
        token = self._next()
        hint = hints.number_hint(self._text, token)
        return self._foreign_here(token, f"the number {shorten(token.text)}", hint)

    def _minus(self) -> Node:
        token = self._next()
        node = self._foreign_here(token, "a negation (-)")
        self._expression()
        return node

    def _foreign_here(self, token: Token, what: str, hint: str = "") -> Foreign:
        foreign = Foreign(what, token.offset, hint)
        if not self._tolerant:
            raise with_templates.refusal(self._text, foreign)
        return foreign

    def _call(self) -> Node:
        name = self._next()
        self._next()
        self._tolerant += 1
        arguments = self._list(self._expression)
        self._tolerant -= 1
        return Call(unescape_name(name.text), arguments, name.offset)

    def _list(self, member: Callable[[], _Member]) -> tuple[_Member, ...]:
        """Parse members up to the closing parenthesis, separated by commas; one comma may trail."""
        members: list[_Member] = []
        while self._peek().text != ")":
            members.append(member())
            token = self._peek()
            if token.text == ",":
                self._next()
            elif token.text != ")":
                raise self._error(token, f"unexpected {_describe(token)}; expected , or )")
        self._next()
        return tuple(members)

    def _skip(self) -> None:
        """Skip the rest of an unsupported expression, up to a comma or bracket outside it."""
        operator = self._next()
        if self._peek().text in (",", ")") and operator.keyword != "keep_metric_names":
            raise self._error(self._peek(), f"nothing follows {operator.text}")
        open_brackets = [_BRACKETS[operator.text]] if operator.text in _BRACKETS else []
        while True:
            token = self._peek()
            innermost = open_brackets[-1] if open_brackets else ""
            if token.kind is Kind.END:
                raise self._error(token, "the selector ends too early")
            if not innermost and token.text in (",", ")"):
                return
            if token.text in _BRACKETS:
                open_brackets.append(_BRACKETS[token.text])
            elif token.text == innermost:
                open_brackets.pop()
            elif token.text in _CLOSERS or (token.text == "=" and innermost != "}"):
                # An = outside braces begins another definition: a comma is missing.
                raise self._error(token, f"unexpected {_describe(token)}")
            self._next()

    # -- WITH --------------------------------------------------------------------------------------

    def _with(self) -> Node:
        offset = self._next().offset
        self._next()
        self._tolerant += 1
        definitions = self._list(self._definition)
        self._tolerant -= 1
        if len(definitions) > with_templates.DEFINITIONS_MAX:
            raise self._error_at(offset, f"more than {with_templates.DEFINITIONS_MAX} templates")
        names: set[str] = set()
        for definition in definitions:
            if definition.name in names:
                name = shorten(definition.name)
                raise self._error_at(definition.offset, f"template {name} is defined twice")
            names.add(definition.name)
        return With(definitions, self._expression(), offset)

    def _definition(self) -> Definition:
        token = self._next()
        if token.kind is not Kind.NAME:
            raise self._error(
                token, f"unexpected {_describe(token)}; expected the name of a template"
            )
        parameters: tuple[str, ...] = ()
        if self._peek().text == "(":
            parameters = self._parameters()
        equals = self._next()
        if equals.text != "=":
            raise self._error(equals, f"unexpected {_describe(equals)}; expected = and a body")
        return Definition(unescape_name(token.text), parameters, self._expression(), token.offset)

    def _parameters(self) -> tuple[str, ...]:
        opening = self._next()
        names = self._list(self._parameter)
        if len(set(names)) < len(names):
            raise self._error(opening, "two parameters have the same name")
        return names

    def _parameter(self) -> str:
        token = self._next()
        # A parameter may be quoted, but the text inside the quotes must be an identifier.
        quoted = token.kind is Kind.STRING and starts_name(self._text, token.inside[0])
        if token.kind is not Kind.NAME and not quoted:
            raise self._error(token, f"unexpected {_describe(token)}; expected a parameter")
        return self._name(token)

    # -- selectors ---------------------------------------------------------------------------------

    def _selector(self) -> SelectorNode:
        token = self._peek()
        prefix: tuple[Filter, ...] = ()
        if token.kind is Kind.NAME:
            self._next()
            name = Text(unescape_name(token.text), token.offset)
            value = StringNode((name,), token.offset)
            prefix = (Condition(NAME, "=", value, token.offset),)
            if self._peek().text != "{":
                return SelectorNode((prefix,), token.offset)
        brace = self._next()
        if self._peek().text == "}":
            self._next()
            return SelectorNode((prefix,) if prefix else (), token.offset)
        groups = [prefix + self._group(brace)]
        while self._next().text != "}":
            groups.append(prefix + self._group(brace))
        return SelectorNode(tuple(groups), token.offset)

    def _group(self, brace: Token) -> tuple[Filter, ...]:
        """Parse filters up to, not including, ``or`` or the closing brace."""
        filters = [self._filter(brace)]
        while True:
            token = self._peek()
            if token.text == ",":
                self._next()
                if self._peek().text == "}":
                    return tuple(filters)
                filters.append(self._filter(brace))
            elif token.text == "}" or token.keyword == "or":
                return tuple(filters)
            else:
                self._unclosed(brace, token)
                raise self._error(
                    token,
                    f'unexpected {_describe(token)}; expected a comma, "or" or }}',
                    hints.behind_filter_hint(token),
                )

    def _filter(self, brace: Token) -> Filter:
        token = self._next()
        if token.kind not in (Kind.NAME, Kind.STRING):
            self._unclosed(brace, token)
            hint = ""
            if token.kind is Kind.NUMBER:
                hint = "a label that begins with a digit needs quotes"
            raise self._error(token, f"unexpected {_describe(token)}; expected a label", hint)
        name = self._name(token)
        after = self._peek()
        if after.text in (",", "}") or after.keyword == "or":
            return Reference(name, token.kind is Kind.STRING, token.offset)
        op = _OPS.get(after.text) if after.kind is Kind.MARK else None
        if op is None:
            self._unclosed(brace, after)
            raise self._error(
                after,
                f"unexpected {_describe(after)} after a label; expected =, !=, =~ or !~",
                hints.operator_hint(self._text, token, after),
            )
        self._next()
        return Condition(name, op, self._string(), token.offset)

    def _string(self) -> StringNode:
        parts: list[StringPart] = []
        offset = self._peek().offset
        while True:
            token = self._next()
            if token.kind is Kind.STRING:
                value = unquote(self._text, *token.inside, token.quote)
                parts.append(Text(value, token.offset))
            elif token.kind is Kind.NAME:
                parts.append(TemplateName(unescape_name(token.text), token.offset))
            else:
                hint = "put the value in quotes" if token.kind is Kind.NUMBER else ""
                if token.text == "=":
                    hint = "write one = for equality"
                raise self._error(
                    token, f"unexpected {_describe(token)}; expected a quoted value", hint
                )
            if self._peek().text != "+" or self._ends_string():
                return StringNode(tuple(parts), offset)
            self._next()

    def _ends_string(self) -> bool:
        """Return whether the ``+`` ahead joins anything but strings and names."""
        operand = self._peek(1)
        if operand.kind is Kind.STRING:
            return False
        return operand.kind is not Kind.NAME or self._peek(2).text in ("(", "{")

    # -- tokens ------------------------------------------------------------------------------------

    def _name(self, token: Token) -> str:
        """Return the name of a NAME, or of a STRING used as a name."""
        if token.kind is Kind.NAME:
            return unescape_name(token.text)
        # Quoted names lose their quotes and are then unescaped as identifiers, not as strings.
        start, stop = token.inside
        return unescape_name(self._text[start:stop])

    def _peek(self, ahead: int = 0) -> Token:
        token = self._tokens[min(self._index + ahead, len(self._tokens) - 1)]
        if token.error is not None and not ahead:
            raise token.error
        return token

    def _next(self) -> Token:
        token = self._peek()
        self._index += 1
        return token

    def _unclosed(self, brace: Token, token: Token) -> None:
        if token.kind is Kind.END:
            raise self._error(brace, "this { is never closed")

    def _error(self, token: Token, message: str, hint: str = "") -> SelectorError:
        return self._error_at(token.offset, message, hint)

    def _error_at(self, offset: int, message: str, hint: str = "") -> SelectorError:
        return SelectorError(message, text=self._text, offset=offset, hint=hint)


def _describe(token: Token) -> str:
    if token.kind is Kind.END:
        return "end of the selector"
    return shorten(token.text) if token.kind is Kind.STRING else f'"{shorten(token.text)}"'


def _foreign(token: Token) -> Foreign | None:
    """Return the unsupported construct that ``token`` begins after an operand, or None."""
    word = token.keyword
    what = hint = ""
    if token.kind is Kind.MARK and token.text in _BINARY_MARKS:
        what = f"the binary operation {token.text}"
        if token.text == "-":
            hint = "a name with a dash needs quotes or a backslash before it"
    elif word in _BINARY_WORDS:
        what = f"the binary operation {word}"
        if word in ("and", "or"):
            hint = "put conditions into the braces, divided by "
            hint += "commas" if word == "and" else '"or"'
    elif word in ("[", "@", "offset"):
        what = {"[": "a range ([…])", "@": "an @ modifier", "offset": "an offset"}[word]
    elif word in ("by", "without"):
        what = f"an aggregation ({word})"
    elif word in ("limit", "keep_metric_names"):
        what = f"the modifier {word}"
    return Foreign(what, token.offset, hint) if what else None
