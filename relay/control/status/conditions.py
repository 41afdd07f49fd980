"""Conditions of an object: verdicts of one moment, and what becomes of them over time. Pure.

Rules (Kubernetes API conventions, "Typical status properties"; words of the Gateway API):

* An object and each of its sinks have the four types of :data:`TYPES`, always all of them. One
  that cannot be told is Unknown; none is ever taken away.
* ``observedGeneration`` is the generation that was judged. ``lastTransitionTime`` changes only
  with the status, so that it says since when something holds.
* Messages are for people and bounded; reasons are CamelCase and for programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from relay.runtime.excerpt import clipped

ConditionType = Literal["Accepted", "ResolvedRefs", "Programmed", "Delivering"]
TYPES: Final[tuple[ConditionType, ...]] = ("Accepted", "ResolvedRefs", "Programmed", "Delivering")
OWN_TYPES: Final = frozenset((*TYPES, "Ready", "SignalsCarried"))
"""Every type that a relay writes; ``Ready`` is also the platform's operator's."""
ConditionStatus = Literal["True", "False", "Unknown"]

MESSAGE_CHARS_MAX: Final = 1024
"""Longest message; Kubernetes allows 32,768, a line of ``kubectl describe`` fewer."""


@dataclass(frozen=True, slots=True)
class ConditionVerdict:
    """The status of one condition at one moment, with reason and message.

    ``generation`` is the version that was judged if it is not the present one.
    """

    status: ConditionStatus
    reason: str
    message: str = ""
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class StatusCondition:
    """One condition as it is shown; ``since`` is the last transition (wall clock, s)."""

    type: str
    status: ConditionStatus
    reason: str
    message: str
    observed_generation: int
    since: float


_SHARED_MAX: Final = 256
_shared = lru_cache(maxsize=_SHARED_MAX)(StatusCondition)
"""Conditions of objects that are judged one after the other are often equal: they are one."""

NOT_EVALUATED: Final = ConditionVerdict("Unknown", "NotEvaluated", "it cannot be told now")


def updated(
    before: Iterable[StatusCondition],
    verdicts: Mapping[str, ConditionVerdict],
    *,
    generation: int,
    at: float,
) -> tuple[StatusCondition, ...]:
    """Return the conditions after a judgement at ``at`` (wall clock, s), in order of type.

    A type without a verdict, which had one before or always has one, becomes Unknown.
    """
    known = {one.type: one for one in before}
    order = dict.fromkeys((*TYPES, *known, *verdicts))
    found: list[StatusCondition] = []
    for name in order:
        verdict = verdicts.get(name, NOT_EVALUATED)
        old = known.get(name)
        same = old is not None and old.status == verdict.status
        since = old.since if old is not None and same else at
        message = clipped(verdict.message, MESSAGE_CHARS_MAX)
        judged = generation if verdict.generation is None else verdict.generation
        found.append(_shared(name, verdict.status, verdict.reason, message, judged, since))
    return tuple(found)


def listed(texts: Sequence[str], most: int, *, separator: str = "; ", see: str = "") -> str:
    """Return the first texts for a message, and how many more there are; ``see`` follows that."""
    more = len(texts) - most
    shown = separator.join(texts[:most])
    return shown + (f"{separator}and {more} more{see}" if more > 0 else "")


def worst(statuses: Iterable[ConditionStatus]) -> ConditionStatus:
    """Return False if any is, else Unknown if any is, else True."""
    found = set(statuses)
    if "False" in found:
        return "False"
    return "Unknown" if "Unknown" in found else "True"
