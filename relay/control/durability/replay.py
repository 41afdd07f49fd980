"""Replays the journal after a crash, for the sinks that had not finished its requests.

Rules:

* No limit that may refuse a request applies here: what was acknowledged has passed them all.
* Records go through the pipeline as live requests do, oldest first, with the positions and times of
  arrival that they had. :mod:`relay.pipeline.batching.unfinished` decides what is still needed.
* Live requests are admitted meanwhile: they are checked, journaled behind the rest and answered,
  and reach the sinks in their turn, so that the points of a series never overtake each other. There
  is one place where they wait in memory: the last instant, when the journal is read up to its end.
* The journal is trimmed while it is replayed, as sinks make progress.
* Replay pauses while more data is in memory than half of what may be: sinks store or send it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import msgspec

from relay.codec.compression import (
    OTLP_ENCODINGS,
    SENDER_ENCODINGS,
    SenderEncoding,
    decompress,
    decompress_as_said,
)
from relay.codec.otlp.batch import OpenBatch
from relay.control.reconcile.reconciler import SinkReconciler
from relay.control.reconcile.sink_entry import SinkKey
from relay.control.time_slicing import Turns
from relay.pipeline.batching.unfinished import ReplayGate, WaitingEntry
from relay.pipeline.contract import IngestRequest, Tenant
from relay.pipeline.metrics.decoders import DECODERS
from relay.pipeline.signal import ProbeResult, ReplayResult, Sealed, Signal
from relay.pipeline.signals import OTLP_PROTOCOLS
from relay.runtime.errors import OverloadedError, WireError
from relay.storage.journal.checkpoint import Checkpoint
from relay.storage.journal.interface import Journal, JournalCursor
from relay.storage.journal.record import Record

_log = logging.getLogger("relay.control.durability")

CROWDED_PAUSE_S = 0.02
ABSENT_NAMED_MAX = 100
"""Absent sinks that are logged in lines of their own."""
JOURNAL_RETRY_AFTER_S = 2
DECODED_BYTES_MAX = 1 << 30
"""The most that ``ingest.maxDecodedBytes`` may be: what was acknowledged under another setting is
decoded all the same."""
GATE_TIMEOUT_S = 5.0
"""The last records are usually read in milliseconds; a disk that hangs must not hang senders."""


class ReplayStatistics(msgspec.Struct, frozen=True):
    """Progress of a replay.

    ``active`` until everything is replayed. ``requests`` were processed again; ``undecodable`` ones
    of these could not be; ``left_bytes`` are still to be read. ``given_up`` requests are in the
    journal, and a sink that does not run had perhaps not finished them.
    """

    active: bool = False
    requests: int = 0
    undecodable: int = 0
    left_bytes: int = 0
    given_up: int = 0


IDLE_REPLAY = ReplayStatistics()


class Replay:
    """The replay of one start.

    ``deliver`` gets the batches that the pipeline sealed; ``crowded`` returns whether memory is
    short; ``tick`` is the pipeline's monotonic clock, s.
    """

    def __init__(
        self,
        signal: Signal,
        reconciler: SinkReconciler,
        journal: Journal,
        checkpoint: Checkpoint,
        *,
        deliver: Callable[[Sealed], None],
        crowded: Callable[[], bool],
        tick: Callable[[], float],
        turns: Turns | None = None,
    ) -> None:
        self._signal = signal
        self._reconciler = reconciler
        self._journal = journal
        self._checkpoint = checkpoint
        self._deliver = deliver
        self._crowded = crowded
        self._tick = tick
        self._turns = turns or Turns()
        self._restored = reconciler.restored_lows()
        known = (*checkpoint.lows.values(), *self._restored.values())
        self._highest_known = max(map(max, known), default=0)
        self._marks = reconciler.marks()
        self._lows: dict[OpenBatch, int] = {}
        self._replay_gate: ReplayGate | None = None
        self._cursor = JournalCursor()
        self._next_position = journal.extent.next_position
        self._gate = asyncio.Event()
        self._gate.set()
        self._requests = 0
        self._undecodable = 0
        self._given_up = 0
        self._log_absent_sinks()
        lows = self.raised(reconciler.low_watermarks(0)).values()
        named = [WaitingEntry(*entry) for entry in checkpoint.waiting]
        floor = min((min(low) for low in lows), default=self._next_position)
        oldest = min(floor, *(entry.first for entry in named), self._next_position)
        # State learned since the last save must be learned again, wanted or not.
        oldest = min(oldest, checkpoint.learned)
        if checkpoint.start is not None:
            oldest = min(oldest, checkpoint.start)
        ceiling = max((max(low) for low in lows), default=0)
        self._start = max(oldest, journal.extent.first_position)
        signal.offsets.advance(min(self._start, self._next_position))
        self.active = self._start < self._next_position
        if self.active:
            self._replay_gate = ReplayGate(
                self._low,
                named,
                floor=floor,
                ceiling=max(ceiling, checkpoint.next),
                unlisted=max(map(max, checkpoint.lows.values()), default=checkpoint.next),
            )
            signal.begin_replay(self._replay_gate)

    async def run(self) -> None:
        """Replay everything; on return the pipeline is at the journal's end."""
        if not self.active:
            return
        _log.info("replaying the journal: %d bytes", self._left_bytes)
        await self._read_to_end()
        # No request is appended from here on, so the end stays where it is until it is reached.
        self._gate.clear()
        try:
            await self._journal.wait_idle()
            await self._read_to_end()
            self._signal.offsets.advance(self._next_position)
            self._deliver(self._signal.end_replay(self._tick()))
            self.active = False
        finally:
            self._gate.set()
        if self._requests:
            _log.info("replayed %d requests", self._requests)

    async def admit(self, request: IngestRequest) -> ProbeResult | None:
        """Journal a live request behind the replayed ones.

        Returns None if the replay ended meanwhile, and the request is to be ingested as usual.
        Raises like :meth:`Signal.ingest`, and OverloadedError if the journal cannot store it.
        """
        while True:
            try:
                async with asyncio.timeout(GATE_TIMEOUT_S):
                    await self._gate.wait()
            except TimeoutError:
                raise _unkept() from None
            if not self.active:
                return None
            probed = await self._turns.run(
                partial(
                    self._signal.dry_run,
                    request.body,
                    now=request.received_at,
                    origin=self._signal.path_of(request.tenant),
                    protocol=request.protocol,
                ),
                _done,
            )
            if self._gate.is_set() and self.active:  # both may have changed in the meantime
                break
        if probed.wanted:
            position = self._next_position
            self._next_position += 1
            if not await self._journal.append(record_of(request, position)):
                raise _unkept()
        return probed

    def raised(self, lows: dict[SinkKey, tuple[int, ...]]) -> dict[SinkKey, tuple[int, ...]]:
        """Raise the low positions of sinks by what they had finished before the start."""
        gate = self._replay_gate
        raised = dict(lows)
        highest = max(self._highest_known, self._checkpoint.next)
        for key, found in lows.items():
            if gate is None and min(found) >= highest:
                continue  # as almost all of ten thousand
            known = self._known(*key, len(found))
            limits = map(gate.low_max, known) if gate is not None else found
            raised[key] = tuple(map(max, map(min, found, limits), known))
        return raised

    def next_of(self, following: int) -> int:
        """Return a checkpoint's ``next``: not before the ceiling until all is collected.

        The next replay would take what is whole only behind it for sets that had left.
        """
        gate = self._replay_gate
        return following if gate is None or gate.crossed else max(following, gate.ceiling)

    def _log_absent_sinks(self) -> None:
        """Log the sinks that do not run and had not finished the requests in the journal.

        Their part cannot be determined without their selectors. Requests after the checkpoint count
        for sinks that it does not name, too.
        """
        running = self._reconciler.low_watermarks(0)
        first = self._journal.extent.first_position
        absent = 0
        for key, lows in self._checkpoint.lows.items():
            requests = self._next_position - max(min(lows), first)
            runs = key in running and self._checkpoint.is_same(key, self._marks.get(key, 0))
            if runs or requests <= 0:
                continue
            absent += 1
            self._given_up = max(self._given_up, requests)
            if absent <= ABSENT_NAMED_MAX:
                _log.warning(
                    "requests in the journal are given up: their sink does not run",
                    extra={"exporter": key[0], "sink": key[1], "requests": requests},
                )
        if absent > ABSENT_NAMED_MAX:
            _log.warning(
                "requests in the journal are given up for more sinks that do not run",
                extra={"sinks": absent - ABSENT_NAMED_MAX, "requests": self._given_up},
            )
        waited = (WaitingEntry(*entry).first for entry in self._checkpoint.waiting)
        requests = self._next_position - max(
            min(self._checkpoint.next, *waited, self._next_position), first
        )
        if not running and requests > 0:
            self._given_up = max(self._given_up, requests)
            _log.warning(
                "the last requests in the journal are given up: no sink runs",
                extra={"requests": requests},
            )

    def statistics(self) -> ReplayStatistics:
        """Return a snapshot."""
        return ReplayStatistics(
            self.active,
            self._requests,
            self._undecodable,
            self._left_bytes if self.active else 0,
            self._given_up,
        )

    async def _read_to_end(self) -> None:
        while True:
            chunk = await self._journal.read(self._cursor, start=self._start)
            for record in chunk.records:
                while self._crowded():  # noqa: ASYNC110 - memory shrinks by many hands
                    await asyncio.sleep(CROWDED_PAUSE_S)
                await self._process(record)
                await asyncio.sleep(0)  # a chunk takes long; senders and sinks want their turn
            self._cursor = chunk.cursor
            if chunk.at_end:
                return

    async def _process(self, record: Record) -> None:
        if record.position < self._signal.offsets.following:
            _log.error("position %d stands in the journal twice; skipped", record.position)
            return
        try:
            request = request_of(record)
            await self._turns.run(
                partial(
                    self._signal.replay,
                    request.body,
                    position=record.position,
                    now=request.received_at,
                    tick=self._tick(),
                    origin=self._signal.path_of(request.tenant),
                    protocol=request.protocol,
                ),
                self._hand_on,
                repeatable=False,  # a position is taken once
            )
        except WireError as error:
            # It was decoded before it was journaled: damaged, or of another revision.
            self._undecodable += 1
            _log.error("position %d cannot be replayed: %s", record.position, error)
            self._signal.offsets.advance(record.position + 1)
            return
        except Exception:
            # One record must not block all behind it.
            self._undecodable += 1
            _log.exception("position %d cannot be replayed: bug in the relay", record.position)
            self._signal.offsets.advance(record.position + 1)
            return
        self._requests += 1

    def _hand_on(self, replayed: ReplayResult) -> None:
        for batch, points in replayed.withheld:
            self._reconciler.discard(batch, points)
        self._deliver(replayed.transaction.sealed)

    def _low(self, batch: OpenBatch) -> int:
        low = self._lows.get(batch)
        if low is None:
            sink = batch.sink
            assert sink is not None
            shards = self._known(sink.exporter_id, sink.sink_id, len(sink.shards))
            low = self._lows[batch] = shards[batch.shard]
        return low

    def _known(self, exporter: str, sink: str, shards: int) -> tuple[int, ...]:
        """Return the position that each shard had reached by its checkpoint or queue."""
        mark = self._marks.get((exporter, sink), 0)
        saved = self._checkpoint.low(exporter, sink, shards=shards, mark=mark)
        restored = self._restored.get((exporter, sink), ())
        if len(restored) != shards:
            return saved
        return _higher(saved, restored)

    @property
    def _left_bytes(self) -> int:
        return self._journal.extent.bytes_from(self._cursor)

    def __repr__(self) -> str:
        state = "active" if self.active else "done"
        return f"<Replay {state}, {self._requests} requests>"


