"""Admission of requests: refused while memory is short, else ingested, journaled, answered.

Rules:

* The pipeline comes first: it finds whether the body can be decoded, and gives the position. An
  undecodable request is never journaled, nor is one without effect.
* With storage, the answer waits for the journal. While the journal cannot write, requests are
  accepted and kept in memory alone, which is counted and logged: refusing all senders until a disk
  is repaired would be worse. Only during a replay, when order forbids that, senders must wait.
* No request may exceed the memory limit: it is refused, and its sender sends it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from relay.control.durability.replay import Replay, record_of
from relay.control.reconcile.reconciler import SinkReconciler
from relay.control.time_slicing import DirectPace, Turns, TurnsError
from relay.pipeline.batching.transaction import AcceptedCounts
from relay.pipeline.contract import NOTHING_DROPPED, IngestRequest, IngestResult
from relay.pipeline.signal import Accepted, Signal
from relay.runtime.errors import OverloadedError
from relay.sink.queue.fair_share import BufferedBytes
from relay.storage.journal.interface import Journal

DROP_REASONS_NOT_SENDER_FAULT = frozenset(
    {"duplicate_timestamp", "histogram_float", "histogram_gauge", "histogram_schema"}
)
"""Drop reasons that are not the sender's fault: counted, without effect on the answer."""

BLOCKED_RETRY_AFTER_S = 5
MEMORY_RETRY_AFTER_S = 2

DECLINED_MAX: Final = 8
"""Requests in one turn of the loop that are known to need slices: each has taken 10 ms of it."""

MEASURE_EVERY_FRACTION = 64
"""Queues are relieved after every 64th part of the memory limit that has arrived, and open batches
are measured again when they have grown by as much."""


class MemoryStatistics(NamedTuple):
    """Memory of accepted data, bytes.

    ``queued_bytes`` in the sinks' queues, ``open_bytes`` in open batches, ``pending_bytes`` on
    their way to the journal.
    """

    bytes_max: int = 0
    queued_bytes: int = 0
    open_bytes: int = 0
    pending_bytes: int = 0

    @property
    def used_bytes(self) -> int:
        """The sum."""
        return self.queued_bytes + self.open_bytes + self.pending_bytes


ZERO_MEMORY = MemoryStatistics()


