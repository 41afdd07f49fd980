"""Split a selector's text into tokens: context-free, one pass, linear time.

Rules (MetricsQL as of metricsql v0.87):

* Whitespace is exactly space, ``\\t \\n \\v \\f \\r``. A ``#`` comment runs to the end of its line;
  ``//`` is not a comment. Other blanks (NBSP, BOM, zero-width) are errors that name them.
* Operators are single tokens, longest first: ``= ~`` and ``==`` are not ``=~`` and ``=``.
* An identifier begins with a letter of any script, ``_`` or ``:``, continues with ASCII digits and
  ``.`` too, and may contain escapes (see :mod:`relay.selector.quoting`).
* A string ends at the next quote of its kind that no backslash escapes, in backticks too, although
  the backslash has no meaning there.
* Extension: “ and ” delimit a double-quoted string, ‘ and ’ a single-quoted one, also mixed with an
  ASCII quote at the other end. They never end a string that an ASCII quote opened, so valid
  MetricsQL keeps its meaning; ``lenient`` allows that too, for a second attempt.
* Anything else becomes a FAULT token, whose error the parser raises when it reaches it, so that
  faults are reported in the order of the text.
"""

from __future__ import annotations

import enum
import re
from typing import Final

import msgspec

from relay.runtime.errors import SelectorError
from relay.runtime.excerpt import clipped
from relay.selector.matchers import Remark
from relay.selector.quoting import is_name_part, is_name_start, name_escape


class Kind(enum.Enum):
    """Kind of a token."""

    NAME = "name"
    STRING = "string"
    NUMBER = "number"
    MARK = "mark"
    END = "end"
    FAULT = "fault"


class Token(msgspec.Struct, frozen=True):
    """A token; ``text`` is as written. A STRING's ``quote`` is the ASCII equivalent."""

    kind: Kind
    text: str
    offset: int
    quote: str = ""
    error: SelectorError | None = None

    @property
    def keyword(self) -> str:
        """The token in lower case with its escapes, so that an escaped word is not a keyword."""
        return self.text.lower() if self.kind in (Kind.NAME, Kind.MARK) else ""

    @property
    def inside(self) -> tuple[int, int]:
        """Start and stop of the text between a STRING's quotes."""
        return self.offset + 1, self.offset + len(self.text) - 1


BLANKS: Final = " \t\n\v\f\r"
_BLANK: Final = re.compile(r"(?:[ \t\n\v\f\r]+|#[^\n]*)+")
_MARK: Final = re.compile(r"==|!=|>=|<=|=~|!~|[{}\[\](),@=<>+\-*/%^]")
_NUMBER: Final = re.compile(
    r"0[xX][0-9A-Fa-f]*"
    r"|(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+|[A-Za-z]+[0-9A-Za-z.]*)?"
)
_MACRO: Final = re.compile(r"\$__(?:rate_)?interval")

_DOUBLE: Final = "“”"
_SINGLE: Final = "‘’"
TYPOGRAPHIC: Final = _DOUBLE + _SINGLE
_ASCII_QUOTE: Final = {
    '"': '"',
    "'": "'",
    "`": "`",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
}
_LENIENT_CLOSERS: Final = {'"': '"' + _DOUBLE, "'": "'" + _SINGLE, "`": "`"}
_BODY: Final = {
    closers: re.compile(rf"(?:[^\\{closers}]|\\.)*", re.DOTALL)
    for closers in ('"', "'", "`", '"' + _DOUBLE, "'" + _SINGLE)
}

_SHOWN_CHARS_MAX: Final = 60

_HINTS: Final = {
    "&": "separate conditions with a comma",
    ";": "separate conditions with a comma",
    "|": 'alternatives are separated by "or"',
    "~": "the regular expression operators are =~ and !~, without a blank inside",
    "!": "the negative operators are != and !~, without a blank inside",
    "?": "a pattern needs quotes",
    ".": "a name that begins with a dot needs quotes",
    "\\": "not an escape that a name knows",
    "$": "a dashboard's variable ($name) is not replaced here: write the value in quotes",
}

_LINE_FILTER: Final = re.compile(r"\|[=~>]")
_LINE_PARSER: Final = re.compile(r"\|\s*(?:json|logfmt|pattern|regexp|unpack|line_format)\b")
_LINES: Final = "what follows | in LogQL is about lines of logs, which metrics do not have"


def tokenize(text: str, *, lenient: bool = False) -> tuple[Token, ...]:
    """Split ``text`` into tokens; the last is END or FAULT. Never raises."""
    tokens: list[Token] = []
    pos = 0
    while True:
        blank = _BLANK.match(text, pos)
        if blank is not None:
            pos = blank.end()
        token = _next_token(text, pos, lenient=lenient)
        tokens.append(token)
        if token.kind in (Kind.END, Kind.FAULT):
            return tuple(tokens)
        pos += len(token.text)


