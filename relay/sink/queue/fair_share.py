"""What many sinks share, and who gives way when it runs out. Pure.

Rule: whoever has most gives way first, down to the level of the next. So nobody loses anything for
another's sake while holding no more than an equal share: one customer's dead endpoint cannot eat
another's space.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


class BufferedBytes:
    """How many bytes of payloads all sinks together have in memory."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0

    def __repr__(self) -> str:
        return f"<BufferedBytes {self.used}>"


def max_min_fair_cuts(usage: Mapping[Key, int], excess: int) -> dict[Key, int]:
    """What each has to give up so that the sum falls by ``excess``, the largest first.

    Everything where ``excess`` is more than there is. Those that give nothing are left out.
    """
    ordered = sorted((key for key in usage if usage[key] > 0), key=lambda k: usage[k], reverse=True)
    given: dict[Key, int] = {}
    for count, key in enumerate(ordered, 1):
        below = usage[ordered[count]] if count < len(ordered) else 0
        step = min(excess, count * (usage[key] - below))
        if step <= 0:
            given.setdefault(key, 0)
            continue
        # Rounded up, so that the sum is never short; at most a byte each too much.
        each = -(-step // count)
        for giver in ordered[:count]:
            given[giver] = min(usage[giver], given.get(giver, 0) + each)
        excess -= step
        if excess <= 0:
            break
    return {key: amount for key, amount in given.items() if amount}
