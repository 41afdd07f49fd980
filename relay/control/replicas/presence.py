"""Renew this relay's own Lease, and look at those of the others.

Rules:

* Each relay has a Lease of its own, named after it, with the label :data:`GROUP_LABEL` by which
  all are listed and the annotation :data:`REPORT_ANNOTATION` with its report's address. Its holder
  is the name and, after "_", a mark of this life of the process.
* At an orderly end the Lease is deleted; a crash leaves it to expire.
* Every relay looks at the Leases all the time, so that a new leader knows at once who lives.
  Only the leader deletes those that expired long ago.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from relay.control.kubernetes.client import ApiClient, decoded
from relay.control.kubernetes.errors import (
    AbsentError,
    KubernetesError,
    MalformedAnswerError,
    WriteConflictError,
)
from relay.control.kubernetes.leader import (
    LEASES,
    RELEASE_S,
    REQUEST_S,
    get_lease,
    put_lease,
)
from relay.control.kubernetes.lease import LeaseRecord, claimed, micro_time, read_lease
from relay.control.replicas.members import MemberLease, Membership, StaleLease

RENEW_S: Final = 5.0
PAGE_LEASES: Final = 500
"""Most Leases of relays that are asked for at once."""
GROUP_LABEL: Final = "telemetry.datumapis.com/relay-group"
REPORT_ANNOTATION: Final = "telemetry.datumapis.com/report"

_NOT_OF_A_NAME = re.compile(r"[^a-z0-9.-]+")
_NAME_CHARS_MAX = 180

_log = logging.getLogger("relay.control.replicas")


@dataclass(frozen=True, slots=True)
class PresenceStatistics:
    """Failed renewals and looks since the start, and the last failure's reason or ""."""

    failures: int
    last_error: str


@dataclass(frozen=True, slots=True)
class ReplicaIdentity:
    """One relay among those of its group.

    ``namespace`` is that of the Leases, ``group`` the name that all relays of one installation
    share. ``relay`` names this one, ``mark`` this life of its process. ``url`` is the address of
    its report, "" if it has none that others can reach.
    """

    namespace: str
    group: str
    relay: str
    mark: str
    url: str = ""

    @property
    def lease(self) -> str:
        """The name of its Lease."""
        return lease_name(self.group, self.relay)

    @property
    def holder(self) -> str:
        """Its name as the holder of a Lease."""
        return f"{self.relay}_{self.mark}"


class _ListedMetadata(msgspec.Struct):
    name: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Listed(msgspec.Struct):
    metadata: _ListedMetadata


class _ListMetadata(msgspec.Struct):
    continue_token: str = msgspec.field(name="continue", default="")


class _LeaseList(msgspec.Struct):
    items: list[msgspec.Raw]
    metadata: _ListMetadata = msgspec.field(default_factory=_ListMetadata)


