"""Maps a character of a YAML scalar's value back to its place in the text.

Plain, quoted and block scalars fold line breaks and know escapes (YAML 1.2.2 §7.3, §8.1). The value
is decoded once more with the offset of every character, and compared with the parser's: where the
two differ nothing is claimed.
"""

from __future__ import annotations

import re
from typing import Final

_PROPERTIES: Final = re.compile(r"(?:[&!][^\s]*[ \t]+)*")
_HEADER: Final = re.compile(r"([|>])([-+]?)[ \t]*(?:#[^\n]*)?\r?\n")
_BLANKS: Final = " \t"
_BREAKS: Final = "\r\n"
_ESCAPES: Final = {
    "0": "\0",
    "a": "\a",
    "b": "\b",
    "t": "\t",
    "\t": "\t",
    "n": "\n",
    "v": "\v",
    "f": "\f",
    "r": "\r",
    "e": "\x1b",
    " ": " ",
    '"': '"',
    "/": "/",
    "\\": "\\",
    "N": "\x85",
    "_": "\xa0",
    "L": "\u2028",
    "P": "\u2029",
}
_HEX_DIGITS: Final = {"x": 2, "u": 4, "U": 8}


def source_offset(raw: str, value: str, offset: int) -> int | None:
    """Return where in ``raw``, a scalar as written, the character of its value stands.

    ``offset`` may be the value's length. None where the scalar is beyond this module.
    """
    properties = _PROPERTIES.match(raw)
    start = properties.end() if properties else 0
    try:
        chars, offsets = _decoded(raw, start)
    except (IndexError, ValueError):
        return None
    if "".join(chars) != value:
        return None
    return offsets[offset]


def _decoded(raw: str, start: int) -> tuple[list[str], list[int]]:
    """Return the value's characters and where each stands; one more offset for the end."""
    style = raw[start : start + 1]
    if style in ("|", ">"):
        return _block(raw, start)
    if style in ("'", '"'):
        return _flow(raw, start + 1, len(raw) - 1, style)
    return _flow(raw, start, len(raw), "")


def _flow(raw: str, pos: int, end: int, style: str) -> tuple[list[str], list[int]]:
    chars: list[str] = []
    offsets: list[int] = []
    while pos < end:
        char, step = raw[pos], 1
        if char in _BLANKS:
            after = _skip(raw, pos, end)
            if after < end and raw[after] in _BREAKS:
                pos = after  # blanks before a line break are not content
                continue
        elif char in _BREAKS:
            begin = pos
            pos, breaks = _skip_breaks(raw, pos, end)
            for folded in " " if breaks == 1 else "\n" * (breaks - 1):
                chars.append(folded)
                offsets.append(begin)
            continue
        elif char == "'" and style == "'":
            step = 2
        elif char == "\\" and style == '"':
            if raw[pos + 1] in _BREAKS:
                pos, _ = _skip_breaks(raw, pos + 1, end)
                continue
            char, step = _escape(raw, pos)
        chars.append(char)
        offsets.append(pos)
        pos += step
    return chars, [*offsets, end]


def _escape(raw: str, pos: int) -> tuple[str, int]:
    kind = raw[pos + 1]
    digits = _HEX_DIGITS.get(kind)
    if digits is None:
        return _ESCAPES.get(kind, kind), 2
    return chr(int(raw[pos + 2 : pos + 2 + digits], 16)), 2 + digits


def _skip(raw: str, pos: int, end: int) -> int:
    while pos < end and raw[pos] in _BLANKS:
        pos += 1
    return pos


def _skip_breaks(raw: str, pos: int, end: int) -> tuple[int, int]:
    """Pass over line breaks and the blanks between and behind them; count the breaks."""
    breaks = 0
    while pos < end and raw[pos] in _BREAKS:
        pos += 2 if raw[pos : pos + 2] == "\r\n" else 1
        breaks += 1
        pos = _skip(raw, pos, end)
    return pos, breaks


def _block(raw: str, start: int) -> tuple[list[str], list[int]]:
    header = _HEADER.match(raw, start)
    if header is None:
        raise ValueError("an explicit indentation, which depends on the parent")
    lines: list[tuple[int, str]] = []
    pos = header.end()
    for line in raw[pos:].split("\n"):
        lines.append((pos, line.removesuffix("\r")))
        pos += len(line) + 1
    indents = (len(line) - len(line.lstrip(" ")) for _, line in lines if line.strip(" "))
    indent = next(indents, 0)
    content = [(at + min(indent, len(line)), line[indent:]) for at, line in lines]
    while content and not content[-1][1]:
        content.pop()
    chars: list[str] = []
    offsets: list[int] = []
    folds = header[1] == ">"
    for number, (at, line) in enumerate(content):
        chars.extend(line)
        offsets.extend(range(at, at + len(line)))
        is_last = number + 1 == len(content)
        if is_last and header[2] == "-":
            break
        follower = "" if is_last else content[number + 1][1]
        if folds and line and follower and line[0] not in _BLANKS and follower[0] not in _BLANKS:
            chars.append(" ")
        elif folds and line and not is_last and not follower and line[0] not in _BLANKS:
            continue  # the first break before an empty line is dropped
        else:
            chars.append("\n")
        offsets.append(at + len(line))
    end = offsets[-1] if offsets else header.end()
    return chars, [*offsets, end]
