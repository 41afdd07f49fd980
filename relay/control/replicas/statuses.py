"""Keep the status that the leader writes for each object: what all relays say, and what happened.

The status before comes from the object itself (:meth:`MergedStatuses.seed`), so that a new leader
goes on where the last one was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from relay.config.exporter.load_result import ObjectKey
from relay.control.replicas.merge import RelayReading, is_behind, merged
from relay.control.replicas.transitions import Happening, happenings
from relay.control.status.object_status import ObjectStatus

WAIT_S: Final = 10.0
"""Time for which a relay with an older generation is waited for; s."""


class _History:
    """One object: its merged status, and since when some relay is behind (monotonic, s)."""

    __slots__ = ("behind_since_s", "status", "uid")

    def __init__(self, uid: str, status: ObjectStatus | None) -> None:
        self.uid = uid
        self.status = status
        self.behind_since_s: float | None = None


class MergedStatuses:
    """The statuses of all objects over all relays. Lives on the event loop, and only there.

    ``relay`` is this one's name, ``others`` yields what the other relays say of an object by key
    and uid, ``tell`` is called with what happens. ``clock`` is monotonic, ``wall`` the wall clock.
    """

    def __init__(
        self,
        relay: str,
        others: Callable[[ObjectKey, str], Iterable[RelayReading]],
        tell: Callable[[ObjectKey, str, Happening], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._relay = relay
        self._others = others
        self._tell = tell
        self._clock = clock
        self._wall = wall
        self._known: dict[ObjectKey, _History] = {}
        self._behind: dict[ObjectKey, None] = {}

    def seed(self, key: ObjectKey, uid: str, status: ObjectStatus) -> None:
        """Note the status that an object has on its control plane."""
        self._known[key] = _History(uid, status)
        self._behind.pop(key, None)

    def combine(self, key: ObjectKey, uid: str, own: ObjectStatus) -> ObjectStatus:
        """Return the status to write, after this relay's own; tell what has happened."""
        known = self._known.get(key)
        if known is None or known.uid != uid:
            known = self._known[key] = _History(uid, None)
        readings = [RelayReading(self._relay, own), *self._others(key, uid)]
        now = self._clock()
        if not is_behind(readings):
            known.behind_since_s = None
            self._behind.pop(key, None)
        elif known.behind_since_s is None:
            known.behind_since_s = now
            self._behind[key] = None
        since_s = known.behind_since_s
        waits = since_s is None or now < since_s + WAIT_S
        before = known.status
        known.status = merged(readings, before, at=self._wall(), waits=waits)
        for what in happenings(before, known.status):
            self._tell(key, uid, what)
        return known.status

    def overdue(self) -> list[ObjectKey]:
        """Return the objects for which no relay is waited any more since the last call."""
        now = self._clock()
        found: list[ObjectKey] = []
        for key in self._behind:  # those that wait longest come first
            known = self._known.get(key)
            if known is not None and known.behind_since_s is not None:
                if now < known.behind_since_s + WAIT_S:
                    break
                found.append(key)
        for key in found:
            del self._behind[key]
        return found

    def forget(self, key: ObjectKey) -> None:
        """Drop an object that is gone."""
        self._known.pop(key, None)
        self._behind.pop(key, None)

    def clear(self) -> None:
        """Drop everything: another relay leads."""
        self._known.clear()
        self._behind.clear()

    def __repr__(self) -> str:
        return f"<MergedStatuses of {len(self._known)} objects>"