class Presence:
    """Renews and looks while :meth:`run` runs. Lives on the event loop.

    ``leads`` tells whether this relay is the leader. ``on_look`` is called after every look.
    ``clock`` is monotonic, ``wall`` the wall clock; s.
    """

    def __init__(
        self,
        client: ApiClient,
        identity: ReplicaIdentity,
        *,
        leads: Callable[[], bool],
        on_look: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.membership = Membership()
        self.identity = identity
        self._client = client
        self._leads = leads
        self._on_look = on_look
        self._clock = clock
        self._wall = wall
        self._record: LeaseRecord | None = None
        self._held = self._warned = False
        self._failures = 0
        self._last_error = ""

    def statistics(self) -> PresenceStatistics:
        """Return a snapshot."""
        return PresenceStatistics(self._failures, self._last_error)

    async def run(self) -> None:
        """Renew and look until cancelled; then give the Lease back."""
        try:
            while True:
                begun = self._clock()
                await self._tried(self._renew, "renew its own Lease")
                await self._tried(self._look, "look at the Leases of relays")
                await asyncio.sleep(max(0.1, begun + RENEW_S - self._clock()))
        finally:
            await self._give_back()

    async def _tried(self, step: Callable[[], Any], what: str) -> None:
        try:
            async with asyncio.timeout(REQUEST_S):
                await step()
        except TimeoutError:
            self._note(f"cannot {what}: no answer in time")
        except KubernetesError as error:
            self._note(f"cannot {what}: {error}")

    def _note(self, why: str) -> None:
        self._record = None  # it is read again, whatever has failed
        self._failures += 1
        self._last_error = why

    async def _renew(self) -> None:
        identity = self.identity
        record = self._record or await self._read()
        if record is not None and record.holder == identity.holder:
            mine = replace(record, renewed=micro_time(self._wall()))
        else:
            self._warn_of_namesake(record.holder if record is not None else "")
            mine = claimed(record, identity.holder, self._wall())
        metadata: dict[str, Any] = msgspec.json.decode(mine.metadata)
        metadata.setdefault("labels", {})[GROUP_LABEL] = identity.group
        metadata.setdefault("annotations", {})[REPORT_ANNOTATION] = identity.url
        mine = replace(mine, metadata=msgspec.json.encode(metadata))
        self._record = await put_lease(self._client, identity.namespace, identity.lease, mine)
        self._held = True

    async def _read(self) -> LeaseRecord | None:
        return await get_lease(self._client, self.identity.namespace, self.identity.lease)

    def _warn_of_namesake(self, holder: str) -> None:
        """Say once that another process has taken the Lease while this one held it."""
        if self._held and holder and not self._warned:
            self._warned = True
            _log.warning(
                "another relay has this one's name: each needs its own",
                extra={"relay": self.identity.relay, "holder": holder},
            )

    async def _look(self) -> None:
        self.membership.listed(await self._list(), self._clock())
        if self._leads():
            for stale in self.membership.stale():
                if await self._delete(stale):
                    _log.info("deleted the Lease of a lost relay", extra={"lease": stale.name})
        self._on_look()

    async def _list(self) -> list[MemberLease]:
        """Return the Leases of all pages: one that is not listed counts as given back."""
        group = self.identity.group
        query = {"labelSelector": f"{GROUP_LABEL}={group}", "limit": str(PAGE_LEASES)}
        path = LEASES.path(self.identity.namespace)
        found: list[MemberLease] = []
        while True:
            page = decoded(await self._client.request("GET", path, query=query), _LeaseList)
            found += read_leases(page.items, group)
            if not page.metadata.continue_token:
                return found
            query["continue"] = page.metadata.continue_token

    async def _delete(self, stale: StaleLease) -> bool:
        """Delete a Lease; return False if it has changed since, or is gone."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": stale.uid, "resourceVersion": stale.resource_version},
        }
        path = LEASES.path(self.identity.namespace, stale.name)
        try:
            await self._client.request("DELETE", path, document=options)
        except (AbsentError, WriteConflictError):
            return False
        return True

    async def _give_back(self) -> None:
        """Delete the Lease of this life, if there is one."""
        record, self._record = self._record, None
        if not self._held:
            return
        try:
            async with asyncio.timeout(RELEASE_S):
                # Again where it has changed: a renewal whose answer was not awaited may have come.
                while record := record or await self._read():
                    if record.holder != self.identity.holder or await self._delete(
                        StaleLease(self.identity.lease, record.uid, record.resource_version)
                    ):
                        return
                    record = None
        except (KubernetesError, TimeoutError) as error:
            self._last_error = f"not given back: {error}"  # it expires by itself

    def __repr__(self) -> str:
        return (
            f"<Presence {self.identity.holder} in {self.identity.namespace}/{self.identity.lease}>"
        )


def lease_name(group: str, relay: str) -> str:
    """Return the name of a relay's Lease, a DNS subdomain."""
    text = _NOT_OF_A_NAME.sub("-", relay.lower())[:_NAME_CHARS_MAX].strip("-.")
    return f"{group}-{text or 'relay'}"


def read_leases(items: Iterable[bytes | msgspec.Raw], group: str) -> list[MemberLease]:
    """Return those of some Leases, as JSON, that are of a group.

    One that cannot be read costs no other.
    """
    found: list[MemberLease] = []
    for item in items:
        try:
            metadata = decoded(bytes(item), _Listed).metadata
            record = read_lease(bytes(item))
        except MalformedAnswerError:
            continue
        if not metadata.name or (metadata.labels or {}).get(GROUP_LABEL) != group:
            continue
        url = (metadata.annotations or {}).get(REPORT_ANNOTATION, "")
        found.append(MemberLease(metadata.name, record, url))
    return found