class Admission:
    """Implements :class:`relay.pipeline.contract.IngestHandler`.

    ``queued`` counts the bytes of the sinks' queues, ``on_accepted`` gets each request as
    soon as the pipeline has applied it, ``tick`` is the pipeline's monotonic clock, s.
    """

    def __init__(  # noqa: PLR0913 - a composition point: every collaborator is named once, here
        self,
        signal: Signal,
        reconciler: SinkReconciler,
        *,
        journal: Journal | None,
        replay: Replay | None,
        memory_bytes_max: int,
        queued: BufferedBytes,
        on_accepted: Callable[[Accepted], None],
        tick: Callable[[], float],
        turns: Turns | None = None,
    ) -> None:
        self._signal = signal
        self._reconciler = reconciler
        self._journal = journal
        self._replay = replay
        self._memory_bytes_max = memory_bytes_max
        self._queued = queued
        self._on_accepted = on_accepted
        self._tick = tick
        self._turns = turns or Turns()
        self._open_bytes = 0
        self._unsampled_bytes = 0
        self._measured_version = 0
        self._measured_grown = 0
        self.stopping = False
        self._unkept = -1
        """Position of the last request that the journal could not write."""
        self._declined: deque[bytes] = deque(maxlen=DECLINED_MAX)
        """Compressed bodies that :meth:`accept_at_once` found to need slices, the last ones."""

    async def accept(self, request: IngestRequest) -> IngestResult:
        """Admit one request; see :class:`relay.pipeline.contract.IngestHandler`."""
        self._check(len(request.body))
        if self._replay is not None and self._replay.active:
            probed = await self._replay.admit(request)
            if probed is not None:
                return _accepted(probed.taken, probed.dropped, probed.examples)
            self._check(len(request.body))  # the wait may have taken long
        is_long = bool(self._declined) and self._was_declined(request.raw)
        transaction = await self._turns.run(
            partial(
                self._signal.ingest,
                request.body,
                now=request.received_at,
                tick=self._tick(),
                origin=self._signal.path_of(request.tenant),
                protocol=request.protocol,
            ),
            self._on_accepted,
            repeatable=not is_long,
        )
        if self._journal is not None and transaction.has_effect:
            record = record_of(request, transaction.request)
            del request  # while the journal writes, only the compressed body is kept
            if not await self._journal.append(record):
                self._unkept = max(self._unkept, transaction.request)
        return _accepted(transaction.taken, transaction.dropped, transaction.examples)

    @property
    def is_free(self) -> bool:
        """True if nothing makes requests wait: no journal, no replay, and no other request."""
        return self._journal is None and self._replay is None and not self._turns.entered

    def accept_at_once(self, request: IngestRequest) -> IngestResult | None:
        """Admit one request without waiting; see :class:`relay.pipeline.contract.IngestHandler`."""
        body = request.body
        self._check(len(body))
        signal = self._signal
        try:
            transaction = signal.ingest(
                body,
                now=request.received_at,
                tick=self._tick(),
                origin=signal.path_of(request.tenant),
                protocol=request.protocol,
                pace=DirectPace(),
            )
        except TurnsError:
            self._declined.append(request.raw)  # it needs slices, and comes again
            return None
        self._on_accepted(transaction)
        return _accepted(transaction.taken, transaction.dropped, transaction.examples)

    def _was_declined(self, raw: bytes) -> bool:
        """Return whether this very body needs slices, and forget it."""
        for at, one in enumerate(self._declined):
            if one is raw:
                del self._declined[at]
                return True
        return False

    @property
    def waits_on_disk(self) -> bool:
        """True if the journal has all samples that wait to become points."""
        return self._journal is not None and self._unkept < self._signal.low_watermark

    @property
    def crowded(self) -> bool:
        """True if more than half of the memory limit is in use."""
        return self.memory().used_bytes > self._memory_bytes_max // 2

    def memory(self) -> MemoryStatistics:
        """Return the memory that accepted data takes."""
        return MemoryStatistics(
            self._memory_bytes_max,
            self._queued.used,
            self._open_bytes + self._grown_bytes(),
            self._journal.pending_bytes if self._journal is not None else 0,
        )

    def measure(self) -> None:
        """Measure the open batches of all sinks.

        Skipped if they were empty and nothing arrived since.
        """
        version = self._signal.offsets.version
        if not self._open_bytes and version == self._measured_version:
            return
        self._measured_version = version
        self._measured_grown = self._signal.grown
        self._open_bytes = self._reconciler.open_bytes()

    def _grown_bytes(self) -> int:
        """Return the bytes by which requests enlarged open batches since the last measurement.

        An upper bound: batches flushed meanwhile are not subtracted.
        """
        grown = self._signal.grown - self._measured_grown
        return max(0, grown)

    def _check(self, size: int) -> None:
        """Raise OverloadedError where there is no room for ``size`` bytes more."""
        if self.stopping:
            raise OverloadedError("shutting down", retry_after_s=BLOCKED_RETRY_AFTER_S)
        for worker in self._reconciler.blocking:
            if worker.full:
                raise OverloadedError(
                    "the queue of a sink that must not lose data is full",
                    retry_after_s=BLOCKED_RETRY_AFTER_S,
                )
        self._unsampled_bytes += size
        part = self._memory_bytes_max // MEASURE_EVERY_FRACTION
        grown = self._grown_bytes()
        if grown > part:
            self.measure()
            grown = self._grown_bytes()
        if self._unsampled_bytes > part:
            self._unsampled_bytes = 0
            # The reconciler does so once a second; a fast sender fills any memory in that time.
            self._reconciler.relieve_memory()
        used = self._queued.used + self._open_bytes + grown
        if self._journal is not None:
            used += self._journal.pending_bytes
        if used + size > self._memory_bytes_max:
            raise OverloadedError(
                "too much data is on its way already", retry_after_s=MEMORY_RETRY_AFTER_S
            )

    def __repr__(self) -> str:
        return f"<Admission {self.memory().used_bytes}/{self._memory_bytes_max} bytes>"


def _accepted(
    taken: AcceptedCounts, dropped: Mapping[str, int], examples: Sequence[str]
) -> IngestResult:
    faults = (
        {
            reason: count
            for reason, count in dropped.items()
            if reason not in DROP_REASONS_NOT_SENDER_FAULT
        }
        if dropped
        else NOTHING_DROPPED
    )
    return IngestResult(taken.samples, faults, tuple(examples), taken.histograms, taken.exemplars)
