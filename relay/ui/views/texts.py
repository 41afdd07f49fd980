"""Make text of others visible as text: what changes a line's direction or look is written out.

Names, labels, help texts and bodies of errors come from customers and endpoints. Escaping keeps
them out of the markup; this keeps them from hiding, overwriting or reordering what stands beside.
"""

from __future__ import annotations

import re
from typing import Final

_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but tab and line feed
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e"  # soft hyphen, joiners, fillers
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
    "\ud800-\udfff"  # halves of pairs, which cannot be sent
    "\U000e0000-\U000e0fff]"  # tags and variation selectors
)
_MARKS_MAX: Final = 4
_MARKS: Final = re.compile(
    f"([\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]"
    f"{{{_MARKS_MAX}}})[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]+"
)


def visible(text: str) -> str:
    """Return a text in which invisible characters are escapes, and stacked marks are few."""
    if text.isascii() and text.isprintable():
        return text
    return _MARKS.sub(r"\1", _INVISIBLE.sub(_escape, text))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
