"""Unescape and quote names and strings of MetricsQL.

* An *identifier*, also a *quoted name* inside braces, knows ``\\xHH``, ``\\uHHHH`` and a backslash
  before any printable character, which stands for itself. ``{"a\\nb"="x"}`` is label ``anb``.
* A *string* value follows Go's ``strconv.Unquote``: ``\\a \\b \\f \\n \\r \\t \\v \\\\``, the quote
  itself, ``\\ooo``, ``\\xHH`` (bytes), ``\\uHHHH`` and ``\\UHHHHHHHH``; any other escape is an
  error. Backticks are raw; carriage returns are dropped (go.dev/ref/spec, "String literals").
* A string may contain bytes that are not UTF-8 (``"\\xff"``), which no label value equals: they are
  kept as lone surrogates (PEP 383).
"""

from __future__ import annotations

import re
from typing import Final

from relay.runtime.errors import SelectorError

REPLACEMENT: Final = "\ufffd"

_SIMPLE: Final = {
    "a": b"\a",
    "b": b"\b",
    "f": b"\f",
    "n": b"\n",
    "r": b"\r",
    "t": b"\t",
    "v": b"\v",
    "\\": b"\\",
}
_HEX_DIGITS: Final = {"x": 2, "u": 4, "U": 8}
_HEX: Final = re.compile(r"[0-9A-Fa-f]+")
_OCTAL: Final = re.compile(r"[0-7]{3}")
_PLAIN: Final = re.compile(r"[^\\\n]+")
_NAME_HEX: Final = re.compile(r"[xX]([0-9A-Fa-f]{2})|[uU]([0-9A-Fa-f]{4})")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_:][A-Za-z0-9_:.]*")


def is_name_start(char: str) -> bool:
    """Return whether an unescaped ``char`` may begin an identifier: any letter, ``_`` or ``:``."""
    return char.isalpha() or char in ("_", ":")


def is_name_part(char: str) -> bool:
    """Return whether an unescaped ``char`` may continue an identifier: also digits and ``.``."""
    return is_name_start(char) or char in "0123456789."


def name_escape(text: str, start: int) -> tuple[str, int] | None:
    """Decode the escape whose backslash is just before ``start``.

    Return (character, offset behind the escape), or None if it is not an escape.
    """
    char = text[start : start + 1]
    if char and char in "xXuU":
        found = _NAME_HEX.match(text, start)
        if found is None:
            return None
        code = int(found[1] or found[2], 16)
        if code == 0xFFFD:
            return None
        # A lone surrogate has no UTF-8 form; Go's encoder writes U+FFFD in its place.
        return (REPLACEMENT if 0xD800 <= code <= 0xDFFF else chr(code)), found.end()
    if not char or not char.isprintable() or char == REPLACEMENT:
        return None
    return char, start + 1


def unescape_name(text: str) -> str:
    """Return the name that an identifier or the inside of a quoted name denotes; never fails."""
    if "\\" not in text:
        return text
    out: list[str] = []
    pos = 0
    while (backslash := text.find("\\", pos)) >= 0:
        out.append(text[pos:backslash])
        escape = name_escape(text, backslash + 1)
        # A backslash that escapes nothing stands for itself.
        char, pos = ("\\", backslash + 1) if escape is None else escape
        out.append(char)
    out.append(text[pos:])
    return "".join(out)


def unquote(text: str, start: int, stop: int, quote: str) -> str:
    """Return the value of the string literal with the text ``text[start:stop]`` inside its quotes.

    ``quote`` is ``"``, ``'`` or a backtick. Raise SelectorError at the faulty character.
    """
    if quote == "`":
        body = text[start:stop]
        if "`" in body:
            raise SelectorError(
                "a raw string cannot contain a backtick", text=text, offset=text.index("`", start)
            )
        return body.replace("\r", "")
    out = bytearray()
    pos = start
    while pos < stop:
        plain = _PLAIN.match(text, pos, stop)
        if plain is not None:
            out += plain[0].encode()
            pos = plain.end()
        elif text[pos] == "\n":
            raise SelectorError(
                "a line break inside a quoted string",
                text=text,
                offset=pos,
                hint="write \\n, or put the value in backticks",
            )
        else:
            decoded, pos = _string_escape(text, pos, stop, quote)
            out += decoded
    return out.decode("utf-8", "surrogateescape")


def quoted_offset(text: str, start: int, index: int) -> int:
    """Return the offset in ``text`` of a literal's character with the given index.

    ``start`` is the offset of the opening quote of a valid literal. An index behind the last
    character gives the literal's end.
    """
    opener = text[start]
    pos = start + 1
    if opener == "`":
        for pos in range(start + 1, len(text)):
            if text[pos] == "\r":
                continue
            if not index or text[pos] == "`":
                return pos
            index -= 1
        return len(text)
    while text[pos] not in _CLOSERS[opener]:
        count, after = 1, pos + 1
        if text[pos] == "\\":
            decoded, after = _string_escape(text, pos, len(text), _ASCII[opener])
            # The bytes of a multi-byte character count as one.
            count = sum(1 for byte in decoded if byte & 0xC0 != 0x80)
        if count > index:
            break
        index -= count
        pos = after
    return pos


_ASCII: Final = {'"': '"', "'": "'", "“": '"', "”": '"', "‘": "'", "’": "'"}
_CLOSERS: Final = {
    opener: quote + ("“”" if quote == '"' else "‘’") for opener, quote in _ASCII.items()
}


def _string_escape(text: str, pos: int, stop: int, quote: str) -> tuple[bytes, int]:
    """Decode the escape at ``pos`` (its backslash); return (bytes, offset behind it)."""
    char = text[pos + 1]  # never past ``stop``: the lexer lets no string end in a lone backslash
    if char in _SIMPLE:
        return _SIMPLE[char], pos + 2
    if char == quote:
        return char.encode(), pos + 2
    if char in _HEX_DIGITS:
        digits = text[pos + 2 : min(pos + 2 + _HEX_DIGITS[char], stop)]
        if len(digits) == _HEX_DIGITS[char] and _HEX.fullmatch(digits):
            code = int(digits, 16)
            if char == "x":
                return bytes((code,)), pos + 4
            if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF:
                return chr(code).encode(), pos + 2 + len(digits)
    octal = _OCTAL.match(text, pos + 1, stop)
    if octal is not None and int(octal[0], 8) <= 255:
        return bytes((int(octal[0], 8),)), pos + 4
    raise SelectorError(
        f"\\{char} is not an escape that a quoted string knows",
        text=text,
        offset=pos,
        hint=f"write \\\\{char}, or put the value in backticks: `\\{char}`"
        if char not in "`\"'"
        else f"write {char} without the backslash",
    )


def quote_string(value: str) -> str:
    """Write a value as a double-quoted string that parses back to exactly ``value``."""
    out = ['"']
    for char in value:
        code = ord(char)
        if char in ('"', "\\"):
            out.append("\\" + char)
        elif char == "\n":
            out.append("\\n")
        elif char.isprintable():
            out.append(char)
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        else:
            out.append(f"\\U{code:08x}")
    out.append('"')
    return "".join(out)


def quote_name(name: str) -> str:
    """Write a label or metric name so that it parses back: bare if possible, else quoted."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    out = ['"']
    for char in name:
        if char in ('"', "\\"):
            out.append("\\" + char)
        elif not char.isprintable() and ord(char) < 0x100:
            out.append(f"\\x{ord(char):02x}")
        else:
            # Names have no escape above U+FFFF; inside quotes every character may stand raw.
            out.append(char)
    out.append('"')
    return "".join(out)
