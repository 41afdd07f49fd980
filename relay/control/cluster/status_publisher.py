"""Write the statuses of objects to their control planes while this relay leads.

    StatusBoard ─▶ MergedStatuses (with other relays' reports) ─▶ StatusSchedule ─▶ StatusWriter
    LeaderElector ─▶ begin, end      └─▶ Events

* What an object's own status says is where a new leader begins (seeding): nothing is written or
  told again, and no time of a transition moves.
* Nothing is written before the other relays had their chance to report.
* A version that was not judged yet gets no status, and an object nothing of a predecessor's: what
  is written is known by key and uid.
* A bug in what is said of one object costs no other its status.
* Counters are looked at every :data:`COUNTERS_S` where there is data, else seldom; the schedule
  decides when they are worth a write.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol

from relay.config.export_policy.dialect import KIND as EXPORT_POLICY
from relay.config.exporter.load_result import ObjectKey
from relay.control.cluster.cluster_source import StatusTarget
from relay.control.cluster.resources import EXPORT_POLICIES
from relay.control.kubernetes.client import ApiClient
from relay.control.kubernetes.leader import LeaderElector, LeaderStatistics
from relay.control.kubernetes.status_body import own_part, parts_of, status_document
from relay.control.kubernetes.status_schedule import StatusSchedule
from relay.control.kubernetes.status_writer import StatusWrite, StatusWriter, WriterStatistics
from relay.control.replicas.peer_access import PeerAccess
from relay.control.replicas.presence import ReplicaIdentity
from relay.control.replicas.replicas import ReplicaHost, Replicas, ReplicasStatistics
from relay.control.replicas.report import ReplicaStatus
from relay.control.replicas.written_status import read_object_status
from relay.control.status.judged import JudgedObjects
from relay.runtime.event_loop import WorkSlice

_log = logging.getLogger("relay.control.cluster")

TICK_S: Final = 0.5
COUNTERS_S: Final = 300.0
"""Time in which the counters of each object with data are looked at; s."""
QUIET_S: Final = 1800.0
"""The same for objects without data, of which only the count of series may change; s."""
_Written = tuple[ObjectKey, str]
"""Key and uid of an object whose status is written."""
RESTART_S: Final = 5.0
"""Pause after a bug; s."""


class CountedObjects(JudgedObjects, Protocol):
    """Judged objects that tell whose counters move."""

    def busy(self) -> Iterator[ObjectKey]:
        """Return the objects whose counters may have changed."""


@dataclass(frozen=True, slots=True)
class PublisherStatistics:
    """State of writing; ``writer`` is None while another relay leads.

    ``written`` and ``failed`` are counted since the start. ``oldest_waiting_s``: for how long the
    oldest changed condition has waited, s.
    """

    leader: LeaderStatistics
    replicas: ReplicasStatistics
    writer: WriterStatistics | None
    written: int = 0
    failed: int = 0
    oldest_waiting_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PublisherOptions:
    """Names, access to other relays, and the budget of writes.

    ``owns_client``: the client is closed at the end.
    """

    identity: ReplicaIdentity
    access: PeerAccess
    writes_per_s: float
    owns_client: bool = False


class StatusPublisher:
    """Writes statuses and Events. Lives on the event loop; :meth:`run` works until cancelled.

    ``client`` reaches the control plane of the Leases. ``target`` returns the place of an object's
    status by key and uid, ``draining`` the uids of objects that are gone, and whose data this relay
    still sends. ``clock`` is monotonic, s.
    """

    def __init__(
        self,
        client: ApiClient,
        options: PublisherOptions,
        board: CountedObjects,
        target: Callable[[ObjectKey, str], StatusTarget | None],
        *,
        draining: Callable[[], Iterable[str]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._options = options
        self._board = board
        self._target = target
        self._clock = clock
        self._schedule = StatusSchedule[_Written](options.writes_per_s)
        self._writer: StatusWriter[_Written] | None = None
        self._duties: list[Callable[[], Coroutine[Any, Any, None]]] = [self._write]
        self._always: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._working: list[asyncio.Task[None]] = []
        self._dirty: dict[ObjectKey, None] = {}
        self._seeded: set[ObjectKey] = set()
        self._uids: dict[ObjectKey, str] = {}  # of the objects in the schedule
        self._written = self._failed = 0  # by writers that have ended
        self._rounds = (
            _Round(lambda: self._ours(board.busy()), COUNTERS_S, clock()),
            _Round(self._objects, QUIET_S, clock()),
        )
        self._woken = asyncio.Event()
        identity = options.identity
        self._elector = LeaderElector(
            client,
            namespace=identity.namespace,
            name=identity.group,
            identity=identity.holder,
            on_change=self._lead,
        )
        self.replicas = Replicas(
            client,
            identity,
            options.access,
            ReplicaHost(
                self._own_status,
                lambda: self._elector.leads,
                self._changed_elsewhere,
                target,
                self.spend,
                draining,
                has=lambda key: board.result(key) is not None,
            ),
        )
        board.subscribe(self._changed)

    def statistics(self) -> PublisherStatistics:
        """Return a snapshot."""
        writer = self._writer.statistics() if self._writer is not None else None
        oldest_s = writer.schedule.oldest_s if writer is not None else None
        return PublisherStatistics(
            self._elector.statistics(),
            self.replicas.statistics(),
            writer,
            self._written + (writer.written if writer is not None else 0),
            self._failed + (writer.failed if writer is not None else 0),
            0.0 if oldest_s is None else max(0.0, self._clock() - oldest_s),
        )

    def also(self, duty: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run this as well, until it is cancelled, whenever this relay leads."""
        self._duties.append(duty)

    def always(self, duty: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run this as well, until it is cancelled, whether or not this relay leads."""
        self._always.append(duty)

    def uids(self) -> set[str]:
        """Return the uids of the objects on Kubernetes that this relay judges."""
        results = (self._board.result(key) for key in self._objects())
        return {result.uid for result in results if result is not None}

    def count(self) -> int:
        """Return the number of these objects."""
        return sum(1 for _ in self._objects())

    def spend(self, now: float) -> float:
        """Take room of one write from the budget; return 0.0, or how long to wait for it (s)."""
        return self._schedule.spend(now)  # of the present time as the leader

    async def run(self) -> None:
        """Take part in the election, and write while this relay leads, until cancelled."""
        try:
            while True:
                try:
                    await self._run()
                except Exception:
                    _log.exception("bug in the relay: statuses were not written")
                    await asyncio.sleep(RESTART_S)
        finally:
            if self._options.owns_client:
                await self._client.close()

    async def _run(self) -> None:
        await self._board.look()
        self._changed(list(self._board.objects()))
        self.replicas.ready()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._elector.run(), name="elect a leader")
                group.create_task(self.replicas.run(), name="take part among relays")
                group.create_task(self._follow(), name="follow statuses")
                for duty in self._always:
                    group.create_task(duty())
        finally:
            self._lead(leads=False)

    def report(self, epoch: str, since: int) -> bytes | None:
        """Return a page of this relay's report for the others; None while it is not ready."""
        return self.replicas.report(epoch, since, self._clock())

    def _own_status(self, key: ObjectKey) -> ReplicaStatus | None:
        """Return what this relay says of an object; None also where a bug keeps it from that."""
        try:
            result, status = self._board.result(key), self._board.status(key)
        except Exception:
            _log.exception("bug in the relay: a status cannot be told", extra=_named(key))
            return None
        return None if result is None or status is None else ReplicaStatus(result.uid, status)

    def _changed(self, keys: Iterable[ObjectKey]) -> None:
        """Note objects whose status this relay judges differently, or that are gone."""
        ours = [key for key in keys if key.source == "kubernetes"]
        self.replicas.log.touch(ours)
        self._note(ours)

    def _changed_elsewhere(self, keys: Iterable[ObjectKey] | None) -> None:
        if keys is None:
            self._note(self._objects())
            return
        for key in keys:
            if key.kind == EXPORT_POLICY and not key.group:
                # An earlier version's report names no API groups.
                self._note(replace(key, group=one.group) for one in EXPORT_POLICIES)
            else:
                self._note([key])

    def _note(self, keys: Iterable[ObjectKey]) -> None:
        self._dirty.update((key, None) for key in keys)
        self._woken.set()

    def _objects(self) -> Iterator[ObjectKey]:
        return self._ours(self._board.objects())

    def _ours(self, keys: Iterable[ObjectKey]) -> Iterator[ObjectKey]:
        return (key for key in keys if key.source == "kubernetes")

    def _lead(self, leads: bool) -> None:
        """Begin or end to write; at once, and without a trace of an earlier time as the leader."""
        for task in self._working:
            task.cancel()
        self._working = []
        self._end_writer()
        self.replicas.lead(leads=leads)
        if leads:
            loop = asyncio.get_running_loop()
            self._working = [loop.create_task(duty()) for duty in self._duties]

    async def _write(self) -> None:
        """Write what is due until cancelled; a bug costs a pause."""
        while True:
            self._writer = StatusWriter(self._schedule, self._render, clock=self._clock)
            self._note(self._objects())
            try:
                await self._writer.run()
            except Exception:
                _log.exception("bug in the relay: statuses are written anew")
            self._end_writer()
            await asyncio.sleep(RESTART_S)

    def _end_writer(self) -> None:
        """Forget what was to be written, and keep the counts."""
        if self._writer is not None:
            ended = self._writer.statistics()
            self._written += ended.written
            self._failed += ended.failed
            self._writer = None
        self._seeded.clear()
        self._uids.clear()
        self._schedule = StatusSchedule(self._options.writes_per_s)

    async def _follow(self) -> None:
        """Offer what has changed to the schedule; a bug costs a pause."""
        while True:
            try:
                async with asyncio.timeout(TICK_S):
                    await self._woken.wait()
            except TimeoutError:
                pass
            if self._writer is None:
                self._dirty.clear()  # a writer begins with all objects
            else:
                # Also while reports of other relays come all the time.
                self._note(self.replicas.statuses.overdue())
            self._woken.clear()
            if self._writer is None or not self.replicas.settled:
                await asyncio.sleep(TICK_S)
                continue
            try:
                await self._offer_changed(self._writer)
            except Exception:
                _log.exception("bug in the relay: statuses were not offered")
                await asyncio.sleep(RESTART_S)
                self._note(self._objects())

    async def _offer_changed(self, writer: StatusWriter[_Written]) -> None:
        self._note_counters()
        dirty, self._dirty = self._dirty, {}
        alone = len(self.replicas.presence.membership.members()) <= 1
        part = WorkSlice()
        unseeded = [key for key in dirty if key not in self._seeded]
        for key in unseeded:
            self._tried(key, partial(self._seed, alone=alone))
            if part.is_over:
                await part.rest()
        if unseeded and alone:
            await self._board.look()  # what the seeds say is judged before it is written
        for key in dirty:
            if writer is not self._writer:
                return  # another time as the leader has begun, or none
            self._tried(key, self._offer)
            if part.is_over:
                writer.wake()
                await part.rest()
        writer.wake()

    def _tried(self, key: ObjectKey, step: Callable[[ObjectKey], None]) -> None:
        """Do a step for one object. A bug in it costs no other one its status."""
        try:
            step(key)
        except Exception:
            _log.exception("bug in the relay: a status was not offered", extra=_named(key))

    def _note_counters(self) -> None:
        """Note some objects because their counters may have changed: all in turns."""
        now = self._clock()
        for one in self._rounds:
            self._dirty.update((key, None) for key in one.next(now))

    def _seed(self, key: ObjectKey, *, alone: bool) -> None:
        """Begin with the status that the object has on its control plane."""
        self._seeded.add(key)
        result = self._board.result(key)
        target = self._target(key, result.uid) if result is not None else None
        document = own_part(target.object.status) if target is not None else {}
        if result is None or not document:
            return
        status = read_object_status(document)
        self._uids[key] = result.uid
        self._schedule.known((key, result.uid), parts_of(document), self._clock())
        self.replicas.statuses.seed(key, result.uid, status)
        if alone:
            sinks = {sink.name: sink.conditions for sink in status.sinks}
            self._board.seed(key, result.uid, status.conditions, sinks)

    def _offer(self, key: ObjectKey) -> None:
        own = self._own_status(key)
        before = self._uids.get(key)
        if before is not None and (own is None or before != own.uid):
            self._schedule.forget((key, self._uids.pop(key)))
        if own is None:
            self.replicas.statuses.forget(key)
            self._seeded.discard(key)
            return
        merged = self.replicas.statuses.combine(key, own.uid, own.status)
        self._uids[key] = own.uid
        parts = parts_of(status_document(merged))
        self._schedule.offer((key, own.uid), parts, self._clock())

    def _render(self, place: _Written) -> StatusWrite | None:
        key, uid = place
        own, result = self._own_status(key), self._board.result(key)
        target = self._target(key, uid) if own is not None and own.uid == uid else None
        if own is None or target is None or result is None:
            return None  # gone, or another object has its name
        if target.object.generation != result.generation:
            return None  # another version, that is judged soon
        merged = self.replicas.statuses.combine(key, uid, own.status)
        return StatusWrite(target.client, target.resource, target.object, status_document(merged))

    def __repr__(self) -> str:
        return f"<StatusPublisher {self._elector!r}, {self.replicas!r}>"


def _named(key: ObjectKey) -> dict[str, object]:
    """Return the fields of a log line about an object."""
    return {"object": f"{key.namespace}/{key.name}", "plane": key.plane}


class _Round:
    """Goes through ``objects`` again and again, each time within ``round_s``; clock: ``now``, s."""

    def __init__(
        self, objects: Callable[[], Iterable[ObjectKey]], round_s: float, now: float
    ) -> None:
        self._objects = objects
        self._round_s = round_s
        self._left: deque[ObjectKey] = deque()
        self._size = 0
        self._at_s = now

    def next(self, now: float) -> list[ObjectKey]:
        """Return the objects whose turn it is since the last call."""
        elapsed_s = min(now - self._at_s, self._round_s)
        count = int(self._size * elapsed_s / self._round_s)
        if not count and elapsed_s <= 1.0:
            return []
        self._at_s = now
        if not self._left:
            self._left.extend(self._objects())
            self._size = len(self._left)
        return [self._left.popleft() for _ in range(min(max(count, 1), len(self._left)))]
