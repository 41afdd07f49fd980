"""Everything that a sink decides, without doing any of it.

The shell (:mod:`relay.sink.worker`) asks :meth:`DeliveryStateMachine.next_step` what a lane shall
do, does it, and reports how it went to :meth:`DeliveryStateMachine.on_response`; it saves what
:meth:`DeliveryStateMachine.shards_to_spill` names, and reads what :class:`Load` asks for. Rules:

* Every point that was offered is counted once, in the ledger, when its payload is finished; at that
  moment, or once it is safely on disk, and only then, its hold on its ingest position is released.
  A payload that is cut into n pieces takes n - 1 holds more.
* With a disk, a sink that is *behind* keeps what waits there: beyond :data:`MEMORY_BYTES_MAX` or
  :data:`MEMORY_AGE_S`, and from then on until it has caught up.
* A lane sends its payloads in order: the head is tried again before the next is taken.
* A lane whose request got no answer waits for its own delay and for the endpoint's circuit; that
  the endpoint answers anybody again ends both, unless it asked for the delay itself.
* Refused credentials pause the whole sink, other failures only the lane. A pause counts no
  attempts: only age ends it (design: "try again within maxAge").
* How large requests may be is learned from answers (:mod:`relay.sink.request_size`); larger
  payloads are cut before they are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from relay.codec.otlp.batch import SealedBatch
from relay.config.exporter.types import Sink
from relay.sink.queue.cursor import Cursor
from relay.sink.queue.disk_index import DiskIndex, Entry, Place
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.queue.payload import (
    PROTOCOL_REQUEST_BYTES_MAX,
    STORED,
    EncodedRequest,
    SharedBodyCache,
    make_payloads,
    split_below,
    split_in_two,
)
from relay.sink.queue.queue import Item, SinkQueue
from relay.sink.reporting.forecast import STALLED_S, Forecaster
from relay.sink.reporting.health import Health, LogLine
from relay.sink.reporting.ledger import SinkLedger
from relay.sink.request_size import RequestSize
from relay.sink.retry.backoff import (
    RETRY_AFTER_S_MAX,
    Expire,
    GiveUp,
    Randomness,
    TryAgain,
    decide,
    next_delay_s,
)
from relay.sink.retry.circuit_breaker import NO_ANSWER, UNCLEAR, Circuit
from relay.sink.retry.classify import Delivered, Rejected, Retry, Split, Unauthorized, Verdict
from relay.sink.steps import LastEvent, Load, Now, Send, Sleep

REFUSALS_MAX = 4
"""So many 413 in a row, and a sink is not healthy: it sends next to nothing."""

MEMORY_BYTES_MAX = 1024 * 1024
"""What may wait in memory before a sink counts as behind: two or three requests of the largest
batches, and small enough that ten thousand sinks fit."""
MEMORY_AGE_S = 10.0
"""How long it may wait there, counted from when its batch was due."""
REGROUP_LOOK_S = 1.0
"""A lane that waits for others is woken when they are done; this is for those it is not told of."""
LOAD_AGAIN_S = 1.0
"""How long a lane waits after the disk could not be read."""
QUEUE_PAYLOADS_MIN = 4
"""A full queue holds at least so many payloads: requests are cut smaller for a tiny queue."""


_NOTHING = Sleep(None)


@dataclass(slots=True)
class _Wait:
    """Until when (monotonic clock, s) a lane waits, and whether somebody ``asked`` for it."""

    until: float = 0.0
    asked: bool = False


class DeliveryStateMachine:
    """One sink's queue, ledger and state; see the module's rules."""

    def __init__(
        self,
        config: Sink,
        *,
        rng: Randomness,
        release: Callable[[int], None],
        hold: Callable[[int], None],
        say: Callable[[LogLine], None],
        circuit: Circuit | None = None,
        memory: BufferedBytes | None = None,
        backlogs: Mapping[int, DiskIndex] | None = None,
    ) -> None:
        self._config = config
        self._rng = rng
        self._release = release
        self._hold = hold
        self._say = say
        self._closed = False
        self._pause_until = 0.0
        self._pauses = 0
        self._size = RequestSize()
        self._stalled = False
        self.circuit = circuit or Circuit(rng)
        self.queue = SinkQueue(
            config.queue, shards=config.otlp.concurrency, memory=memory, backlogs=backlogs
        )
        self._waits = [_Wait() for _ in self.queue.shards]
        self.ledger = SinkLedger()
        self.restored = self.queue.statistics().points
        if self.restored:
            self.ledger.offer(self.restored)
        self.health = Health()
        self.forecaster = Forecaster()
        self.paused = ""
        self.splits = 0
        self.last_success_at: float | None = None
        self.last_error: LastEvent | None = None
        self.last_warning: LastEvent | None = None

    def restore(
        self,
        cursors: Mapping[int, Cursor],
        now: Now,
        *,
        regrouped: bool,
        missing_points: int = 0,
    ) -> None:
        """Go on with the schedule of retries where an earlier process left it. ``regrouped``: it
        had another number of lanes. ``missing_points`` are those whose files are gone."""
        if missing_points:
            self.restored += missing_points
            self.ledger.offer(missing_points)
            self.ledger.drop(missing_points, "damaged")
            self._note(self.health.lost("damaged", now.monotonic))
        if regrouped:
            self.queue.reshard(now.wall)
        self.drop(self.queue.shrink(), "queue_full", now)
        for shard, cursor in cursors.items():
            if shard < len(self._waits) and self.queue.shards[shard].backlog.entries:
                self.queue.shards[shard].attempts = cursor.attempts
                left_s = min(cursor.resumes_at - now.wall, RETRY_AFTER_S_MAX)
                self._waits[shard].until = now.monotonic + max(0.0, left_s)
                self._waits[shard].asked = True  # by whom was not written down

    def cursors(self, now: Now) -> dict[int, Cursor]:
        """How far each lane with a backlog has come, for :meth:`restore`."""
        found: dict[int, Cursor] = {}
        for shard, wait in zip(self.queue.shards, self._waits, strict=True):
            oldest = shard.backlog.oldest
            if oldest is not None:
                left_s = wait.until - now.monotonic
                resumes_at = round(now.wall + left_s, 1) if left_s > 0 else 0.0
                found[shard.number] = Cursor(
                    *oldest, shard.attempts, resumes_at, shard.backlog.held
                )
        return found

    def reconfigure(self, config: Sink, circuit: Circuit, now: Now) -> None:
        """Go on with another configuration: what waits goes with it, and is tried at once."""
        self._config = config
        self.circuit = circuit
        self.queue.reconfigure(config.queue, shards=config.otlp.concurrency, now=now.wall)
        self._waits = [_Wait() for _ in self.queue.shards]
        self.drop(self.queue.shrink(), "queue_full", now)
        self._size.forget()
        self._resume()

    @property
    def too_large_bytes(self) -> int | None:
        """The smallest request that was answered 413, before compression; None if none was."""
        return self._size.refused_bytes

    @property
    def shards(self) -> int:
        """How many lanes are fed."""
        return self._config.otlp.concurrency

    def offer(self, sealed: SealedBatch, shard: int, now: Now) -> None:
        """Take over a batch and its hold on its position."""
        self.ledger.offer(sealed.count)
        self.push(self.pack(sealed, shard, SharedBodyCache()), now)

    def pack(
        self, sealed: SealedBatch, shard: int, bodies: SharedBodyCache
    ) -> list[EncodedRequest]:
        """A batch that is in the ledger, encoded and compressed."""
        otlp = self._config.otlp
        return make_payloads(
            sealed,
            shard=shard,
            encoding=otlp.compression,
            bytes_max=min(
                otlp.request_bytes_max or PROTOCOL_REQUEST_BYTES_MAX,
                PROTOCOL_REQUEST_BYTES_MAX,
                # A payload that fills the queue alone would leave no choice but to drop it.
                self._config.queue.bytes_max // QUEUE_PAYLOADS_MIN,
            ),
            bodies=bodies,
        )

    def push(self, payloads: Sequence[EncodedRequest], now: Now) -> bool:
        """Queue what was packed; whether any of that was dropped, because the queue is full."""
        is_dropped = False
        self._hold_pieces(payloads)
        if not self.queue.empty:
            self.expire(now)
        for payload in payloads:
            if self._closed:
                self._drop(payload, "shutdown", now)
                continue
            dropped = self.queue.push(payload)
            is_dropped |= payload in dropped
            self.drop(dropped, "queue_full", now)
        return is_dropped

    def fail_encode(self, sealed: SealedBatch) -> None:
        """Give up a batch that is in the ledger and cannot be packed: a bug."""
        self.ledger.drop(sealed.count, "internal_error")
        self._release(sealed.oldest)

    def next_step(self, shard: int, now: Now) -> Send | Load | Sleep:
        """What the lane shall do now. A payload to send is in flight until it is settled."""
        if self.queue.empty:
            return _NOTHING
        self.expire(now)
        expires_at = self.queue.expires_at(shard)
        if expires_at is None:
            return Sleep(None)
        delay_s = max(self._waits[shard].until, self._pause_until) - now.monotonic
        delay_s = max(delay_s, self.circuit.delay_s(now.monotonic))
        if self.queue.waits_for_reshard(shard):
            delay_s = max(delay_s, REGROUP_LOOK_S)
        if delay_s > 0:
            return Sleep(min(delay_s, expires_at - now.wall))
        item = self.queue.take(shard)
        assert item is not None, "a lane with an expiry has a head"
        return Load(item) if isinstance(item, Entry) else self._prepare(item, now)

    def loaded(self, entry: Entry, payload: EncodedRequest | None, now: Now) -> Send | None:
        """What was read for a :class:`Load`; None: it is damaged, and given up."""
        if payload is None:
            self.queue.not_loaded(entry, lost=True)
            self.drop([entry], "damaged", now)
            return None
        self.queue.loaded(payload)
        return self._prepare(payload, now)

    def lose(self, shard: int, number: int, now: Now) -> None:
        """A segment of a lane was taken away, with what waits in it."""
        self.drop(self.queue.lose(shard, number), "damaged", now)

    def load_failed(self, entry: Entry, why: str, now: Now) -> None:
        """It could not be read; it is tried again."""
        self.queue.not_loaded(entry, lost=False)
        self.last_error = LastEvent(why, now.wall)
        self._note(self.health.failed(why, now.monotonic))
        self._waits[entry.shard] = _Wait(now.monotonic + LOAD_AGAIN_S, asked=True)

    def _prepare(self, payload: EncodedRequest, now: Now) -> Send:
        bytes_max = self._size.bytes_max(now.monotonic)
        if bytes_max is not None and payload.encoded_bytes > bytes_max:
            pieces = split_below(payload, bytes_max)
            if len(pieces) > 1:
                self._replace(payload, pieces)
                first = self.queue.take(payload.shard)
                assert isinstance(first, EncodedRequest), "the pieces are in the lane"
                payload = first
        self.circuit.begin(payload)
        return Send(payload)

    def on_response(self, payload: EncodedRequest, verdict: Verdict, now: Now) -> None:
        """Account for an attempt's verdict."""
        self._tell_circuit(payload, verdict, now)
        if not isinstance(verdict, Unauthorized):
            self._resume()
        match verdict:
            case Delivered():
                self._settle_delivered(payload, verdict, now)
            case Retry():
                self._settle_retry(payload, verdict, now)
            case Rejected():
                self._settle_rejected(payload, verdict, now)
            case Split():
                self._settle_split(payload, verdict, now)
            case Unauthorized():
                self.queue.give_back(payload)
                self._pause(verdict.message, now)

    def give_back(self, payload: EncodedRequest) -> None:
        """Return a payload whose attempt was cancelled, if it is not settled."""
        if self.queue.is_in_flight(payload):
            self.circuit.abandoned(payload)
            self.queue.give_back(payload)

    def resume(self) -> None:
        """The endpoint answers again: go on at once where it did not ask for patience itself."""
        for wait in self._waits:
            if not wait.asked:
                wait.until = 0.0

    def credentials_changed(self) -> None:
        """Try again at once where the sink is paused."""
        self._resume()

    def shards_to_spill(self, now: Now, *, at_once: bool = False) -> list[int]:
        """The lanes whose payloads in memory have to be saved to disk."""
        if not self.queue.memory_bytes:
            return []
        shards = [shard for shard in self.queue.shards if not shard.saving]
        if not at_once:
            wait_s = self._config.batch.timeout_s + MEMORY_AGE_S
            full = self.queue.memory_bytes > MEMORY_BYTES_MAX
            shards = [
                shard
                for shard in shards
                if shard.unsaved and (full or shard.unsaved[0].created_at + wait_s <= now.wall)
            ]
        return [shard.number for shard in shards if shard.unsaved or shard.flying is not None]

    def saved(self, shard: int, places: Sequence[Place]) -> None:
        """A lane's save is safely on disk."""
        for position in self.queue.commit_save(shard, places):
            self._release(position)

    def watch(self, now: Now) -> None:
        """Look whether the queue fills up or stands still; call it about once a second."""
        ledger = self.ledger
        self.forecaster.observe(
            now.monotonic,
            bytes_held=self.queue.bytes,
            bytes_max=self._config.queue.bytes_max,
            moved=ledger.delivered + sum(ledger.rejected.values()),
        )
        stalled = self.forecaster.stalled_s(now.monotonic) >= STALLED_S
        if stalled and not self._stalled:
            why = self.last_error.text if self.last_error else "no answer yet"
            self._say(LogLine(f"data waits and nothing moves; last: {why}", good=False))
        self._stalled = stalled

    def close(self, now: Now, reason: str = "shutdown") -> None:
        """Drop what waits, and whatever is offered from now on."""
        self._closed = True
        self.drop(self.queue.clear(), reason, now)

    def drop(self, items: Sequence[Item], reason: str, now: Now) -> None:
        """Count what is out of the queue already."""
        for item in items:
            self._drop(item, reason, now)

    def _tell_circuit(self, payload: EncodedRequest, verdict: Verdict, now: Now) -> None:
        reason = verdict.reason if isinstance(verdict, Retry) else ""
        if reason in NO_ANSWER:
            self.circuit.failed(payload, now.monotonic)
        elif reason in UNCLEAR:
            self.circuit.abandoned(payload)
        else:
            self.circuit.answered(payload)

    def _settle_delivered(self, payload: EncodedRequest, verdict: Delivered, now: Now) -> None:
        # A count beyond what was sent is nonsense, and must not unbalance the ledger.
        rejected = min(verdict.rejected, payload.points)
        self._finish(payload)
        self._size.accepted(payload.encoded_bytes)
        self.ledger.deliver(payload.points - rejected)
        self._waits[payload.shard] = _Wait()
        self.last_success_at = now.wall
        if not rejected:
            if verdict.message:
                self.last_warning = LastEvent(verdict.message, now.wall)
            self._note(self.health.delivered(now.monotonic))
            return
        self.ledger.reject(rejected, "partial_success")
        why = f"partial success, {rejected} of {payload.points} points rejected: {verdict.message}"
        self.last_error = LastEvent(why, now.wall)
        self._note(self.health.delivered_in_part(why, now.monotonic))

    def _settle_retry(self, payload: EncodedRequest, verdict: Retry, now: Now) -> None:
        self.last_error = LastEvent(verdict.message, now.wall)
        payload.attempts += 1
        decision = decide(
            self._config.retry,
            attempts=payload.attempts,
            age_left_s=payload.created_at + self._config.queue.age_max_s - now.wall,
            rng=self._rng,
            retry_after_s=verdict.after_s,
        )
        # Whatever becomes of this payload: the endpoint's own wish holds for the next one, too.
        delay_s = min(verdict.after_s or 0.0, RETRY_AFTER_S_MAX)
        match decision:
            case TryAgain():
                delay_s = decision.delay_s
                self.queue.give_back(payload)
                self._note(self.health.failed(verdict.message, now.monotonic))
            case GiveUp():
                self._finish(payload)
                self.ledger.drop(payload.points, decision.reason)
                why = f"{decision.reason}: {verdict.message}"
                self._note(self.health.rejected(why, now.monotonic))
            case Expire():
                self._finish(payload)
                self.ledger.expire(payload.points)
                self._note(self.health.rejected(f"expired: {verdict.message}", now.monotonic))
        self._waits[payload.shard] = _Wait(now.monotonic + delay_s, verdict.reason not in NO_ANSWER)

    def _settle_rejected(self, payload: EncodedRequest, verdict: Rejected, now: Now) -> None:
        self._finish(payload)
        self.ledger.reject(payload.points, verdict.reason)
        self.last_error = LastEvent(verdict.message, now.wall)
        self._note(self.health.rejected(verdict.message, now.monotonic))

    def _settle_split(self, payload: EncodedRequest, verdict: Split, now: Now) -> None:
        step = self._size.refused(payload.encoded_bytes, now.monotonic, points=payload.points)
        halves = split_in_two(payload) if step == "cut" else []
        if halves:
            self.last_warning = LastEvent(f"split: {verdict.message}", now.wall)
            self._size.cut_into(max(piece.encoded_bytes for piece in halves))
            self._replace(payload, halves)
        elif step == "wait":
            self.queue.give_back(payload)
            delay_s = next_delay_s(
                self._size.refusals, backoff_s=self._config.retry.backoff_s, rng=self._rng
            )
            self._waits[payload.shard] = _Wait(now.monotonic + delay_s, asked=True)
        else:
            self._size.forget()
            self._settle_rejected(payload, Rejected("too_large", verdict.message), now)
            return
        if step == "wait" or self._size.refusals >= REFUSALS_MAX:
            why = f"requests of {payload.encoded_bytes} bytes are too large: {verdict.message}"
            self.last_error = LastEvent(why, now.wall)
            self._note(self.health.failed(why, now.monotonic))

    def _replace(self, payload: EncodedRequest, pieces: list[EncodedRequest]) -> None:
        self._hold_pieces(pieces)
        self.queue.replace(payload, pieces)
        self.splits += 1

    def _hold_pieces(self, pieces: Sequence[EncodedRequest]) -> None:
        for piece in pieces[1:]:
            if piece.position != STORED:
                self._hold(piece.position)

    def _pause(self, why: str, now: Now) -> None:
        self.paused = why
        self.last_error = LastEvent(why, now.wall)
        self._note(self.health.paused(why, now.monotonic))
        if now.monotonic < self._pause_until:
            return  # another lane's request was under way when the sink paused
        self._pauses += 1
        self._pause_until = now.monotonic + next_delay_s(
            self._pauses, backoff_s=self._config.retry.backoff_s, rng=self._rng
        )

    def _resume(self) -> None:
        self.paused = ""
        self._pauses = 0
        self._pause_until = 0.0

    def expire(self, now: Now) -> None:
        """Give up what has grown too old."""
        for item in self.queue.expire(now.wall):
            self._let_go(item)
            self.ledger.expire(item.points)
            self._note(self.health.lost("expired", now.monotonic))

    def _drop(self, item: Item, reason: str, now: Now) -> None:
        self._let_go(item)
        self.ledger.drop(item.points, reason)
        self._note(self.health.lost(reason, now.monotonic))

    def _finish(self, payload: EncodedRequest) -> None:
        self.queue.finish(payload)
        self._let_go(payload)

    def _let_go(self, item: Item) -> None:
        """Release the position of what is only in memory."""
        if isinstance(item, EncodedRequest) and item.position != STORED:
            self._release(item.position)

    def _note(self, note: LogLine | None) -> None:
        if note is not None:
            self._say(note)

    def __repr__(self) -> str:
        return f"<DeliveryStateMachine {self._config.name} {self.health.state} {self.queue!r}>"
