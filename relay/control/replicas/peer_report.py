"""Keep another relay's report as it comes page by page. Pure.

A report that begins anew replaces the old one when its last page has come, so that no half of it
is ever seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from relay.config.exporter.load_result import ObjectKey
from relay.control.replicas.report import (
    PAGE_OBJECTS_MAX,
    ReplicaStatus,
    ReportError,
    ReportPage,
    read_gone_key,
    read_object_key,
    read_status,
)

OBJECTS_MAX: Final = 200_000
"""Most objects of one report."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """The status of an object as it came."""

    uid: str
    text: bytes


class PeerReport:
    """The report of one other relay; ask for the next page with ``epoch`` and ``position``."""

    def __init__(self) -> None:
        self.epoch = ""
        self.position = 0
        self.unreadable = 0
        """Objects that could not be read since the start."""
        self.complete = False
        """True once there is a whole report."""
        self._draining: tuple[str, ...] = ()
        self._objects: dict[ObjectKey, _Kept] = {}
        self._next: dict[ObjectKey, _Kept] | None = None  # a new report of which pages are missing

    def add(self, page: ReportPage) -> set[ObjectKey]:
        """Take a page; return the objects whose status may have changed. Raises ReportError."""
        if len(page.objects) > 4 * PAGE_OBJECTS_MAX:
            raise ReportError(f"a page of its report has {len(page.objects)} objects")
        if page.reset:
            self._next = {}
        elif page.epoch != self.epoch or page.position < self.position or not self.position:
            self.restart()
            raise ReportError("a page of its report does not follow the one before")
        if page.more and not (page.objects or page.gone):
            self.restart()
            raise ReportError("a page of its report is empty, and more are to follow")
        into = self._objects if self._next is None else self._next
        changed = self._put(into, page.objects)
        for text in page.gone:
            key = read_gone_key(text)
            if key is not None and into.pop(key, None) is not None:
                changed.add(key)
        if len(into) > OBJECTS_MAX:
            self.restart()
            raise ReportError(f"its report has more than {OBJECTS_MAX} objects")
        self.epoch, self.position = page.epoch, page.position
        self._draining = page.draining
        if self._next is None:
            return changed
        if page.more:
            return set()
        old, self._objects = self._objects, self._next
        self._next, self.complete = None, True
        return {
            key
            for key in old.keys() | self._objects.keys()
            if old.get(key) != self._objects.get(key)
        }

    def restart(self) -> None:
        """Ask for the whole report next; what is known stays until it has come."""
        self.epoch, self.position, self._next = "", 0, None

    def status_of(self, key: ObjectKey) -> ReplicaStatus | None:
        """Return the status of an object; None if the report has none that can be read.

        An earlier version's report names no API groups: the uid tells which object is meant.
        """
        kept = self._objects.get(key)
        if kept is None and key.group:
            kept = self._objects.get(replace(key, group=""))
        if kept is None:
            return None
        status = read_status(kept.text)
        return None if status is None else ReplicaStatus(kept.uid, status)

    def held(self) -> set[str]:
        """Return the uids of the objects that the relay has, or whose data it still sends."""
        return {kept.uid for kept in self._objects.values()}.union(self._draining)

    def __len__(self) -> int:
        return len(self._objects)

    def _put(self, into: dict[ObjectKey, _Kept], texts: Iterable[msgspec.Raw]) -> set[ObjectKey]:
        changed: set[ObjectKey] = set()
        for text in texts:
            head = read_object_key(text)
            if head is None:
                self.unreadable += 1
                continue
            key, uid = head
            into[key] = _Kept(uid, bytes(text))
            changed.add(key)
        return changed

    def __repr__(self) -> str:
        return f"<PeerReport {len(self._objects)} objects, position {self.position}>"