def _done(_probed: ProbeResult) -> None:
    """Do nothing: a dry run seals no batches."""


def _unkept() -> OverloadedError:
    return OverloadedError(
        "the journal is being replayed and cannot keep more", retry_after_s=JOURNAL_RETRY_AFTER_S
    )


def _higher(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(max(pair) for pair in zip(left, right, strict=True))


def record_of(request: IngestRequest, position: int) -> Record:
    """Return the journal's record of a request."""
    tenant = request.tenant
    return Record(
        position,
        request.received_at,
        request.encoding,
        (tenant.account, tenant.project) if tenant is not None else None,
        request.raw,
        request.protocol,
        tenant_by_labels=tenant is not None and tenant.by_labels,
    )


def request_of(record: Record) -> IngestRequest:
    """Return the request of a journal's record. Raises WireError where its body is damaged."""
    is_otlp = record.protocol in OTLP_PROTOCOLS
    assert is_otlp or record.protocol in DECODERS, record.protocol
    tenant = None
    if record.tenant is not None:
        account, project = record.tenant
        tenant = Tenant(account, project, by_labels=record.tenant_by_labels)
    encoding = _encoding(record.encoding)
    decoded = decompress_as_said if is_otlp else decompress
    body = decoded(record.body, encoding, bytes_max=DECODED_BYTES_MAX)
    return IngestRequest(tenant, record.received_at, body, record.body, encoding, record.protocol)


def _encoding(name: str) -> SenderEncoding:
    for one in (*SENDER_ENCODINGS, *OTLP_ENCODINGS):
        if one == name:
            return one
    raise AssertionError(name)
