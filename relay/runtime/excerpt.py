"""Format one line of a text with a caret below a place in it, for messages.

* Invisible characters are written as escapes, so that no text can control the terminal.
* The caret is placed by terminal columns: a wide character takes two, a combining one none.
* A long line is cut around the place.
"""

from __future__ import annotations

from typing import Final

COLUMNS_MAX: Final = 100
INDENT: Final = "    "
_LEFT_COLUMNS: Final = 60
_WIDE: Final = frozenset("WF")
_COMBINING: Final = frozenset(("Mn", "Me"))


def escaped(text: str) -> str:
    """Replace control characters, line separators and other invisible characters by escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable(text: str) -> str:
    """Escape each line of a text so that it cannot control the terminal."""
    return "\n".join(map(escaped, text.split("\n")))


def clipped(text: str, chars_max: int) -> str:
    """Return at most so many characters of a text, with an ellipsis where some are missing."""
    return text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"


def excerpt(line: str, offset: int) -> str:
    """Return the line, escaped and cut, with a caret below the character at ``offset``."""
    offset = min(offset, len(line))
    begin = max(0, offset - COLUMNS_MAX)
    near = line[begin : offset + COLUMNS_MAX + 1]  # longer excerpts are cut anyway
    is_plain = near.isascii() and near.isprintable()
    cells = near if is_plain else [escaped(char) for char in near]
    widths = [1] * len(near) if is_plain else list(map(_columns, cells))
    offset -= begin
    first, last = 0, len(cells)
    if begin or sum(widths) > COLUMNS_MAX:
        left = 0
        first = offset
        while first > 0 and left + widths[first - 1] <= _LEFT_COLUMNS:
            first -= 1
            left += widths[first]
        right = COLUMNS_MAX - left
        last = offset
        while last < len(cells) and right >= widths[last]:
            right -= widths[last]
            last += 1
    head = "…" if first or begin else ""
    tail = "…" if begin + last < len(line) else ""
    shown = f"{head}{''.join(cells[first:last])}{tail}"
    return f"{shown}\n{' ' * (len(head) + sum(widths[first:offset]))}^"


def line_at(text: str, offset: int) -> tuple[str, int]:
    """Return the line of ``text`` that holds the offset, and the offset within that line."""
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    return text[start : end if end >= 0 else len(text)].removesuffix("\r"), offset - start


def indented(lines: str) -> str:
    """Return an excerpt indented for printing below a message's first line."""
    return "".join(f"\n{INDENT}{line}" for line in lines.splitlines())


def _columns(cell: str) -> int:
    if cell.isascii():
        return len(cell)
    import unicodedata  # noqa: PLC0415 - 1 MiB of tables, for lines that are no ASCII

    return sum(
        0
        if unicodedata.category(char) in _COMBINING
        else 2
        if unicodedata.east_asian_width(char) in _WIDE
        else 1
        for char in cell
    )
