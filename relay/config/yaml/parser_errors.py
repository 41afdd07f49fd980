"""Explains the YAML parser's errors and suggests corrections.

Rules:

* The parser's texts are fixed phrases, never the author's content; they stay in the message.
* Nothing of the text is repeated here: it may be a secret.
* One line that is wrong by itself (tabs, quotes) is taken out, in place, to read the others.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
import yaml

from relay.config.yaml.source_positions import is_public

REPAIR_CHARS_MAX: Final = 64 * 1024
"""Longer documents are not read again to find further faults."""

_TAB: Final = "a tab where YAML wants spaces: indent with spaces only"
_QUOTED: Final = (
    "the quoted text ends before the line does: put a value that holds double quotes in single "
    "quotes, as in metricsql: '{job=\"api\"}'"
)
_SINGLE_QUOTED: Final = (
    "the quoted text ends before the line does: inside single quotes write each ' twice, or put "
    "the value in double quotes"
)
_HINTS: Final = {
    "mapping values are not allowed in this context": (
        'a value that holds ": " must be in quotes, and fields of one mapping must be indented '
        "equally"
    ),
    "could not find expected ':'": (
        'a field needs ": " behind its name; a longer text needs to be indented, or in quotes'
    ),
    "did not find expected key": "fields of one mapping must be indented equally",
    "did not find expected '-' indicator": "entries of one list must be indented equally",
    "did not find expected ',' or '}'": (
        "close the brace, or put a value that begins with { in single quotes"
    ),
    "did not find expected ',' or ']'": (
        "close the bracket, or put a value that begins with [ in single quotes"
    ),
    "block sequence entries are not allowed in this context": (
        "put the first - of a list on a line of its own"
    ),
    "found unexpected end of stream": "the quote that opens here is never closed",
    "found unexpected document indicator": "the quote that opens here is never closed",
    "found unknown escape character": (
        "inside double quotes write \\\\ for a backslash, or put the value in single quotes"
    ),
    "did not find expected hexdecimal number": (
        "inside double quotes write \\\\ for a backslash, or put the value in single quotes"
    ),
    "found character that cannot start any token": (
        "a value that begins with @, `, % or | must be in quotes"
    ),
    "did not find expected alphabetic or numeric character": (
        "a value that begins with * or & must be in quotes"
    ),
    "found a tab character that violates indentation": _TAB,
    "found a tab character where an indentation space is expected": _TAB,
}
_OPENERS: Final = frozenset(
    ("found unexpected end of stream", "found unexpected document indicator")
)
"""Problems whose place is where the text opens, not where it ends."""
# A field of a block mapping whose value stands in quotes; the quoted text, and what follows it.
_FIELD: Final = re.compile(r"""[ ]*(?:-[ ]+)*["']?[A-Za-z_][-\w.]*["']?[ ]*:[ ]+(?=["'])""")
_DOUBLE: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_SINGLE: Final = re.compile(r"'(?:[^']|'')*'")
_BRACKETS: Final = frozenset(
    ("did not find expected ',' or '}'", "did not find expected ',' or ']'")
)
_COLONS: Final = frozenset(
    ("mapping values are not allowed in this context", "could not find expected ':'")
)
_BARE: Final = re.compile(r"[ ]*(?:-[ ]+)*(?P<name>[A-Za-z_]\w*)[ ]*\r?")
_TABBED: Final = re.compile(r"^ *\t[ \t]*[^\s]", re.MULTILINE)
_INDENTATION: Final = re.compile(r"^[ \t]+", re.MULTILINE)
_NOTHING_MORE: Final = re.compile(r"[ \t]*(?:[ \t]#.*)?\r?")


class YamlFault(msgspec.Struct, frozen=True):
    """An explained error; ``offset`` is the place to show, ``read`` how far the parser had come."""

    message: str
    offset: int
    read: int


def explained(text: str, error: yaml.MarkedYAMLError) -> YamlFault:
    """Explain an error and suggest a correction, by the rules above."""
    mark = error.problem_mark or error.context_mark
    read = mark.index if mark is not None else len(text)
    problem = error.problem or ""
    offset = read
    opened = error.context_mark.index if error.context_mark is not None else read
    if problem in _OPENERS or (problem in _BRACKETS and "\n" in text[opened:read]):
        offset = opened
    phrase = ", ".join(part for part in (error.context, error.problem) if part)
    tab = _indenting_tab(text, read)
    if tab is not None:
        others = len(_TABBED.findall(text)) - 1
        also = f", here and in {others} more lines" if others else ""
        return YamlFault(f"{_TAB}{also} ({phrase})", tab, read)
    bare = _bare_field(text, read)
    if bare is not None and problem in _COLONS:
        return YamlFault(f"{phrase}; the name of a field needs a colon behind it", bare, read)
    for at in (read, opened):
        quoted = _ends_early(text, at)
        if quoted is not None:
            behind, hint = quoted
            return YamlFault(f"{phrase}; {hint}", behind, read)
    hint = _HINTS.get(problem, "")
    return YamlFault(f"{phrase}; {hint}" if hint else phrase, min(offset, len(text)), read)


def repaired(text: str, offset: int) -> str | None:
    """Return the text, equally long, without the fault at the offset.

    None if it cannot be separated from the rest. The fault is that of :func:`explained`.
    """
    if len(text) > REPAIR_CHARS_MAX:
        return None
    start, end = _line(text, offset)
    line = text[start:end]
    if is_indented_by_tab(text, offset):
        if len(_TABBED.findall(text)) > 1:
            return None  # how deep each line is meant to be is not known
        return _INDENTATION.sub(lambda found: " " * len(found[0]), text)
    field = _FIELD.match(line)
    if field is None:
        return None
    rest = len(line) - field.end()
    if rest < 2:
        return None
    return text[: start + field.end()] + "''" + " " * (rest - 2) + text[end:]


def _bare_field(text: str, offset: int) -> int | None:
    """Return the end of the previous line if that is only the name of a field, or None."""
    start, _ = _line(text, offset)
    if not start:
        return None
    begin, end = _line(text, start - 1)
    found = _BARE.fullmatch(text, begin, end)
    return found.end("name") if found is not None and is_public(found["name"]) else None


def is_indented_by_tab(text: str, offset: int) -> bool:
    """Return True if there is a tab before the content of the offset's line."""
    return _indenting_tab(text, offset) is not None


def _indenting_tab(text: str, offset: int) -> int | None:
    """Return the first tab before the content of the line, or None."""
    start, end = _line(text, offset)
    line = text[start:end]
    blank = line[: len(line) - len(line.lstrip(" \t"))]
    found = blank.find("\t")
    return start + found if found >= 0 else None


def _ends_early(text: str, offset: int) -> tuple[int, str] | None:
    """Return the end of a quoted value whose line continues, and the remedy, or None."""
    start, end = _line(text, offset)
    line = text[start:end]
    field = _FIELD.match(line)
    if field is None:
        return None
    is_double = line[field.end()] == '"'
    quoted = (_DOUBLE if is_double else _SINGLE).match(line, field.end())
    if quoted is None or _NOTHING_MORE.fullmatch(line, quoted.end()):
        return None
    return start + quoted.end(), _QUOTED if is_double else _SINGLE_QUOTED


def _line(text: str, offset: int) -> tuple[int, int]:
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    return start, end if end >= 0 else len(text)
