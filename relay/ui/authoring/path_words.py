"""Write paths in messages as the form's words: pages have labels where the API has paths. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from relay.ui.authoring.controls import SINK_KINDS, list_of, sink_controls, source_controls

_PATH: Final = re.compile(r"spec\.(sources|sinks)\[(\d{0,4})\]((?:\.\w+(?:\[\d*\])?)*)")
_METADATA: Final = re.compile(r"\bmetadata\.(name|namespace)\b")
_AUTHENTICATION: Final = re.compile(r"(?:\w+\.)?authentication\b")


@cache
def _labels() -> Mapping[str, str]:
    controls = [*source_controls({}), *sink_controls({})]
    controls += [one for row in SINK_KINDS for one in row.controls]
    return {one.path: one.label for one in controls} | {"paused": "Pause"}


def in_words(text: str, value: Any) -> str:
    """Return a message about an object, with the names and labels that its paths stand for.

    Without the object labels stand alone.
    """

    def words(found: re.Match[str]) -> str:
        items = list_of(value, found[1])
        number = int(found[2]) if found[2] else -1
        name = str(items[number].get("name", "")) if 0 <= number < len(items) else ""
        path = found[3].removeprefix(".")
        label = "Authentication" if _AUTHENTICATION.match(path) else _labels().get(path, path)
        return " of ".join(one for one in (label, name) if one) or found[0]

    return _METADATA.sub(lambda found: found[1].capitalize(), _PATH.sub(words, text))