def typographic_warnings(
    text: str, tokens: tuple[Token, ...], warnings_max: int
) -> tuple[Remark, ...]:
    """Return a warning per string with a typographic quote, and one for all over the limit."""
    found = [
        token
        for token in tokens
        if token.kind is Kind.STRING
        and (token.text[0] in TYPOGRAPHIC or token.text[-1] in TYPOGRAPHIC)
    ]
    warnings = [
        Remark(
            f"typographic quotes around {shorten(token.text)} at {position(text, token.offset)}"
            f" were read as {token.quote}; write plain quotes",
            token.offset,
        )
        for token in found[:warnings_max]
    ]
    if len(found) > warnings_max:
        more = f"typographic quotes around {len(found) - warnings_max} more strings"
        warnings.append(Remark(more, found[warnings_max].offset))
    return tuple(warnings)


def shorten(text: str) -> str:
    """Shorten ``text`` for use in a message."""
    return clipped(text, _SHOWN_CHARS_MAX)


def position(text: str, offset: int) -> str:
    """Return ``line:column (offset n)``; lines and columns count from 1, the offset from 0."""
    line = text.count("\n", 0, offset) + 1
    column = offset - text.rfind("\n", 0, offset)
    return f"{line}:{column} (offset {offset})"


def _next_token(text: str, pos: int, *, lenient: bool) -> Token:
    if pos == len(text):
        return Token(Kind.END, "", pos)
    char = text[pos]
    if starts_name(text, pos):
        return Token(Kind.NAME, text[pos : _name_end(text, pos)], pos)
    if char in _ASCII_QUOTE:
        return _string(text, pos, lenient=lenient)
    number = _NUMBER.match(text, pos) or _MACRO.match(text, pos)
    if number is not None:
        return Token(Kind.NUMBER, number[0], pos)
    mark = _MARK.match(text, pos)
    if mark is not None:
        return Token(Kind.MARK, mark[0], pos)
    hint = _LINES if _is_of_lines(text, pos) else _HINTS.get(char, "")
    return _fault(text, pos, f"unexpected {describe_char(char)}", hint)


def _is_of_lines(text: str, pos: int) -> bool:
    """Return whether LogQL's filter of lines is at ``pos``, or a parser behind a selector."""
    if _LINE_FILTER.match(text, pos):
        return True
    return text[:pos].rstrip().endswith("}") and _LINE_PARSER.match(text, pos) is not None


def starts_name(text: str, pos: int) -> bool:
    """Return whether an identifier, escaped or not, begins at ``pos``."""
    char = text[pos : pos + 1]
    if char == "\\":
        return name_escape(text, pos + 1) is not None
    return char != "" and is_name_start(char)


def _name_end(text: str, pos: int) -> int:
    while pos < len(text):
        if is_name_part(text[pos]):
            pos += 1
            continue
        escape = name_escape(text, pos + 1) if text[pos] == "\\" else None
        if escape is None:
            break
        pos = escape[1]
    return pos


def _string(text: str, pos: int, *, lenient: bool) -> Token:
    opener = text[pos]
    quote = _ASCII_QUOTE[opener]
    closers = quote if opener == quote and not lenient else _LENIENT_CLOSERS[quote]
    body = _BODY[closers].match(text, pos + 1)
    assert body is not None, "the pattern matches the empty string"
    end = body.end()
    if end == len(text) or text[end] not in closers:
        hint = ""
        if quote == "`" and "\\`" in text[pos:]:
            hint = "a backslash before a backtick hides it, even though backticks are raw"
        return _fault(text, pos, f"the string that {opener} opens here is never closed", hint)
    return Token(Kind.STRING, text[pos : end + 1], pos, quote)


def describe_char(char: str) -> str:
    """Describe a character for people: itself if printable, with its name if not ASCII."""
    if " " < char < "\x7f":
        return f'"{char}"'
    import unicodedata  # noqa: PLC0415 - 1 MiB of tables, for faults alone

    name = unicodedata.name(char, "control character")
    code = f"U+{ord(char):04X}"
    return f'"{char}" ({name}, {code})' if char.isprintable() else f"{name} ({code})"


def _fault(text: str, pos: int, message: str, hint: str) -> Token:
    if not hint and text[pos] in "«»„‟‚‹›＂＇´":
        hint = "write plain quotes: \" or '"
    elif not hint and not text[pos].isprintable():
        hint = "it cannot be seen; delete it, or write a plain space"
    error = SelectorError(message, text=text, offset=pos, hint=hint)
    return Token(Kind.FAULT, text[pos], pos, error=error)
