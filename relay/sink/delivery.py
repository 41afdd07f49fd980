"""Decides what a sink does, without doing it. Pure.

The shell (:mod:`relay.sink.worker`) asks :meth:`DeliveryStateMachine.next_step` what a shard has to
do, does it, and reports the outcome to :meth:`DeliveryStateMachine.on_response`; it spills the
shards that :meth:`DeliveryStateMachine.shards_to_spill` names, and reads the record that a
:class:`Load` names. Rules:

* Every point is counted once, in the ledger, when its request is settled; then, or once it is
  safely on disk, and only then, its hold on its ingest position is released. A request that is cut
  into n pieces takes n - 1 more holds.
* With a disk, requests are spilled beyond :data:`MEMORY_BYTES_MAX` or :data:`MEMORY_AGE_S`.
* A shard sends its requests in order: the head is tried again before the next is taken.
* A shard whose request got no answer waits for its own delay and for the endpoint's circuit. An
  answer to any sink of that endpoint ends both, unless the endpoint asked for the delay itself.
* Refused credentials pause the whole sink, other failures only the shard. A pause counts no
  attempts; only age ends it. While its owner pauses a sink, it takes nothing from its queue.
* The size limit of requests is learned from answers (:mod:`relay.sink.request_size`); larger
  requests are cut before they are sent.
* A request that was refused for a part of its points is halved (:mod:`relay.sink.retry.bisection`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from relay.codec.otlp.batch import SealedBatch
from relay.config.exporter.records.outputs import unit_of
from relay.config.exporter.types import Sink
from relay.sink.interface import Encoder, Encoders
from relay.sink.queue.cursor import QueueCursor
from relay.sink.queue.disk_index import Entry, RecordPlace
from relay.sink.queue.encoding import split_below, split_in_two
from relay.sink.queue.payload import STORED, EncodedRequest
from relay.sink.queue.piece_search import PieceSearch
from relay.sink.queue.queue import SinkQueue
from relay.sink.queue.shard import Item
from relay.sink.queue.shard_waits import ShardWaits, Wait
from relay.sink.reporting.forecast import STALLED_S, Forecaster
from relay.sink.reporting.health import Health, LogLine
from relay.sink.reporting.ledger import SinkLedger
from relay.sink.reporting.outcomes import DeliveryOutcomes
from relay.sink.request_size import RequestSize
from relay.sink.retry.backoff import (
    RETRY_AFTER_S_MAX,
    GiveUp,
    Randomness,
    TryAgain,
    decide,
    next_delay_s,
)
from relay.sink.retry.circuit_breaker import NO_ANSWER, UNCLEAR, Circuit
from relay.sink.retry.credential_pause import CredentialPause
from relay.sink.retry.verdict import (
    Bisect,
    Delivered,
    Rejected,
    Retry,
    Split,
    Unauthorized,
    Verdict,
)
from relay.sink.steps import Load, Now, OffsetHolds, Send, Sleep

REFUSALS_MAX = 4
"""Consecutive 413 answers from which on a sink counts as failing."""

MEMORY_BYTES_MAX = 1024 * 1024
"""Bytes of bodies in memory beyond which they are spilled: two or three requests of the largest
batches, and small enough that ten thousand sinks fit."""
MEMORY_AGE_S = 10.0
"""Time from when its batch was due that a request may wait in memory before it is spilled, s."""
RESHARD_LOOK_S = 1.0
"""Longest wait of a shard for others; it is woken earlier where it can be told."""
LOAD_AGAIN_S = 1.0
"""Delay of a shard after a record could not be read, s."""

_NOTHING = Sleep(None)


class DeliveryStateMachine:
    """One sink's queue, ledger and state; see the module's rules.

    ``log`` takes a line for people; see :mod:`relay.sink.build` for the other parts.
    """

    def __init__(
        self,
        config: Sink,
        *,
        encoders: Encoders,
        queue: SinkQueue,
        circuit: Circuit,
        offsets: OffsetHolds,
        rng: Randomness,
        log: Callable[[LogLine], None],
    ) -> None:
        self._config = config
        self._encoders = encoders
        self._rng = rng
        self._offsets = offsets
        self._log = log
        self._closed = False
        self._pause = CredentialPause()
        self._size = RequestSize()
        self._search = PieceSearch()
        self.bisector = self._search.bisector
        self._stalled = False
        self.circuit = circuit
        self.queue = queue
        self._waits = ShardWaits(self.queue.shards)
        self.ledger = SinkLedger()
        self.restored = self.queue.points
        if self.restored:
            self.ledger.offer(self.restored)
        self.health = Health()
        self.forecaster = Forecaster()
        self.splits = 0
        self.outcomes = DeliveryOutcomes()

    def restore(
        self,
        cursors: Mapping[int, QueueCursor],
        now: Now,
        *,
        resharded: bool,
        missing_points: int = 0,
    ) -> None:
        """Continue the schedule of retries of an earlier process.

        ``resharded``: it had another number of shards. ``missing_points``: of files that are gone.
        """
        if missing_points:
            self.restored += missing_points
            self.ledger.offer(missing_points)
            self.ledger.drop(missing_points, "damaged")
            self._note(self.health.lost("damaged", now.monotonic))
        self.queue.restore_reshards(at for cursor in cursors.values() for at in cursor.reshards)
        if resharded:
            self.queue.reshard(now.wall)
        self.drop(self.queue.shrink(), "queue_full", now)
        self._waits.restore(cursors, self.queue.shards, now)

    def cursors(self, now: Now) -> dict[int, QueueCursor]:
        """Return how far each shard with records on disk has come, for :meth:`restore`."""
        return self._waits.cursors(self.queue.shards, now, reshards=self.queue.reshards)

    def reconfigure(self, config: Sink, encoders: Encoders, circuit: Circuit, now: Now) -> None:
        """Use another configuration for what waits, too, and try it at once."""
        self._config = config
        self._encoders = encoders
        self.circuit = circuit
        self.queue.reconfigure(config.queue, shards=config.endpoint.concurrency, now=now.wall)
        self._waits = ShardWaits(self.queue.shards)
        self.drop(self.queue.shrink(), "queue_full", now)
        self._size.forget()
        self.outcomes.forget_failing()
        self._pause.end()

    @property
    def paused(self) -> str:
        """The reason for which the sink waits for credentials, or ""."""
        return self._pause.reason

    def pause_sending(self, paused: bool) -> None:
        """Stop or continue to send, as the sink's owner wishes."""
        self._config = replace(self._config, paused=paused)

    @property
    def too_large_bytes(self) -> int | None:
        """The smallest request that was answered 413, before compression; None if none was."""
        return self._size.refused_bytes

    @property
    def encoder(self) -> Encoder:
        """The encoder of new batches."""
        return self._encoders.new

    @property
    def shards(self) -> int:
        """Number of shards in use."""
        return self._config.endpoint.concurrency

    def enqueue(self, requests: Sequence[EncodedRequest], now: Now) -> bool:
        """Queue the requests of one batch; return whether any was dropped, the queue being full."""
        is_dropped = False
        self._hold_pieces(requests)
        if self.queue.usage.requests:
            self.expire(now)
        for request in requests:
            if self._closed:
                self._drop(request, "shutdown", now)
                continue
            dropped = self.queue.push(request)
            if dropped:
                is_dropped |= request in dropped
                self.drop(dropped, "queue_full", now)
        return is_dropped

    def fail_encode(self, sealed: SealedBatch) -> None:
        """Drop a batch that is in the ledger and cannot be encoded: a bug."""
        self.ledger.drop(sealed.count, "internal_error")
        self._offsets.release(sealed.oldest)

    def next_step(self, shard: int, now: Now) -> Send | Load | Sleep:
        """Return what a shard has to do now. A request to send is in flight until it is settled."""
        if not self.queue.usage.requests:
            return _NOTHING
        self.expire(now)
        expires_at = self.queue.expires_at(shard)
        if expires_at is None or self._config.paused:
            return _NOTHING
        delay_s = max(self._waits[shard].until, self._pause.until) - now.monotonic
        if not self.circuit.clear:
            delay_s = max(delay_s, self.circuit.delay_s(now.monotonic))
        if self.queue.waits_for_reshard(shard):
            delay_s = max(delay_s, RESHARD_LOOK_S)
        if delay_s > 0:
            return Sleep(min(delay_s, expires_at - now.wall))
        found = self.queue.shards[shard]
        item = found.take()
        assert item is not None, "a shard with an expiry has a head"
        return Load(item) if isinstance(item, Entry) else self._prepare(item, now) or Sleep(0.0)

    def loaded(self, entry: Entry, request: EncodedRequest | None, now: Now) -> Send | None:
        """Continue a :class:`Load` with what was read; None: the record is damaged, and dropped."""
        shard = self.queue.shards[entry.shard]
        if request is None:
            shard.load_failed(lost=True)
            self.drop([entry], "damaged", now)
            return None
        shard.loaded(request)
        return self._prepare(request, now)

    def lose(self, shard: int, segment: int, now: Now) -> None:
        """Drop what waits in a segment whose file is gone."""
        self.drop(self.queue.shards[shard].lose(segment), "damaged", now)

    def load_failed(self, entry: Entry, why: str, now: Now) -> None:
        """Put back a record that could not be read, and try again later."""
        self.queue.shards[entry.shard].load_failed(lost=False)
        self.outcomes.failed(why, now.wall)
        self._note(self.health.failed(why, now.monotonic))
        self._waits[entry.shard] = Wait(now.monotonic + LOAD_AGAIN_S, asked=True)

    def _prepare(self, request: EncodedRequest, now: Now) -> Send | None:
        """Make the request in flight ready to be sent; None where it cannot be, and is dropped."""
        encoder = self._encoders.bodies.get(request.kind)
        if encoder is None:
            # The sink was given another kind, whose endpoints do not take this body.
            self._settle(request)
            self.ledger.drop(request.points, "kind_changed")
            self._note(self.health.lost("kind_changed", now.monotonic))
            return None
        bytes_max = self._size.bytes_max(now.monotonic)
        if bytes_max is not None and request.encoded_bytes > bytes_max:
            pieces = split_below(request, encoder, bytes_max)
            if len(pieces) > 1:
                request = self._take_first(request, pieces)
        if request.part is not None:
            found = self._search.prepare(request, self._encoders)
            if isinstance(found, Rejected):
                self._settle_rejected(request, found, now)
                return None
            if found:
                request = self._take_first(request, found)
        if not self.circuit.clear and self.circuit.open:
            self.circuit.probe(request)
        return Send(request)

    def on_response(self, request: EncodedRequest, verdict: Verdict, now: Now) -> None:
        """Account for the verdict on an attempt."""
        self._tell_circuit(request, verdict, now)
        if self._pause.until and not isinstance(verdict, Unauthorized):
            self._pause.end()
        if isinstance(verdict, Delivered):
            self._settle_delivered(request, verdict, now)
        elif isinstance(verdict, Retry):
            self._settle_retry(request, verdict, now)
        elif isinstance(verdict, Rejected):
            self._settle_rejected(request, verdict, now)
        elif isinstance(verdict, Split):
            self._settle_split(request, verdict, now)
        elif isinstance(verdict, Bisect):
            self._settle_bisect(request, verdict, now)
        else:
            self.queue.shards[request.shard].give_back(request)
            self.outcomes.failed(verdict.message, now.wall, "unauthorized")
            self._note(self.health.paused(verdict.message, now.monotonic))
            backoff_s = self._config.retry.backoff_s
            self._pause.begin(verdict.message, now.monotonic, backoff_s, self._rng)

    def give_back(self, request: EncodedRequest) -> None:
        """Put back a request whose attempt was cancelled, if it is not settled."""
        shard = self.queue.shards[request.shard]
        if shard.in_flight is request:
            self.circuit.abandoned(request)
            shard.give_back(request)

    def resume(self) -> None:
        """End the delays that the endpoint did not ask for: it answers again."""
        self._waits.resume()

    def credentials_changed(self) -> None:
        """End the pause: credentials may have changed."""
        self._pause.end()

    def shards_to_spill(self, now: Now, *, at_once: bool = False) -> list[int]:
        """Return the shards whose requests in memory have to be spilled to disk."""
        if not self.queue.memory_bytes:
            return []
        shards = [shard for shard in self.queue.shards if not shard.spilling]
        if not at_once:
            wait_s = self._config.batch.timeout_s + MEMORY_AGE_S
            full = self.queue.memory_bytes > MEMORY_BYTES_MAX
            shards = [
                shard
                for shard in shards
                if shard.unspilled and (full or shard.unspilled[0].created_at + wait_s <= now.wall)
            ]
        return [shard.number for shard in shards if shard.unspilled or shard.in_flight is not None]

    def spilled(self, shard: int, places: Sequence[RecordPlace]) -> None:
        """Continue after a shard's spill is safely on disk."""
        for position in self.queue.shards[shard].commit_spill(places):
            self._offsets.release(position)

    def watch(self, now: Now) -> None:
        """Update the forecast and log a stall; to be called about once a second."""
        if self._config.paused:
            self.forecaster.excuse(now.monotonic)
        self.forecaster.observe(
            now.monotonic,
            bytes_held=self.queue.bytes,
            bytes_max=self._config.queue.bytes_max,
            moved=self.ledger.delivered + sum(self.ledger.rejected.values()),
        )
        stalled = self.forecaster.stalled_s(now.monotonic) >= STALLED_S
        if stalled and not self._stalled:
            why = self.outcomes.error or "no answer yet"
            self._log(LogLine(f"no progress although data is queued; last: {why}", good=False))
        self._stalled = stalled

    def close(self, now: Now, reason: str = "shutdown", gone: int = 0) -> None:
        """Drop what waits, ``gone`` points that have left the queue, and whatever comes later."""
        self._closed = True
        if gone:
            self.ledger.drop(gone, reason)
            self._note(self.health.lost(reason, now.monotonic))
        self.drop(self.queue.clear(), reason, now)

    def drop(self, items: Sequence[Item], reason: str, now: Now) -> None:
        """Count items that were removed from the queue."""
        for item in items:
            self._drop(item, reason, now)

    def _tell_circuit(self, request: EncodedRequest, verdict: Verdict, now: Now) -> None:
        reason = verdict.reason if isinstance(verdict, Retry) else ""
        if reason in NO_ANSWER:
            self.circuit.failed(request, now.monotonic)
        elif reason in UNCLEAR:
            self.circuit.abandoned(request)
        elif not self.circuit.clear:
            self.circuit.answered(request)

    def _settle_delivered(self, request: EncodedRequest, verdict: Delivered, now: Now) -> None:
        # An endpoint may claim more than was sent: the ledger must balance all the same.
        rejected = min(verdict.rejected, request.points)
        self._settle(request)
        self._size.accepted(request.encoded_bytes)
        others_rejected = self.bisector.delivered(request.bisection, request.points - rejected)
        self.ledger.deliver(request.points - rejected)
        if (wait := self._waits[request.shard]).until:
            wait.end()
        self.outcomes.succeeded(now.wall)
        if not rejected:
            if verdict.message:
                self.outcomes.warned(verdict.message, now.wall)
            lost = self.outcomes.error if others_rejected else ""
            health, tick = self.health, now.monotonic
            self._note(health.delivered_in_part(lost, tick) if lost else health.delivered(tick))
            return
        self.ledger.reject(rejected, verdict.reason)
        count = f"{'at least ' if verdict.at_least else ''}{rejected} of {request.points}"
        why = f"partial success, {count} {unit_of(self._config.name)} rejected: {verdict.message}"
        self.outcomes.rejected(why, now.wall, in_part=True)
        self._note(self.health.delivered_in_part(why, now.monotonic))

    def _settle_retry(self, request: EncodedRequest, verdict: Retry, now: Now) -> None:
        request.attempts += 1
        decision = decide(
            self._config.retry,
            attempts=request.attempts,
            age_left_s=request.created_at + self._config.queue.age_max_s - now.wall,
            rng=self._rng,
            retry_after_s=verdict.after_s,
        )
        is_kept, is_mute = isinstance(decision, TryAgain), verdict.reason in NO_ANSWER
        self.outcomes.retried(verdict.message, now.wall, verdict.reason, is_kept=is_kept)
        # The endpoint's Retry-After holds for the next request, too, if this one is given up.
        delay_s = min(verdict.after_s or 0.0, RETRY_AFTER_S_MAX)
        if isinstance(decision, TryAgain):
            delay_s = decision.delay_s
            self.queue.shards[request.shard].give_back(request)
            self._note(self.health.failed(verdict.message, now.monotonic))
        elif isinstance(decision, GiveUp):
            self._settle(request)
            self.ledger.drop(request.points, decision.reason)
            self._note(self.health.rejected(f"{decision.reason}: {verdict.message}", now.monotonic))
        else:
            self._settle(request)
            self.ledger.expire(request.points)
            self._note(self.health.rejected(f"expired: {verdict.message}", now.monotonic))
        self._waits[request.shard] = Wait(now.monotonic + delay_s, not is_mute)

    def _settle_rejected(self, request: EncodedRequest, verdict: Rejected, now: Now) -> None:
        self._settle(request)
        self.ledger.reject(request.points, verdict.reason)
        others_delivered = self.bisector.rejected(request.bisection, request.points)
        self.outcomes.rejected(verdict.message, now.wall, in_part=others_delivered)
        note = self.health.delivered_in_part if others_delivered else self.health.rejected
        self._note(note(verdict.message, now.monotonic))

    def _settle_split(self, request: EncodedRequest, verdict: Split, now: Now) -> None:
        step = self._size.refused(request.encoded_bytes, now.monotonic, points=request.points)
        encoder = self._encoders.bodies[request.kind]
        halves = split_in_two(request, encoder) if step == "cut" else []
        if halves:
            self.outcomes.warned(f"split: {verdict.message}", now.wall)
            self._size.cut_into(max(piece.encoded_bytes for piece in halves))
            self._replace(request, halves)
        elif step == "wait":
            self.queue.shards[request.shard].give_back(request)
            delay_s = next_delay_s(
                self._size.refusals, backoff_s=self._config.retry.backoff_s, rng=self._rng
            )
            self._waits[request.shard] = Wait(now.monotonic + delay_s, asked=True)
        else:
            self._size.forget()
            self._settle_rejected(request, Rejected("too_large", verdict.message), now)
            return
        if step == "wait" or self._size.refusals >= REFUSALS_MAX:
            why = f"requests of {request.encoded_bytes} bytes are too large: {verdict.message}"
            self.outcomes.failed(why, now.wall)
            self._note(self.health.failed(why, now.monotonic))

    def _settle_bisect(self, request: EncodedRequest, verdict: Bisect, now: Now) -> None:
        why = Rejected(verdict.reason, verdict.message)
        if pieces := self._search.pieces(request, self._encoders, why, now.monotonic):
            self.outcomes.warned(f"halved: {verdict.message}", now.wall)
            self._replace(request, pieces)
        else:
            self._settle_rejected(request, why, now)

    def _take_first(self, request: EncodedRequest, pieces: list[EncodedRequest]) -> EncodedRequest:
        """Put pieces in the place of the request in flight; return the first of them, taken."""
        self._replace(request, pieces)
        return self.queue.shards[request.shard].take_piece()

    def _replace(self, request: EncodedRequest, pieces: list[EncodedRequest]) -> None:
        self._hold_pieces(pieces)
        for piece in pieces:
            piece.bisection = request.bisection
        self.queue.shards[request.shard].replace(request, pieces)
        self.splits += 1

    def _hold_pieces(self, pieces: Sequence[EncodedRequest]) -> None:
        for piece in pieces[1:]:
            if piece.position != STORED:
                self._offsets.hold(piece.position)

    def expire(self, now: Now) -> None:
        """Drop what is older than the queue's age limit."""
        for item in self.queue.expire(now.wall):
            self._release(item)
            self.ledger.expire(item.points)
            self._note(self.health.lost("expired", now.monotonic))

    def _drop(self, item: Item, reason: str, now: Now) -> None:
        self._release(item)
        self.ledger.drop(item.points, reason)
        self._note(self.health.lost(reason, now.monotonic))

    def _settle(self, request: EncodedRequest) -> None:
        shard = self.queue.shards[request.shard]
        shard.settle(request)
        self._release(request)

    def _release(self, item: Item) -> None:
        """Release the ingest position of what was only in memory."""
        if isinstance(item, EncodedRequest) and item.position != STORED:
            self._offsets.release(item.position)

    def _note(self, note: LogLine | None) -> None:
        if note is not None:
            self._log(note)

    def __repr__(self) -> str:
        return f"<DeliveryStateMachine {self._config.name} {self.health.state} {self.queue!r}>"
