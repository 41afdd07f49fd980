"""Keep the order in which this relay's statuses change, and give them out in pages. Pure.

Rules:

* An object whose condition or message changes is touched, and so moves to the end of the log. One
  of which only counters change is found by a sweep, which each request for a page drives on: each
  object once in :data:`SWEEP_S`, as counters change all the time.
* An object that is gone leaves a tombstone; of these at most :data:`TOMBSTONES_MAX` are kept. A
  reader that has missed one begins anew.
* Nothing is given out before :attr:`ReportLog.ready`: a relay that starts has no statuses yet.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from relay.config.exporter.load_result import ObjectKey
from relay.control.replicas.report import (
    FORMAT,
    PAGE_OBJECTS_MAX,
    ReplicaStatus,
    ReportPage,
    encode_gone,
    encode_object,
    encode_page,
)

SWEEP_S: Final = 120.0
SWEPT_AT_ONCE_MAX: Final = 200
TOMBSTONES_MAX: Final = 10_000


class _LogEntry:
    """One object: ``gone``, or ``digest`` of its status as it was given out last."""

    __slots__ = ("digest", "gone", "position")

    def __init__(self, position: int, *, gone: bool) -> None:
        self.position = position
        self.gone = gone
        self.digest = b""


@dataclass(frozen=True, slots=True)
class ReportLogStatistics:
    """Objects and tombstones in the log, and its last position."""

    objects: int
    tombstones: int
    position: int


class ReportLog:
    """This relay's statuses. ``epoch`` is new in every life.

    ``status`` returns that of an object as of now, None if there is none; ``draining`` the uids of
    objects that are gone, and whose data is still being sent; ``has`` tells whether ``status``
    returns one, at less cost. Times are monotonic, s.
    """

    def __init__(
        self,
        relay: str,
        epoch: str,
        status: Callable[[ObjectKey], ReplicaStatus | None],
        draining: Callable[[], Iterable[str]] = tuple,
        *,
        has: Callable[[ObjectKey], bool] | None = None,
    ) -> None:
        assert epoch, "a position means nothing without"
        self.relay = relay
        self.epoch = epoch
        self.ready = False
        """False until every object has a status."""
        self._status = status
        self._draining = draining
        self._has = has or (lambda key: status(key) is not None)
        self._entries: OrderedDict[ObjectKey, _LogEntry] = OrderedDict()  # by position
        self._tombstones: deque[tuple[int, ObjectKey]] = deque()
        self._dead = 0
        self._position = 0
        self._forgotten = 0  # position up to which tombstones may be missing
        self._to_sweep: deque[ObjectKey] = deque()
        self._swept_at_s = float("-inf")

    def touch(self, keys: Iterable[ObjectKey]) -> None:
        """Note objects whose status has changed, is new, or gone."""
        for key in keys:
            if self._has(key):
                self._move(key, gone=False)
            elif key in self._entries and not self._entries[key].gone:
                self._move(key, gone=True)
                self._bury(key)

    def page(self, epoch: str, since: int, now: float) -> bytes:
        """Return the JSON of what has changed since a position of an epoch, "" and 0 for all."""
        self._sweep(now)
        reset = epoch != self.epoch or since < self._forgotten or not 0 < since <= self._position
        if reset:
            since = 0
        changed: list[tuple[ObjectKey, _LogEntry]] = []
        for key in reversed(self._entries):
            entry = self._entries[key]
            if entry.position <= since:
                break
            changed.append((key, entry))
        changed.reverse()
        chosen = list(islice(changed, PAGE_OBJECTS_MAX))
        more = len(chosen) < len(changed)
        position = chosen[-1][1].position if more else self._position
        objects, gone = [], []
        for key, entry in chosen:
            status = None if entry.gone else self._status(key)
            if status is not None:
                text = encode_object(key, status)
                entry.digest = _digest(text)
                objects.append(text)
            elif not reset:
                gone.append(encode_gone(key))
        return encode_page(
            ReportPage(
                FORMAT,
                self.relay,
                self.epoch,
                position,
                reset=reset,
                more=more,
                objects=tuple(objects),
                gone=tuple(gone),
                draining=tuple(self._draining()),
            )
        )

    def statistics(self) -> ReportLogStatistics:
        """Return a snapshot."""
        return ReportLogStatistics(len(self._entries) - self._dead, self._dead, self._position)

    def _move(self, key: ObjectKey, *, gone: bool) -> None:
        old = self._entries.pop(key, None)
        self._dead += gone - (old is not None and old.gone)
        self._position += 1
        self._entries[key] = _LogEntry(self._position, gone=gone)

    def _bury(self, key: ObjectKey) -> None:
        self._tombstones.append((self._position, key))
        while len(self._tombstones) > TOMBSTONES_MAX:
            position, dropped = self._tombstones.popleft()
            old = self._entries.get(dropped)
            if old is not None and old.position == position:
                del self._entries[dropped]
                self._dead -= 1
                self._forgotten = position

    def _sweep(self, now: float) -> None:
        """Touch those of the next objects whose counters have changed."""
        if not self._to_sweep:
            self._to_sweep.extend(key for key, one in self._entries.items() if not one.gone)
        elapsed_s = min(now - self._swept_at_s, SWEEP_S)
        count = min(int(len(self._entries) * elapsed_s / SWEEP_S), SWEPT_AT_ONCE_MAX)
        if not count:
            return
        self._swept_at_s = now
        for _ in range(min(count, len(self._to_sweep))):
            key = self._to_sweep.popleft()
            entry = self._entries.get(key)
            if entry is None or entry.gone or not entry.digest:
                continue  # it is in a page to come
            status = self._status(key)
            if status is not None and _digest(encode_object(key, status)) != entry.digest:
                self._move(key, gone=False)

    def __repr__(self) -> str:
        return f"<ReportLog {self.relay}, {self.statistics()}>"


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=8).digest()
