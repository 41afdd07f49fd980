"""The interface between receivers and admission: request, result, handler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

import msgspec

from relay.codec.compression import SenderEncoding
from relay.codec.remote_write.v1 import WriteProtocol


@dataclass(frozen=True, slots=True)
class Tenant:
    """The tenant in a VictoriaMetrics cluster path; both parts are 32 bits, unsigned.

    ``by_labels``: the multitenant path; each series names its tenant in the labels
    ``vm_account_id`` and ``vm_project_id``.
    """

    account: int
    project: int = 0
    by_labels: bool = False

    def __str__(self) -> str:
        return "multitenant" if self.by_labels else f"{self.account}:{self.project}"


MULTITENANT = Tenant(0, 0, by_labels=True)

NOTHING_DROPPED: Final[Mapping[str, int]] = MappingProxyType({})


class IngestResult(msgspec.Struct, frozen=True, gc=False):
    """An admitted request, perhaps not all of it.

    Accepted ``samples``, native ``histograms`` and ``exemplars``; ``dropped`` by reason, in
    samples, or in series where a series had none: only faults of the request, no unmatched
    samples; ``examples`` are the first few faults in words for the sender's log, bounded.
    """

    samples: int
    dropped: Mapping[str, int] = NOTHING_DROPPED
    examples: Sequence[str] = ()
    histograms: int = 0
    exemplars: int = 0


class IngestRequest(msgspec.Struct, frozen=True, gc=False):
    """One decompressed request, as a receiver hands it on and as the journal gives it back.

    ``tenant`` is None where the path names none; ``received_at`` is the wall clock of its arrival,
    in s; ``body`` is the message that ``protocol`` names; ``raw`` is the same as it came,
    compressed as ``encoding`` says.
    """

    tenant: Tenant | None
    received_at: float
    body: bytes
    raw: bytes
    encoding: SenderEncoding
    protocol: WriteProtocol


class IngestHandler(Protocol):
    """Admits requests; they reach the sinks in the order of the calls."""

    @property
    def is_free(self) -> bool:
        """True if :meth:`accept_at_once` may take a request: nothing would have to wait."""
        ...

    def accept_at_once(self, request: IngestRequest) -> IngestResult | None:
        """Admit one request without waiting; None: nothing was done, it needs :meth:`accept`.

        Raises like that. Only while :attr:`is_free`.
        """
        ...

    async def accept(self, request: IngestRequest) -> IngestResult:
        """Admit one request; on return the relay answers for its samples.

        The caller keeps no reference: the handler frees the body as soon as it can. Raises
        DecodeError (nothing of the body was taken), TooLargeError, or OverloadedError (send it
        again later).
        """
        ...
