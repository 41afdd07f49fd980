"""Take part in the election of a leader: the steps of :mod:`relay.control.kubernetes.lease`, done.

Every request of a leader ends before its time is over, so that no answer comes too late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from relay.control.kubernetes.client import ApiClient
from relay.control.kubernetes.errors import AbsentError, KubernetesError, WriteConflictError
from relay.control.kubernetes.lease import (
    RENEW_DEADLINE_S,
    LeaseElection,
    LeaseRecord,
    LeaseStep,
    ReadLease,
    WaitForLease,
    WriteLease,
    given_back,
    lease_document,
    read_lease,
)
from relay.control.kubernetes.objects import ApiResource

LEASES: Final = ApiResource("coordination.k8s.io", "v1", "leases", "Lease")
REQUEST_S: Final = 5.0
"""Longest request for a lease; s."""
RELEASE_S: Final = 2.0
"""Longest attempt to give the lease back at the end; s."""


@dataclass(frozen=True, slots=True)
class LeaderStatistics:
    """``holder`` is "" while nobody holds the lease, or it could not be read."""

    leads: bool
    holder: str
    transitions: int
    failures: int
    last_error: str


class LeaderElector:
    """One candidate. Lives on the event loop; :meth:`run` takes part until cancelled.

    ``on_change`` is called with True when it begins to lead and with False when it must stop, which
    is at once. ``clock`` is monotonic, ``wall`` the wall clock; s.
    """

    def __init__(
        self,
        client: ApiClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        on_change: Callable[[bool], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._on_change = on_change
        self._clock = clock
        self._wall = wall
        self._election = LeaseElection(identity)
        self._told = False
        self._timer: asyncio.TimerHandle | None = None
        self._failures = 0
        self._last_error = ""

    @property
    def leads(self) -> bool:
        """True if this one may act as the leader now."""
        return self._election.is_leader(self._clock())

    def statistics(self) -> LeaderStatistics:
        """Return a snapshot."""
        seen = self._election.observed
        return LeaderStatistics(
            self.leads,
            seen.holder if seen else "",
            seen.transitions if seen else 0,
            self._failures,
            self._last_error,
        )

    async def run(self) -> None:
        """Take part until cancelled; then give the lease back."""
        try:
            while True:
                step = self._election.next_step(self._clock(), self._wall())
                if isinstance(step, WaitForLease):
                    self._tell()
                    await asyncio.sleep(step.delay_s)
                else:
                    await self._do(step)
                    self._tell()
        finally:
            led = self.leads
            released = self._election.release(self._clock())
            self._tell()
            if led:
                await self._give_back(None if released is None else released.record)

    async def _do(self, step: LeaseStep) -> None:
        try:
            async with asyncio.timeout(REQUEST_S):
                if isinstance(step, ReadLease):
                    self._election.read(await self._get(), self._clock())
                else:
                    assert isinstance(step, WriteLease)
                    self._election.written(await self._put(step.record))
            self._last_error = ""
        except TimeoutError:
            self._note("no answer in time")
        except KubernetesError as error:
            self._note(str(error), error.retry_after_s or 0.0)

    def _note(self, why: str, retry_after_s: float = 0.0) -> None:
        self._failures += 1
        self._last_error = why
        self._election.failed(self._clock(), retry_after_s=retry_after_s)

    async def _get(self) -> LeaseRecord | None:
        return await get_lease(self._client, self._namespace, self._name)

    async def _put(self, record: LeaseRecord) -> LeaseRecord:
        return await put_lease(self._client, self._namespace, self._name, record)

    async def _give_back(self, released: LeaseRecord | None) -> None:
        """Write the lease without a holder; None: it is to be read first."""
        try:
            async with asyncio.timeout(RELEASE_S):
                while True:
                    if released is None:
                        seen = await self._get()
                        if seen is None or seen.holder != self._election.identity:
                            return
                        released = given_back(seen)
                    try:
                        await self._put(released)
                    except WriteConflictError:
                        # A renewal whose answer was not awaited may have come before.
                        released = None
                    else:
                        return
        except (KubernetesError, TimeoutError) as error:
            self._last_error = f"not given back: {error}"  # it expires by itself

    def _tell(self) -> None:
        """Call ``on_change`` if leading has begun or ended; watch for its end by time alone."""
        leads = self.leads
        if leads is not self._told:
            self._told = leads
            self._on_change(leads)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        until_s = self._election.leader_until_s
        if leads and until_s is not None:
            loop = asyncio.get_running_loop()
            left_s = min(max(until_s - self._clock(), 0.0), RENEW_DEADLINE_S)
            self._timer = loop.call_later(left_s + 0.001, self._tell)

    def __repr__(self) -> str:
        return f"<LeaderElector {self._election!r}{', leads' if self.leads else ''}>"


async def get_lease(client: ApiClient, namespace: str, name: str) -> LeaseRecord | None:
    """Return a Lease as it is now; None: there is none. Raises KubernetesError."""
    try:
        body = await client.request("GET", LEASES.path(namespace, name))
    except AbsentError:
        return None
    return read_lease(body)


async def put_lease(
    client: ApiClient, namespace: str, name: str, record: LeaseRecord
) -> LeaseRecord:
    """Create a Lease (no resource version) or replace it; return it as it is now.

    Raises KubernetesError.
    """
    exists = bool(record.resource_version)
    body = await client.request(
        "PUT" if exists else "POST",
        LEASES.path(namespace, name if exists else ""),
        document=lease_document(record, namespace=namespace, name=name),
    )
    return read_lease(body)
