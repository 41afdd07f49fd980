"""Elect one leader among relays by a Lease (coordination.k8s.io/v1). Pure: clocks are arguments.

Rules (client-go's leaderelection):

* Nobody's clock is compared with another's. A holder is gone when its lease was not seen to change
  for the duration that it names, by the observer's own monotonic clock, from when it saw it first.
* Every write is a PUT with the resource version that was read, so of two takers one fails. After a
  failed or unclear write the lease is read again before anything else.
* The leader counts its own time from *before* it sent the last good renewal, and stops after
  :data:`RENEW_DEADLINE_S`, which is shorter than the duration by more than any request takes: so
  there are never two, as long as clocks run equally fast to within a third.
* A leader that stops on purpose empties the lease, so that the next one need not wait.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from relay.control.kubernetes.errors import MalformedAnswerError
from relay.control.kubernetes.objects import UNREADABLE

DURATION_S: Final = 15
RENEW_DEADLINE_S: Final = 10.0
RETRY_S: Final = 2.0
DURATION_S_MAX: Final = 3600
"""Longest duration that is believed of another holder."""
_TRANSITIONS_MAX: Final = (1 << 31) - 1
"""Largest number of transitions that an API server takes."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A Lease as it was read. ``holder`` is "" while nobody holds it.

    ``acquired`` and ``renewed`` are the holder's own words (MicroTime), never computed with.
    ``labels`` and ``annotations`` are sent back as they came.
    """

    holder: str
    duration_s: int
    acquired: str
    renewed: str
    transitions: int
    resource_version: str
    uid: str = ""
    metadata: bytes = b"{}"
    """JSON of labels and annotations."""

    @property
    def next_transitions(self) -> int:
        """The number of transitions once another holder has taken it; 0 after the largest."""
        return self.transitions + 1 if 0 <= self.transitions < _TRANSITIONS_MAX else 0

    @property
    def lasting_s(self) -> int:
        """The duration that is believed of its holder, s."""
        return min(max(self.duration_s, 1), DURATION_S_MAX)

    @property
    def words(self) -> tuple[str, int, str, str, int]:
        """Everything that a holder says."""
        return self.holder, self.duration_s, self.acquired, self.renewed, self.transitions


@dataclass(frozen=True, slots=True)
class ReadLease:
    """Read the lease now, and report it."""


@dataclass(frozen=True, slots=True)
class WriteLease:
    """Create the lease (no resource version) or replace it, and report the answer."""

    record: LeaseRecord


@dataclass(frozen=True, slots=True)
class WaitForLease:
    """Do nothing for so long."""

    delay_s: float


LeaseStep = ReadLease | WriteLease | WaitForLease


class LeaseElection:
    """One candidate's view of one lease. ``now`` is monotonic, ``wall`` the wall clock; s."""

    def __init__(self, identity: str) -> None:
        assert identity, "an empty holder means nobody"
        self.identity = identity
        self.observed: LeaseRecord | None = None
        self._observed_at_s = 0.0
        self._is_known = False  # the lease as it is, even if it is not there
        self._renewed_at_s: float | None = None
        self._next_at_s = float("-inf")
        self._sent_at_s = 0.0
        self._sent: LeaseRecord | None = None

    def is_leader(self, now: float) -> bool:
        """Return whether this candidate may act as the leader now."""
        return self._renewed_at_s is not None and now < self._renewed_at_s + RENEW_DEADLINE_S

    @property
    def leader_until_s(self) -> float | None:
        """The time (monotonic) until which it may act without another renewal; None: it may not."""
        return None if self._renewed_at_s is None else self._renewed_at_s + RENEW_DEADLINE_S

    def next_step(self, now: float, wall: float) -> LeaseStep:
        """Return what to do now."""
        if self._renewed_at_s is not None and not self.is_leader(now):
            self._renewed_at_s = None  # too late: another one may hold it
            self._is_known = False
        if now < self._next_at_s:
            return WaitForLease(self._next_at_s - now)
        if not self._is_known:
            return ReadLease()
        seen = self.observed
        if seen is None:
            return self._write(claimed(None, self.identity, wall), now)
        if self._renewed_at_s is not None:
            return self._write(replace(seen, renewed=micro_time(wall)), now)
        free_at_s = self._observed_at_s + seen.lasting_s
        # A lease in our own name is of an earlier life with the same identity: it waits, too.
        if seen.holder and now < free_at_s:
            self._is_known = False
            self._next_at_s = now + min(RETRY_S, free_at_s - now)
            return WaitForLease(self._next_at_s - now)
        return self._write(claimed(seen, self.identity, wall), now)

    def read(self, record: LeaseRecord | None, now: float) -> None:
        """Report the lease as it was read; None: there is none."""
        seen = self.observed
        # Others may write labels into it; only its holder's words show that the holder lives.
        if record is None or seen is None or record.words != seen.words:
            self._observed_at_s = now
        self.observed = record
        self._is_known = True

    def written(self, record: LeaseRecord) -> None:
        """Report that the write succeeded; ``record`` is the answer."""
        assert self._sent is not None, "nothing was sent"
        sent, self._sent = self._sent, None
        self.observed, self._is_known = record, True
        self._observed_at_s = self._sent_at_s
        self._renewed_at_s = self._sent_at_s if sent.holder == self.identity else None
        self._next_at_s = self._sent_at_s + RETRY_S

    def failed(self, now: float, *, retry_after_s: float = 0.0) -> None:
        """Report that a read failed, or that a write failed or had an unclear end."""
        self._sent = None
        self._is_known = False
        # A leader that lost a race or an answer reads at once the first time it can.
        self._next_at_s = now + max(RETRY_S / 4, min(retry_after_s, DURATION_S))

    def release(self, now: float) -> WriteLease | None:
        """Return the write that lets another one lead at once; None if this one does not lead.

        It leads no more from here on, whatever becomes of the write.
        """
        seen, led = self.observed, self.is_leader(now)
        self._renewed_at_s = None
        if not led or seen is None or not self._is_known:
            return None
        empty = given_back(seen)
        self._sent, self._sent_at_s = empty, now
        return WriteLease(empty)

    def _write(self, record: LeaseRecord, now: float) -> WriteLease:
        self._sent, self._sent_at_s = record, now
        return WriteLease(record)

    def __repr__(self) -> str:
        holder = self.observed.holder if self.observed else ""
        return f"<LeaseElection {self.identity}, held by {holder or 'nobody'}>"


