"""What a receiver asks of the admission of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol

from relay.codec.remote_write.v1 import WriteProtocol


@dataclass(frozen=True, slots=True)
class Tenant:
    """The tenant that a VictoriaMetrics cluster path names; both parts are 32 bits, unsigned.

    ``by_labels``: it names none, because each series does so in its labels ``vm_account_id`` and
    ``vm_project_id``.
    """

    account: int
    project: int = 0
    by_labels: bool = False

    def __str__(self) -> str:
        return "multitenant" if self.by_labels else f"{self.account}:{self.project}"


MULTITENANT = Tenant(0, 0, by_labels=True)


class IngestResult(NamedTuple):
    """A request that was taken in, perhaps not all of it.

    ``samples``, native ``histograms`` and ``exemplars`` that were taken; ``dropped`` by reason, in
    samples, or in series where a series had none: only what was wrong with the request, not what
    nobody wanted; ``examples`` are the first few faults in words for the sender's log, bounded by
    whoever made them.
    """

    samples: int
    dropped: Mapping[str, int] = MappingProxyType({})
    examples: Sequence[str] = ()
    histograms: int = 0
    exemplars: int = 0


class IngestHandler(Protocol):
    """Takes one request in; when it returns, the sender is told that its samples are ours.

    Requests reach the sinks in the order of the calls.

    ``body`` is decompressed, the message that ``protocol`` names, ``raw`` the same as it came,
    compressed as ``encoding`` says; ``tenant`` None where the path names none; ``now`` is the wall
    clock in seconds. Raises DecodeError (nothing of the body was taken), TooLargeError, or
    OverloadedError (send it again later).
    """

    async def __call__(
        self,
        body: bytes,
        *,
        tenant: Tenant | None,
        now: float,
        raw: bytes,
        encoding: str,
        protocol: WriteProtocol,
    ) -> IngestResult: ...
