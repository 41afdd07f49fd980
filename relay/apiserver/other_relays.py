"""Let the relay that serves the API write the statuses of all relays that read it.

* Relays that read the API renew Leases in it, as on Kubernetes. While there is one, this relay
  holds the Lease of their leader, wherever they keep it, so that none of them writes statuses.
* It asks the others for their reports, with the credential of its own admin listener, and sums them
  up with what it judges itself. Leases are written with tokens of relays alone, as they say where
  that credential is sent.
* Before the others have had their chance to report, no status is told.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from relay.apiserver.http.changes import Changer
from relay.apiserver.http.request_target import ResourceTarget
from relay.apiserver.lasting_failure import LastingFailure
from relay.apiserver.objects.failures import ApiRefusalError
from relay.apiserver.objects.kinds import stored_kind
from relay.apiserver.objects.writes import WriteOptions
from relay.apiserver.store.database import ObjectKeyInStore
from relay.apiserver.store.errors import StoreUnusableError
from relay.apiserver.store.served_objects import ServedObjects
from relay.config.exporter.load_result import ObjectKey, ObjectResult
from relay.control.kubernetes.errors import MalformedAnswerError
from relay.control.kubernetes.lease import (
    RENEW_DEADLINE_S,
    LeaseRecord,
    claimed,
    lease_document,
    micro_time,
    read_lease,
)
from relay.control.kubernetes.status_body import FIELD_MANAGER
from relay.control.replicas.members import Member, Membership
from relay.control.replicas.peer_access import PeerAccess
from relay.control.replicas.presence import GROUP_LABEL, RENEW_S, read_leases
from relay.control.replicas.report_reader import PeerReports
from relay.control.replicas.statuses import MergedStatuses
from relay.control.status.board import StatusBoard
from relay.control.status.conditions import StatusCondition
from relay.control.status.object_status import ObjectStatus, SinkStatus

_log: Final = logging.getLogger("relay.api")
LOOK_S: Final = 1.0
RESTART_S: Final = 5.0
"""Pause after a bug; s."""
_LEASES: Final = stored_kind("leases.coordination.k8s.io")
_OPTIONS: Final = WriteOptions(FIELD_MANAGER, force=True)

_Place = tuple[str, str, str]
"""Project and namespace of some relays' Leases, and the name of their group."""


class OtherRelays:
    """The relays that read this API. Lives on the event loop; :meth:`run` takes part.

    ``changer`` returns what writes, once the API runs. ``relay`` names this one, ``mark`` this life
    of its process. ``clock`` is monotonic, ``wall`` the wall clock; s.
    """

    def __init__(
        self,
        objects: ServedObjects,
        changer: Callable[[], Changer],
        access: PeerAccess,
        relay: str,
        mark: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._objects = objects
        self._changer = changer
        self._holder = f"{relay}_{mark}"
        self._failure = LastingFailure(_log, "Leases of other relays", clock)
        self._clock = clock
        self._wall = wall
        self._places: dict[_Place, Membership] = {}
        self._renewed: dict[_Place, float] = {}
        self._judged_anew_at_s: float | None = None
        self._listeners: list[Callable[[Sequence[ObjectKey] | None], None]] = []
        self.reports: Final = PeerReports(
            access, self.members, "", on_change=self._reported, clock=clock
        )
        self._statuses = MergedStatuses(
            relay, self.reports.readings, lambda *_: None, clock=clock, wall=wall
        )

    def __repr__(self) -> str:
        return f"<OtherRelays {list(self._places)}>"

    def subscribe(self, listener: Callable[[Sequence[ObjectKey] | None], None]) -> None:
        """Call ``listener`` with the objects that others see differently, None for all."""
        self._listeners.append(listener)

    def members(self) -> tuple[Member, ...]:
        """Return the relays that count."""
        return tuple(one for known in self._places.values() for one in known.members())

    def held(self) -> set[str]:
        """Return the uids of the objects for which others still send."""
        return self.reports.held()

    @property
    def settled(self) -> bool:
        """True once the others have reported, or have had the time for it; and without any."""
        return self.reports.settled or not self.members()

    def combined(self, key: ObjectKey, uid: str, own: ObjectStatus) -> ObjectStatus:
        """Return the status of an object over all relays, after this relay's own."""
        return self._statuses.combine(_theirs(key), uid, own)

    def seed(self, key: ObjectKey, uid: str, status: ObjectStatus) -> None:
        """Go on from the status that is stored."""
        self._statuses.seed(_theirs(key), uid, status)

    def forget(self, key: ObjectKey) -> None:
        """Drop an object that is gone."""
        self._statuses.forget(_theirs(key))

    async def run(self) -> None:
        """Look at the Leases and read reports, until cancelled; a bug costs a pause."""
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.reports.run(), name="read reports")
                    group.create_task(self._follow(), name="look at Leases of relays")
            except Exception:
                _log.exception("bug in the relay: reports of other relays are read anew")
                await asyncio.sleep(RESTART_S)

    async def _follow(self) -> None:
        while True:
            self.look()
            try:
                await self._lead()
            except (ApiRefusalError, StoreUnusableError, MalformedAnswerError) as error:
                self._failure.failed(error)
            else:
                self._failure.succeeded()
            overdue = self._statuses.overdue()
            if overdue:
                self._tell([_ours(key) for key in overdue])
            if self._judged_anew_at_s is not None and self._clock() >= self._judged_anew_at_s:
                self._judged_anew_at_s = None
                self._tell(None)
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Look which relays there are."""
        found: dict[_Place, list[bytes]] = {place: [] for place in self._places}
        key = _LEASES.storage_key
        for project in self._objects.projects(key):
            for one in self._objects.listed(key, project):
                group = one.labels.get(GROUP_LABEL)
                if group:
                    found.setdefault((project, one.namespace, group), []).append(one.raw)
        now = self._clock()
        for place, raw in found.items():
            known = self._places.setdefault(place, Membership())
            where = "/".join(place[:2])
            leases = read_leases(raw, place[2])
            known.listed([replace(one, name=f"{where}/{one.name}") for one in leases], now)
            if not raw and not known.members():
                del self._places[place]
                self._renewed.pop(place, None)

    async def _lead(self) -> None:
        """Hold the Leases of the others' leaders, and delete those of relays lost long ago."""
        now = self._clock()
        for place, known in list(self._places.items()):
            seen = self._leader(place)
            is_ours = seen is not None and seen.holder == self._holder
            if not is_ours or now - self._renewed.get(place, 0.0) >= RENEW_S:
                await self._hold(place, seen, is_ours=is_ours)
                self._renewed[place] = now
            for stale in known.stale():
                target = ResourceTarget(_LEASES, place[1], stale.name.rpartition("/")[2])
                wanted = {"uid": stale.uid, "resourceVersion": stale.resource_version}
                await self._changer().delete(target, place[0], wanted, dry_run=False)

    def _leader(self, place: _Place) -> LeaseRecord | None:
        project, namespace, group = place
        found = self._objects.get(ObjectKeyInStore(_LEASES.storage_key, project, namespace, group))
        return None if found is None else read_lease(found.raw)

    async def _hold(self, place: _Place, seen: LeaseRecord | None, *, is_ours: bool) -> None:
        project, namespace, group = place
        at = self._wall()
        if is_ours and seen is not None:
            record = replace(seen, renewed=micro_time(at))
        else:
            record = claimed(seen, self._holder, at)
            # Another one may have written statuses, and may do so until its time is over.
            self._judged_anew_at_s = self._clock() + RENEW_DEADLINE_S
        body = lease_document(
            replace(record, resource_version="", metadata=b"{}"), namespace=namespace, name=group
        )
        target = ResourceTarget(_LEASES, namespace, group)
        await self._changer().apply(target, project, body, _OPTIONS, dry_run=False)

    def _reported(self, keys: Iterable[ObjectKey] | None) -> None:
        self._tell(None if keys is None else [_ours(key) for key in keys])

    def _tell(self, keys: Sequence[ObjectKey] | None) -> None:
        for listener in self._listeners:
            listener(keys)