def given_back(seen: LeaseRecord) -> LeaseRecord:
    """Return the lease without a holder, for the next one to take at once."""
    return replace(seen, holder="", duration_s=1)


def claimed(seen: LeaseRecord | None, holder: str, at: float) -> LeaseRecord:
    """Return the lease as another holder takes it at ``at`` (wall clock, s); None: it is new."""
    time = micro_time(at)
    if seen is None:
        return LeaseRecord(holder, DURATION_S, time, time, 0, "")
    return replace(
        seen,
        holder=holder,
        duration_s=DURATION_S,
        acquired=time,
        renewed=time,
        transitions=seen.next_transitions,
    )


def micro_time(at: float) -> str:
    """Return a time (wall clock, s) as Kubernetes' MicroTime."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class _LeaseMetadata(msgspec.Struct, rename="camel"):
    resource_version: str
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _LeaseSpec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Lease(msgspec.Struct):
    metadata: _LeaseMetadata
    spec: _LeaseSpec = msgspec.field(default_factory=_LeaseSpec)


def read_lease(body: bytes) -> LeaseRecord:
    """Return the record of a Lease's JSON. Raises MalformedAnswerError."""
    try:
        lease = msgspec.json.decode(body, type=_Lease)
    except UNREADABLE as error:
        raise MalformedAnswerError("an answer is no Lease") from error
    metadata, spec = lease.metadata, lease.spec
    kept = {
        name: value
        for name, value in (("labels", metadata.labels), ("annotations", metadata.annotations))
        if value
    }
    return LeaseRecord(
        spec.holder_identity or "",
        spec.lease_duration_seconds or DURATION_S,
        spec.acquire_time or "",
        spec.renew_time or "",
        spec.lease_transitions or 0,
        metadata.resource_version,
        metadata.uid,
        msgspec.json.encode(kept, order="deterministic"),
    )


def lease_document(record: LeaseRecord, *, namespace: str, name: str) -> dict[str, Any]:
    """Return the Lease to send for a record."""
    metadata: dict[str, Any] = msgspec.json.decode(record.metadata)
    metadata |= {"name": name, "namespace": namespace}
    if record.resource_version:
        metadata["resourceVersion"] = record.resource_version
    spec: dict[str, Any] = {
        "holderIdentity": record.holder,
        "leaseDurationSeconds": record.duration_s,
        "leaseTransitions": record.transitions,
    }
    if record.acquired:
        spec["acquireTime"] = record.acquired
    if record.renewed:
        spec["renewTime"] = record.renewed
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": spec,
    }
