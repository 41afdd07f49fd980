"""Max-min fair shares of a budget that many sinks use. Pure.

Rule: the largest user is cut first, down to the level of the next. So nothing is taken from a user
that holds no more than an equal share: the dead endpoint of one tenant cannot use up the space of
another.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


class BufferedBytes:
    """Bytes of batches and bodies that all sinks together hold in memory."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0

    def __repr__(self) -> str:
        return f"<BufferedBytes {self.used}>"


def max_min_fair_cuts(usage: Mapping[Key, int], excess: int) -> dict[Key, int]:
    """Return how much to cut from each user so that the sum falls by ``excess``, the largest first.

    Everything where ``excess`` exceeds the sum. Users that are not cut are left out.
    """
    ordered = sorted((key for key in usage if usage[key] > 0), key=lambda k: usage[k], reverse=True)
    cuts: dict[Key, int] = {}
    for count, key in enumerate(ordered, 1):
        below = usage[ordered[count]] if count < len(ordered) else 0
        step = min(excess, count * (usage[key] - below))
        if step <= 0:
            cuts.setdefault(key, 0)
            continue
        # Rounded up, so that the sum is never short; at most a byte each too much.
        each = -(-step // count)
        for user in ordered[:count]:
            cuts[user] = min(usage[user], cuts.get(user, 0) + each)
        excess -= step
        if excess <= 0:
            break
    return {key: amount for key, amount in cuts.items() if amount}
