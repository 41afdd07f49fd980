"""The state of an exporter or a sink in a word, with its tone: made of its conditions. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import msgspec

Tone = Literal["good", "warn", "bad", "idle", "wait"]
"""Tones are shapes and colours: a tick, a triangle, a cross, a bar, a ring."""


class ShownCondition(msgspec.Struct, frozen=True, rename="camel"):
    """One condition of a status; a status from elsewhere may lack anything."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""

    @property
    def sentence(self) -> str:
        """Its message, or what its status means where it has none."""
        return self.message or _MEANINGS.get((self.type, self.status), "")


_MEANINGS: Final = {
    ("Accepted", "True"): "the object is valid",
    ("ResolvedRefs", "True"): "every Secret that it refers to is there",
    ("Programmed", "True"): "this version runs",
    ("Delivering", "True"): "the endpoint accepts the data",
    ("Delivering", "Unknown"): "no endpoint has answered yet",
}
"""Messages of conditions that have none, by type and status."""


class ShownState(NamedTuple):
    """A state; ``key`` is what filters call it, ``message`` says what to do."""

    key: str
    word: str
    tone: Tone
    message: str = ""


_DELIVERING: Final[dict[str, tuple[str, str, Tone]]] = {
    "Delivering": ("delivering", "Delivering", "good"),
    "NoData": ("nothing", "Nothing matches", "warn"),
    "NoAnswer": ("starting", "Starting", "wait"),
    "Failing": ("failing", "Failing", "bad"),
    "Rejected": ("failing", "Rejected", "bad"),
    "Behind": ("behind", "Behind", "warn"),
    "Paused": ("paused", "Paused", "idle"),
}
_PLAINLY: Final = {
    "NoData": "nothing has matched yet: check the selectors of its sources",
    "Paused": "nothing is sent, and the queue is kept; resume it to go on",
}
"""Messages that name fields and commands, as a page says them."""
FILTERS: Final = (
    ("failing", "Failing"),
    ("refused", "Not accepted"),
    ("behind", "Behind"),
    ("nothing", "Nothing matches"),
    ("starting", "Starting"),
    ("paused", "Paused"),
    ("delivering", "Delivering"),
)
"""Keys of states and their words, what wants attention first."""


def state_of(conditions: Sequence[ShownCondition]) -> ShownState:
    """Return the state that conditions tell; the one that stands in the way of others first."""
    found = {one.type: one for one in conditions}
    accepted = found.get("Accepted")
    if accepted is not None and accepted.status == "False":
        word = "Conflict" if accepted.reason == "Conflict" else "Not accepted"
        return ShownState("refused", word, "bad", accepted.message)
    resolved = found.get("ResolvedRefs")
    if resolved is not None and resolved.status == "False":
        return ShownState("refused", "Secret missing", "bad", resolved.message)
    programmed = found.get("Programmed")
    if programmed is not None and programmed.status == "False":
        return ShownState("starting", "Starting", "wait", programmed.message)
    delivering = found.get("Delivering")
    if delivering is None:
        return ShownState("starting", "Starting", "wait", "The relay has not judged it yet.")
    known = _DELIVERING.get(delivering.reason)
    if known is None:
        return ShownState("starting", "Starting", "wait", delivering.message)
    key, word, tone = known
    message = _PLAINLY.get(delivering.reason, delivering.message)
    if accepted is not None and accepted.reason == "LimitExceeded":
        return ShownState(key, word, "warn" if tone == "good" else tone, accepted.message)
    return ShownState(key, word, tone, message)
