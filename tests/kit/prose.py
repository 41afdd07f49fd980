"""What no text of the project says."""

from __future__ import annotations

import re

RIDDLE = re.compile(
    r"(?<![a-z])(?:whoever|whomever|who[ _]is[ _]gone|who[ _]are[ _]gone|so-manieth)(?![a-z])",
    re.IGNORECASE,
)
"""Things are named, never "who"."""