class SharedBoard:
    """The statuses of this relay's board and of all others, for the API's objects.

    Those of objects of files are this relay's own.
    """

    def __init__(self, board: StatusBoard, relays: OtherRelays) -> None:
        self._board = board
        self._relays = relays

    def __repr__(self) -> str:
        return f"<SharedBoard of {self._board!r}>"

    def subscribe(self, listener: Callable[[Sequence[ObjectKey]], None]) -> None:
        """Call ``listener`` with the objects whose conditions may have changed."""
        self._board.subscribe(listener)
        self._relays.subscribe(
            lambda keys: listener(list(self._board.objects()) if keys is None else keys)
        )

    async def look(self) -> list[ObjectKey]:
        """Judge what may have changed."""
        return await self._board.look()

    def objects(self) -> Iterator[ObjectKey]:
        """Return all objects."""
        return self._board.objects()

    def result(self, key: ObjectKey) -> ObjectResult | None:
        """Return what was loaded of an object."""
        return self._board.result(key)

    def settled(self, key: ObjectKey) -> object | None:
        """Return a mark that stays as long as the status does, None if it may change any time."""
        return None if self._relays.members() else self._board.settled(key)

    def status(self, key: ObjectKey) -> ObjectStatus | None:
        """Return the status of an object; None if it is not judged, or not by all yet."""
        result, own = self._board.result(key), self._board.status(key)
        if key.source != "api" or not self._relays.members():
            return own
        if result is None or own is None:
            self._relays.forget(key)
            return None
        return self._relays.combined(key, result.uid, own) if self._relays.settled else None

    def seed(
        self,
        key: ObjectKey,
        uid: str,
        conditions: tuple[StatusCondition, ...],
        sinks: Mapping[str, tuple[StatusCondition, ...]],
    ) -> None:
        """Go on from stored conditions; with others they are not this relay's own."""
        if key.source != "api" or not self._relays.members():
            self._board.seed(key, uid, conditions, sinks)
            return
        stored = tuple(SinkStatus(name, of_sink) for name, of_sink in sinks.items())
        self._relays.seed(key, uid, ObjectStatus(conditions, stored))


def held_by_all(
    held: Callable[[], Collection[str]], relays: OtherRelays
) -> Callable[[], Collection[str]]:
    """Return what tells the uids of the objects of which sinks of any relay run or drain."""
    return lambda: relays.held().union(held())


def _theirs(key: ObjectKey) -> ObjectKey:
    """Return the name of an object as relays that read the API report it."""
    return replace(key, source="kubernetes", plane=key.project)


def _ours(key: ObjectKey) -> ObjectKey:
    return replace(key, source="api", plane="")
