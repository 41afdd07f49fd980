"""Tell which relays there are, from the Leases that they renew. Pure: clocks are arguments.

Rules:

* A relay lives while its Lease was seen to change within the duration that it names, by the
  observer's own monotonic clock, as in :mod:`relay.control.kubernetes.lease`.
* An observer that could not look for a while begins to count anew: others could not renew either.
* A relay that has given its Lease back has ended in good order. It still counts for
  :data:`LEFT_S`, so that nothing changes while it is only restarted.
* The Lease of a relay that is lost is deleted after :data:`LOST_S`; until then the relay counts,
  as its queue may be on a disk that comes back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relay.control.kubernetes.lease import LeaseRecord

LEFT_S: Final = 60.0
LOST_S: Final = 600.0
GAP_S: Final = 12.0
"""Time between two looks after which nothing is concluded from the first one; s."""


@dataclass(frozen=True, slots=True)
class MemberLease:
    """The Lease of one relay as it was read; ``url`` is where its report is served, or ""."""

    name: str
    record: LeaseRecord
    url: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """One relay. ``name`` is its own; ``lease`` that of its Lease. Times are monotonic, s.

    ``lost_at_s``: its Lease has expired then, None while it lives. ``left``: it has ended in good
    order.
    """

    name: str
    lease: str
    url: str
    lost_at_s: float | None = None
    left: bool = False


@dataclass(frozen=True, slots=True)
class StaleLease:
    """A Lease to delete, if it is still as it was seen."""

    name: str
    uid: str
    resource_version: str


class _Known:
    """One Lease and since when it is so."""

    __slots__ = ("changed_at_s", "left_at_s", "seen")

    def __init__(self, seen: MemberLease, now: float) -> None:
        self.seen = seen
        self.changed_at_s = now
        self.left_at_s: float | None = None

    def expires_at_s(self) -> float:
        return self.changed_at_s + self.seen.record.lasting_s


class Membership:
    """The relays of one cluster, as one of them sees them."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._listed_at_s = float("-inf")

    @property
    def is_known(self) -> bool:
        """True once the Leases were looked at."""
        return self._listed_at_s > float("-inf")

    def listed(self, leases: Iterable[MemberLease], now: float) -> None:
        """Note the Leases that there are."""
        found = {one.name: one for one in leases}
        before_s, self._listed_at_s = self._listed_at_s, now
        if now - before_s > GAP_S:
            for one in self._known.values():
                if before_s < one.expires_at_s():
                    one.changed_at_s = now
        for name, seen in found.items():
            known = self._known.get(name)
            if known is None:
                self._known[name] = _Known(seen, now)
                continue
            if known.left_at_s is not None or known.seen.record.words != seen.record.words:
                known.changed_at_s, known.left_at_s = now, None
            known.seen = seen
        for name, known in list(self._known.items()):
            if name in found:
                continue
            if now >= known.expires_at_s() and known.left_at_s is None:
                del self._known[name]  # it was lost, and its Lease was cleaned up
                continue
            if known.left_at_s is None:
                known.left_at_s = now
            if now >= known.left_at_s + LEFT_S:
                del self._known[name]

    def members(self) -> tuple[Member, ...]:
        """Return the relays that count, by name, as of the last look."""
        found = []
        for name, known in sorted(self._known.items()):
            left = known.left_at_s is not None
            expires_at_s = known.expires_at_s()
            lost = not left and self._listed_at_s >= expires_at_s
            shown = known.seen.record.holder.partition("_")[0] or name
            found.append(Member(shown, name, known.seen.url, expires_at_s if lost else None, left))
        return tuple(found)

    def stale(self) -> tuple[StaleLease, ...]:
        """Return the Leases of relays that were lost long ago."""
        return tuple(
            StaleLease(name, known.seen.record.uid, known.seen.record.resource_version)
            for name, known in self._known.items()
            if known.left_at_s is None and self._listed_at_s >= known.expires_at_s() + LOST_S
        )

    def __repr__(self) -> str:
        return f"<Membership {', '.join(self._known)}>"
