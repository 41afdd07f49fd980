"""Compose one relay's part among several over one cluster.

StatusBoard ─▶ ReportLog ─▶ admin listener ─▶ the leader's PeerReports ─▶ MergedStatuses
Presence: own Lease; Leases of all ─▶ who counts ────────┘                  │        │
                                                          StatusSchedule ◀──┘  EventWriter
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from relay.config.exporter.load_result import ObjectKey
from relay.control.cluster.cluster_source import StatusTarget
from relay.control.kubernetes.client import ApiClient
from relay.control.replicas.event_writer import EventStatistics, EventWriter
from relay.control.replicas.members import Member
from relay.control.replicas.peer_access import PeerAccess
from relay.control.replicas.presence import Presence, PresenceStatistics, ReplicaIdentity
from relay.control.replicas.report import ReplicaStatus
from relay.control.replicas.report_log import ReportLog, ReportLogStatistics
from relay.control.replicas.report_reader import PeerReports, PeerStatistics
from relay.control.replicas.statuses import MergedStatuses

_log = logging.getLogger("relay.control.replicas")

RESTART_S: Final = 5.0
"""Pause after a bug; s."""


@dataclass(frozen=True, slots=True)
class ReplicasStatistics:
    """One relay among the others. ``members`` are all that count, this one included."""

    members: tuple[Member, ...]
    presence: PresenceStatistics
    log: ReportLogStatistics
    peers: tuple[PeerStatistics, ...]
    events: EventStatistics


@dataclass(frozen=True, slots=True)
class ReplicaHost:
    """The rest of the relay, as its part among several needs it. Called on the event loop.

    ``status`` returns this relay's own status of an object, None if there is none; ``leads``
    whether this relay leads. ``changed`` takes the objects that other relays see differently now,
    None for all. ``find`` returns the object that an Event is about, by key and uid; ``spend``
    takes room of the budget of status writes. ``draining`` returns the uids of objects that are
    gone, and whose data this relay still sends. ``has`` tells whether ``status`` returns one, at
    little cost: ten thousand statuses take a second.
    """

    status: Callable[[ObjectKey], ReplicaStatus | None]
    leads: Callable[[], bool]
    changed: Callable[[Iterable[ObjectKey] | None], None]
    find: Callable[[ObjectKey, str], StatusTarget | None]
    spend: Callable[[float], float]
    draining: Callable[[], Iterable[str]] = tuple
    has: Callable[[ObjectKey], bool] | None = None


class Replicas:
    """One relay among several. Lives on the event loop; :meth:`run` takes part until cancelled."""

    def __init__(
        self, client: ApiClient, identity: ReplicaIdentity, access: PeerAccess, host: ReplicaHost
    ) -> None:
        self.log = ReportLog(
            identity.relay, identity.mark, host.status, host.draining, has=host.has
        )
        self.presence = Presence(client, identity, leads=host.leads)
        self.reports = PeerReports(
            access, self.presence.membership.members, identity.lease, on_change=host.changed
        )
        self.events = EventWriter(host.find, host.spend, relay=identity.relay, mark=identity.mark)
        self.statuses = MergedStatuses(identity.relay, self.reports.readings, self.events.add)
        self._ready = asyncio.Event()
        self._leading: asyncio.Task[None] | None = None

    @property
    def settled(self) -> bool:
        """True once the leader knows what the other relays say, or that it cannot know."""
        return self.presence.membership.is_known and self.reports.settled

    def statistics(self) -> ReplicasStatistics:
        """Return a snapshot."""
        return ReplicasStatistics(
            self.presence.membership.members(),
            self.presence.statistics(),
            self.log.statistics(),
            self.reports.statistics(),
            self.events.statistics(),
        )

    def ready(self) -> None:
        """Take part from now on: every object has a status."""
        self.log.ready = True
        self._ready.set()

    def report(self, epoch: str, since: int, now: float) -> bytes | None:
        """Return a page of this relay's report; None while it is not ready."""
        return self.log.page(epoch, since, now) if self.log.ready else None

    async def run(self) -> None:
        """Renew this relay's Lease and look at those of others, until cancelled."""
        try:
            await self._ready.wait()
            await self.presence.run()
        finally:
            self.lead(leads=False)

    def lead(self, *, leads: bool) -> None:
        """Begin or end to read reports and write Events."""
        task, self._leading = self._leading, None
        if task is not None:
            task.cancel()
        self.statuses.clear()
        if leads:
            self._leading = asyncio.get_running_loop().create_task(self._lead())

    async def _lead(self) -> None:
        """Read reports and write Events until cancelled; a bug costs a pause."""
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.reports.run(), name="read reports")
                    group.create_task(self.events.run(), name="write events")
            except Exception:
                _log.exception("bug in the relay: the leader's work begins anew")
                await asyncio.sleep(RESTART_S)

    def __repr__(self) -> str:
        return f"<Replicas {self.presence!r}, {self.log!r}>"
