"""What no text of the project says."""

from __future__ import annotations

import re

RIDDLE = re.compile(r"\b(?:whoever|whomever|who is gone|who are gone|so-manieth)\b", re.IGNORECASE)
"""Things are named, never "who"."""


def riddles(text: str) -> list[str]:
    """Return the riddles in a text, also in names, whose words underscores divide."""
    return RIDDLE.findall(text.replace("_", " "))
